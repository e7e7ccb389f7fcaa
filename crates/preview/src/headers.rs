//! What is changed in the head of a request on its way in, and of an answer on its way out.

use std::net::IpAddr;

use domain::preview::Preview;
use hyper::{
    HeaderMap,
    header::{
        self, AUTHORIZATION, CONNECTION, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, COOKIE, Entry, HOST, HeaderName,
        HeaderValue, LOCATION, ORIGIN, REFERER, SET_COOKIE, UPGRADE,
    },
};
use url::{Host, Url};

use crate::{
    knock::{COOKIE_NAME, Knock, Way},
    site::{Site, tool_prefix},
};

/// What holds for one connection, and not for the next one behind it (RFC 9110, 7.6.1).
const HOP_BY_HOP: [HeaderName; 8] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    UPGRADE,
];

/// What API keys begin with. What listens may have keys of its own, in the same headers.
const OUR_KEYS: &str = "tb_";
const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// The only protocol that a connection may be changed to.
const WEBSOCKET: &str = "websocket";

/// What the two sides call the place that both mean.
#[derive(Debug)]
pub(crate) struct Names {
    scheme: &'static str,
    /// The host and port that the client uses.
    outside: String,
    /// The host and port that what listens is told.
    inside: String,
    /// What the client's paths begin with and those inside do not.
    prefix: String,
    port: u16,
}

impl Names {
    pub(crate) fn new(site: &Site, preview: &Preview, knock: &Knock) -> Self {
        let is_local = preview.rewrites_host || knock.way == Way::Path;
        let prefix = match knock.way {
            Way::Path => tool_prefix(&knock.preview, &knock.token),
            Way::Link | Way::Cookie => String::new(),
        };
        Self {
            scheme: site.scheme(),
            outside: knock.authority.clone(),
            inside: if is_local { format!("localhost:{}", preview.port) } else { knock.authority.clone() },
            prefix,
            port: preview.port,
        }
    }

    fn is_renamed(&self) -> bool {
        self.inside != self.outside
    }

    /// Gives an address of the client's as it is inside; `None` for one of another place.
    fn inward(&self, address: &str) -> Option<String> {
        let rest = address.strip_prefix(self.scheme)?.strip_prefix("://")?.strip_prefix(&self.outside)?;
        let rest = rest.strip_prefix(&self.prefix)?;
        (rest.is_empty() || rest.starts_with('/')).then(|| format!("http://{}{rest}", self.inside))
    }

    /// Gives a place that what listens sends a client to as the client reaches it; `None` where it is right already.
    fn outward(&self, location: &str) -> Option<String> {
        if location.starts_with('/') && !location.starts_with("//") {
            return (!self.prefix.is_empty()).then(|| format!("{}{location}", self.prefix));
        }
        let url = Url::parse(location).ok()?;
        let is_here = match url.host()? {
            Host::Domain(name) => name == "localhost",
            Host::Ipv4(address) => address.is_loopback() || address.is_unspecified(),
            Host::Ipv6(address) => address.is_loopback() || address.is_unspecified(),
        };
        if url.scheme() != "http" || !is_here || url.port_or_known_default() != Some(self.port) {
            return None;
        }
        let rest = &url[url::Position::BeforePath..];
        Some(format!("{}://{}{}{rest}", self.scheme, self.outside, self.prefix))
    }
}

/// Tells whether a request asks to become a WebSocket.
pub(crate) fn asks_for_websocket(headers: &HeaderMap) -> bool {
    let named = |name, word: &str| {
        let values = headers.get_all(name).iter().filter_map(|value: &HeaderValue| value.to_str().ok());
        values.flat_map(|value| value.split(',')).any(|part| part.trim().eq_ignore_ascii_case(word))
    };
    named(CONNECTION, "upgrade") && named(UPGRADE, WEBSOCKET)
}

/// Says that the connection becomes a WebSocket.
pub(crate) fn say_websocket(headers: &mut HeaderMap) {
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static(WEBSOCKET));
}

