//! The client that reaches public addresses only.
//!
//! A name is resolved once, by us; its addresses are checked, and the connection is made to those same addresses, so a name
//! that says something else the next time gains nothing. An address written in the URL never reaches the resolver and is
//! checked where the URL is. No proxy of the server's environment is used: it would dial what was not checked.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use reqwest::{
    dns::{Addrs, Name, Resolve, Resolving},
    redirect,
};
use url::{Host, Url};

use super::address::{self, Allowed};

const MAX_URL_CHARS: usize = 2000;
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// Fetches from public addresses. Cheap to clone; one for the process.
#[derive(Debug, Clone)]
pub struct Client {
    pub(super) http: reqwest::Client,
    gate: Gate,
}

/// Says which addresses may be dialled.
#[derive(Debug, Clone)]
struct Gate {
    allowed: Arc<[Allowed]>,
}

impl Client {
    /// `allowed` names networks that may be reached although they are not public: the operator's own.
    ///
    /// # Errors
    /// When the TLS library cannot be set up.
    pub fn new(allowed: Vec<Allowed>) -> Result<Self, reqwest::Error> {
        let gate = Gate { allowed: allowed.into() };
        let http = reqwest::Client::builder()
            .dns_resolver(Arc::new(gate.clone()))
            .no_proxy()
            .redirect(redirect::Policy::none())
            .connect_timeout(CONNECT_LIMIT)
            .read_timeout(super::fetch::TIME_LIMIT)
            .pool_max_idle_per_host(2)
            .pool_idle_timeout(Duration::from_secs(30))
            .user_agent(concat!("atelier/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(Self { http, gate })
    }

    /// Checks the address that a URL names directly; a name is checked when it is resolved.
    pub(super) fn check(&self, url: &Url) -> Result<(), String> {
        let address = match url.host() {
            Some(Host::Ipv4(address)) => IpAddr::V4(address),
            Some(Host::Ipv6(address)) => IpAddr::V6(address),
            Some(Host::Domain(_)) => return Ok(()),
            None => return Err(format!("{url} names no host.")),
        };
        if self.gate.lets(address) { Ok(()) } else { Err(refusal(url.host_str().unwrap_or_default())) }
    }
}

impl Gate {
    fn lets(&self, address: IpAddr) -> bool {
        address::is_public(address) || self.allowed.iter().any(|network| network.holds(address))
    }
}

impl Resolve for Gate {
    fn resolve(&self, name: Name) -> Resolving {
        let gate = self.clone();
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            // One private address among public ones is reason enough: it is how such a trick looks.
            if found.iter().any(|address| !gate.lets(address.ip())) {
                return Err(Refused(refusal(name.as_str())).into());
            }
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

/// The address is not public. Found again at the end of the chain of the HTTP client's error.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Refused(String);

fn refusal(host: &str) -> String {
    format!(
        "{host} is not on the public internet: WebFetch reaches no private or local addresses. A server in the computer \
         is reached with curl in Bash."
    )
}

/// Reads a URL as the model wrote it, made https where it can be.
pub(super) fn parse(text: &str) -> Result<Url, String> {
    let text = text.trim();
    if text.chars().count() > MAX_URL_CHARS {
        return Err(format!("url is longer than {MAX_URL_CHARS} characters."));
    }
    let mut url = Url::parse(text).map_err(|err| {
        format!("url is not valid ({err}). It must be a whole address such as https://example.com/page.")
    })?;
    check_form(&url)?;
    // A port or a bare address says that somebody means exactly this.
    if url.scheme() == "http" && url.port().is_none() && matches!(url.host(), Some(Host::Domain(_))) {
        url.set_scheme("https").map_err(|()| format!("{url} cannot be made https."))?;
    }
    url.set_fragment(None);
    Ok(url)
}

/// Checks what must hold for a redirect's target too.
pub(super) fn check_form(url: &Url) -> Result<(), String> {
    if !matches!(url.scheme(), "http" | "https") {
        return Err(format!("url must begin with http:// or https://, not {}:.", url.scheme()));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("url holds a user name or password, which WebFetch does not send.".to_owned());
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err("url names no host.".to_owned());
    }
    Ok(())
}
