//! The client that reaches public addresses only.
//!
//! A name is resolved once, by us; its addresses are checked, and the connection is made to those same addresses, so a name
//! that says something else the next time gains nothing. An address written in the URL never reaches the resolver and is
//! checked where the URL is. No proxy of the server's environment is used: it would dial what was not checked.

use std::{
    error::Error as StdError,
    ffi::OsString,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use domain::address::{self, Network};
use nix::ifaddrs::getifaddrs;
use reqwest::{
    dns::{Addrs, Name, Resolve, Resolving},
    redirect,
};
use url::{Host, Url};

use super::pdf;

const MAX_URL_CHARS: usize = 2000;
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// Fetches from public addresses. Cheap to clone; one for the process.
#[derive(Debug, Clone)]
pub struct Client {
    pub(super) http: reqwest::Client,
    pub(super) pdf: Option<pdf::Reader>,
    gate: Gate,
    /// For MCP servers: it waits longer and may reach more.
    servers: reqwest::Client,
    servers_gate: Gate,
}

/// Says which addresses may be dialled.
#[derive(Debug, Clone)]
struct Gate {
    allowed: Arc<[Network]>,
    /// What is said of others.
    refusal: fn(&str) -> String,
}

impl Client {
    /// `allowed` names networks that may be reached although they are not public: the operator's own.
    ///
    /// # Errors
    /// When the TLS library cannot be set up.
    pub fn new(allowed: Vec<Network>) -> Result<Self, reqwest::Error> {
        let gate = Gate { allowed: allowed.into(), refusal };
        let servers_gate = Gate { refusal: refusal_of_server, ..gate.clone() };
        let http = builder(gate.clone()).read_timeout(super::fetch::TIME_LIMIT).build()?;
        let servers = builder(servers_gate.clone()).build()?;
        Ok(Self { http, pdf: None, gate, servers, servers_gate })
    }

    /// With a program, and its arguments, that turns a PDF file into text (see [`pdf`]). Without, none are read.
    #[must_use]
    pub fn with_pdf_reader(mut self, command: Vec<OsString>) -> Self {
        self.pdf = Some(pdf::Reader::new(command));
        self
    }

    /// Lets MCP servers be reached in more networks than pages are.
    pub(crate) fn reaching(mut self, allowed: &[Network]) -> Self {
        if !allowed.is_empty() {
            let gate = Gate {
                allowed: self.gate.allowed.iter().chain(allowed).copied().collect(),
                refusal: refusal_of_server,
            };
            match builder(gate.clone()).build() {
                Ok(servers) => (self.servers, self.servers_gate) = (servers, gate),
                Err(err) => {
                    tracing::error!(error = &err as &dyn StdError, "MCP servers on private networks cannot be reached")
                }
            }
        }
        self
    }

    /// Gives the client for webhooks, which are sent to more networks than pages come from.
    ///
    /// # Errors
    /// When the TLS library cannot be set up.
    pub(crate) fn for_webhooks(&self, allowed: &[Network]) -> Result<Guarded, reqwest::Error> {
        let gate =
            Gate { allowed: self.gate.allowed.iter().chain(allowed).copied().collect(), refusal: refusal_of_webhook };
        Ok(Guarded { http: builder(gate.clone()).build()?, gate })
    }

    /// Gives the client for MCP servers: their streams may be silent for long.
    pub(crate) fn servers(&self) -> reqwest::Client {
        self.servers.clone()
    }

    /// Checks the address of an MCP server, as [`check`](Self::check) does that of a page.
    pub(crate) fn check_server(&self, url: &Url) -> Result<(), String> {
        if !matches!(url.scheme(), "http" | "https") {
            return Err(format!("its url begins with {}:, not with http: or https:", url.scheme()));
        }
        self.servers_gate.check(url)
    }

    /// Checks the address that a URL names directly; a name is checked when it is resolved.
    pub(super) fn check(&self, url: &Url) -> Result<(), String> {
        self.gate.check(url)
    }
}

/// A client with a gate of its own.
pub(crate) struct Guarded {
    http: reqwest::Client,
    gate: Gate,
}

impl Guarded {
    /// Checks the address that a URL names directly; a name is checked when it is resolved.
    pub(crate) fn check(&self, url: &Url) -> Result<(), String> {
        self.gate.check(url)
    }

    pub(crate) fn http(&self) -> &reqwest::Client {
        &self.http
    }
}

/// What all requests have in common, whatever they are for.
fn builder(names: impl Resolve + 'static) -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .dns_resolver(Arc::new(names))
        .no_proxy()
        .redirect(redirect::Policy::none())
        .connect_timeout(CONNECT_LIMIT)
        .pool_max_idle_per_host(2)
        .pool_idle_timeout(Duration::from_secs(30))
        .user_agent(concat!("atelier/", env!("CARGO_PKG_VERSION")))
}

impl Gate {
    fn check(&self, url: &Url) -> Result<(), String> {
        let address = match url.host() {
            Some(Host::Ipv4(address)) => IpAddr::V4(address),
            Some(Host::Ipv6(address)) => IpAddr::V6(address),
            Some(Host::Domain(_)) => return Ok(()),
            None => return Err(format!("{url} names no host.")),
        };
        if self.lets(address) { Ok(()) } else { Err((self.refusal)(url.host_str().unwrap_or_default())) }
    }

    /// Gives what a name stands for as the addresses to dial, and no others are.
    fn admit(&self, name: &Name, found: Vec<SocketAddr>) -> Result<Addrs, Refused> {
        // One private address among public ones is reason enough: it is how such a trick looks.
        if found.iter().any(|address| !self.lets(address.ip())) {
            return Err(Refused((self.refusal)(name.as_str())));
        }
        Ok(Box::new(found.into_iter()))
    }

    fn lets(&self, address: IpAddr) -> bool {
        let is_allowed = self.allowed.iter().any(|network| network.holds(address));
        is_allowed || (address::is_public(address) && !is_own(address))
    }
}

impl Resolve for Gate {
    fn resolve(&self, name: Name) -> Resolving {
        let gate = self.clone();
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            Ok(gate.admit(&name, found)?)
        })
    }
}