/// Makes a client's headers those of the request inside. `is_proxied` says that what comes has been forwarded before.
pub(crate) fn inward(headers: &mut HeaderMap, names: &Names, client: IpAddr, is_proxied: bool) {
    drop_hop_by_hop(headers);
    // A wrong one would let two requests pass for one.
    headers.remove(CONTENT_LENGTH);
    headers.remove(header::EXPECT);
    drop_our_cookie(headers);
    for name in [AUTHORIZATION, X_API_KEY] {
        let is_ours = |value: &HeaderValue| {
            let text = value.to_str().unwrap_or_default();
            text.rsplit(' ').next().is_some_and(|key| key.starts_with(OUR_KEYS))
        };
        if headers.get_all(&name).iter().any(is_ours) {
            headers.remove(name);
        }
    }
    let forwarded = headers.get(&FORWARDED_FOR).filter(|_| is_proxied).and_then(|before| before.to_str().ok());
    let forwarded = forwarded.map_or(client.to_string(), |before| format!("{before}, {client}"));
    set(headers, FORWARDED_FOR, &forwarded);
    headers.remove(header::FORWARDED);
    set(headers, HOST, &names.inside);
    if !names.is_renamed() {
        set(headers, FORWARDED_HOST, &names.outside);
        set(headers, FORWARDED_PROTO, names.scheme);
        return;
    }
    // Who is told another name is told it everywhere, or it takes its own pages for another site's.
    headers.remove(FORWARDED_HOST);
    headers.remove(FORWARDED_PROTO);
    for name in [ORIGIN, REFERER] {
        let Some(address) = headers.get(&name).and_then(|address| address.to_str().ok()) else { continue };
        match names.inward(address) {
            Some(address) => set(headers, name, &address),
            // It would hold the token.
            None if !names.prefix.is_empty() && address.contains(&names.prefix) => drop(headers.remove(name)),
            None => {}
        }
    }
}

/// Makes the headers of an answer from inside those that the client gets.
pub(crate) fn outward(headers: &mut HeaderMap, names: &Names) {
    drop_hop_by_hop(headers);
    if let Some(location) = headers.get(LOCATION).and_then(|location| names.outward(location.to_str().ok()?)) {
        set(headers, LOCATION, &location);
    }
    let cookies: Vec<HeaderValue> = headers.get_all(SET_COOKIE).iter().filter_map(own_cookie).collect();
    headers.remove(SET_COOKIE);
    for cookie in cookies {
        headers.append(SET_COOKIE, cookie);
    }
    if !names.prefix.is_empty() {
        // The address is one for all previews. Should a browser show this in spite of all, it belongs to no origin.
        headers.append(CONTENT_SECURITY_POLICY, HeaderValue::from_static("sandbox"));
    }
}

/// Keeps a cookie to the host that sets it: for a domain it would be sent to other previews. None of ours is set.
fn own_cookie(cookie: &HeaderValue) -> Option<HeaderValue> {
    let Ok(text) = cookie.to_str() else { return Some(cookie.clone()) };
    let mut parts = text.split(';');
    let pair = parts.next()?;
    if pair.split('=').next()?.trim() == COOKIE_NAME {
        return None;
    }
    let is_domain = |part: &&str| part.split('=').next().is_some_and(|name| name.trim().eq_ignore_ascii_case("domain"));
    let kept: Vec<&str> = std::iter::once(pair).chain(parts.filter(|part| !is_domain(part))).collect();
    HeaderValue::from_str(&kept.join(";")).ok()
}

fn drop_our_cookie(headers: &mut HeaderMap) {
    let cookies = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    let is_ours = |pair: &&str| pair.split('=').next().is_some_and(|name| name.trim() == COOKIE_NAME);
    let kept: Vec<&str> =
        cookies.flat_map(|value| value.split(';')).map(str::trim).filter(|pair| !is_ours(pair)).collect();
    match kept.join("; ") {
        none if none.is_empty() => drop(headers.remove(COOKIE)),
        cookies => set(headers, COOKIE, &cookies),
    }
}

fn drop_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named.into_iter().chain(HOP_BY_HOP) {
        if let Entry::Occupied(entry) = headers.entry(name) {
            entry.remove_entry_mult();
        }
    }
}

fn set(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    // What comes from a header, or is ours, can stand in one.
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

#[cfg(test)]
mod tests;