/// Tells whether an address is one of this host's interfaces: what listens there need not be meant for everybody, and a
/// container cannot reach it either. Asked each time, as addresses come and go.
fn is_own(address: IpAddr) -> bool {
    let Ok(interfaces) = getifaddrs() else {
        tracing::warn!("cannot list this host's addresses");
        return true;
    };
    interfaces.filter_map(|interface| interface.address).any(|own| {
        let v4 = own.as_sockaddr_in().map(|own| IpAddr::V4(own.ip()));
        let v6 = own.as_sockaddr_in6().map(|own| IpAddr::V6(own.ip()));
        v4.or(v6) == Some(address)
    })
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

fn refusal_of_server(host: &str) -> String {
    format!("{host} is not on the public internet, and in none of the networks that the operator names for MCP servers")
}

fn refusal_of_webhook(host: &str) -> String {
    format!("{host} is not on the public internet, and in none of the networks that the operator names for webhooks")
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

#[cfg(test)]
mod rebinding;

#[cfg(test)]
mod tests {
    use super::*;

    fn host_addresses() -> Vec<IpAddr> {
        // Sends nothing; tells which address the host would use.
        let own = std::net::UdpSocket::bind("0.0.0.0:0").and_then(|socket| {
            socket.connect("1.1.1.1:80")?;
            socket.local_addr()
        });
        own.map(|own| own.ip()).into_iter().chain(["127.0.0.1".parse().unwrap()]).collect()
    }

    #[test]
    fn the_addresses_of_this_host_are_its_own() {
        for address in host_addresses() {
            assert!(is_own(address), "{address}");
        }
        assert!(!is_own("1.1.1.1".parse().unwrap()) && !is_own("2606:4700::1111".parse().unwrap()));
    }

    #[test]
    fn only_what_the_operator_names_is_reached_beside_the_internet() {
        let gate = |allowed: &[&str]| Gate {
            allowed: allowed.iter().map(|network| network.parse().unwrap()).collect(),
            refusal,
        };
        assert!(gate(&[]).lets("1.1.1.1".parse().unwrap()));
        for address in host_addresses() {
            assert!(!gate(&[]).lets(address) && gate(&["0.0.0.0/0"]).lets(address), "{address}");
        }
    }
}
