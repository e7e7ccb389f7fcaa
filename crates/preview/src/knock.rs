//! Who asks for which preview, with which token, and how the token came: what a request shows before it is let in.

use domain::PreviewId;
use hyper::{
    HeaderMap, Method, Request,
    header::{ACCEPT, COOKIE, HOST, HeaderValue},
};
use secrecy::SecretString;

use crate::site::{TOKEN_PARAMETER, preview_of_host, preview_of_path};

/// The cookie that holds the token, on the preview's own host.
pub(crate) const COOKIE_NAME: &str = "atelier_preview";

/// A request for a preview, and where it goes inside.
#[derive(Debug)]
pub(crate) struct Knock {
    pub(crate) preview: PreviewId,
    pub(crate) token: SecretString,
    pub(crate) way: Way,
    /// Path and query as what listens gets them, without anything of ours.
    pub(crate) target: String,
    /// The host and port that the client used.
    pub(crate) authority: String,
}

/// How the token came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// In the link.
    Link,
    /// In the cookie that a link set.
    Cookie,
    /// In the path, by a tool.
    Path,
}

impl Knock {
    /// Reads a request. `None` where it is for no preview, or holds no token.
    pub(crate) fn read<B>(request: &Request<B>) -> Option<Self> {
        let uri = request.uri();
        // Of a request in absolute form the host header does not count.
        let authority = match uri.authority() {
            Some(authority) => authority.as_str(),
            None => request.headers().get(HOST)?.to_str().ok()?,
        };
        let authority = authority.to_ascii_lowercase();
        let query = uri.query();
        let Some(preview) = preview_of_host(&authority) else {
            let (preview, token, rest) = preview_of_path(uri.path())?;
            let target = query.map_or(rest.to_owned(), |query| format!("{rest}?{query}"));
            return Some(Self { preview, token, way: Way::Path, target, authority });
        };
        let path = if uri.path().starts_with('/') { uri.path() } else { "/" };
        let (linked, query) = query.map_or((None, None), take_token);
        let target = query.map_or(path.to_owned(), |query| format!("{path}?{query}"));
        let (token, way) = match linked {
            Some(token) => (token, Way::Link),
            None => (cookie(request.headers())?, Way::Cookie),
        };
        Some(Self { preview, token, way, target, authority })
    }
}

/// Takes the token out of a query and gives what is left of it.
fn take_token(query: &str) -> (Option<SecretString>, Option<String>) {
    let is_ours = |part: &str| {
        part.split_once('=').filter(|(name, _)| *name == TOKEN_PARAMETER).map(|(_, token)| token.to_owned())
    };
    let Some(token) = query.split('&').find_map(is_ours) else { return (None, Some(query.to_owned())) };
    let rest: Vec<&str> = query.split('&').filter(|part| is_ours(part).is_none()).collect();
    (Some(SecretString::from(token)), (!rest.is_empty()).then(|| rest.join("&")))
}

/// Gives our cookie's token.
fn cookie(headers: &HeaderMap) -> Option<SecretString> {
    let cookies = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = cookies.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(name, _)| *name == COOKIE_NAME).map(|(_, token)| SecretString::from(token))
}

/// Tells whether a browser opens a page with this request, so that what is answered becomes a document of an origin.
///
/// Browsers say so themselves where the connection is secure or to this machine; elsewhere what they want tells.
pub(crate) fn opens_a_page(method: &Method, headers: &HeaderMap) -> bool {
    if *method != Method::GET && *method != Method::HEAD {
        return false;
    }
    match headers.get("sec-fetch-mode") {
        Some(mode) => mode == "navigate",
        None => wants_page(headers),
    }
}

/// Tells whether a request comes from a browser's page, not from a tool.
pub(crate) fn is_of_a_browser(headers: &HeaderMap) -> bool {
    headers.contains_key("sec-fetch-mode") || wants_page(headers)
}

/// Tells whether an answer is for the eyes of a person.
pub(crate) fn wants_page(headers: &HeaderMap) -> bool {
    let accepts = |value: &HeaderValue| value.to_str().is_ok_and(|value| value.contains("text/html"));
    headers.get_all(ACCEPT).iter().any(accepts)
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    fn read(uri: &str, headers: &[(&str, &str)]) -> Option<(String, Way, String)> {
        let mut request = Request::builder().uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let knock = Knock::read(&request.body(()).expect("a request"))?;
        Some((knock.token.expose_secret().to_owned(), knock.way, knock.target))
    }

    #[test]
    fn the_token_is_found_and_taken_out() {
        let label = PreviewId::generate().label();
        let host = format!("{label}.localhost:8081");
        let is = |token: &str, way, target: &str| Some((token.to_owned(), way, target.to_owned()));
        let cookie = ("cookie", "a=b; atelier_preview=tok; c=d");
        assert_eq!(read("/?atelier_preview=tok", &[("host", &host)]), is("tok", Way::Link, "/"));
        assert_eq!(read("/a?x=1&atelier_preview=tok&y=%20", &[("host", &host)]), is("tok", Way::Link, "/a?x=1&y=%20"));
        assert_eq!(read("/a?x=1", &[("host", &host), cookie]), is("tok", Way::Cookie, "/a?x=1"));
        // The link is newer than the cookie.
        assert_eq!(read("/?atelier_preview=new", &[("host", &host), cookie]), is("new", Way::Link, "/"));
        assert_eq!(read(&format!("http://{host}/a"), &[("host", "other"), cookie]), is("tok", Way::Cookie, "/a"));
        let local = ("host", "127.0.0.1:8081");
        assert_eq!(read(&format!("/{label}/tok/a/b?c"), &[local]), is("tok", Way::Path, "/a/b?c"));
        assert_eq!(read(&format!("/{label}/tok"), &[local]), is("tok", Way::Path, "/"));
        for (uri, headers) in [
            ("/", vec![("host", host.as_str())]),
            ("/", vec![local, cookie]),
            ("/", vec![]),
            ("/?atelier_preview_=tok", vec![("host", host.as_str())]),
        ] {
            assert_eq!(read(uri, &headers), None, "{uri} {headers:?}");
        }
    }

    #[test]
    fn a_page_is_told_from_what_a_page_or_a_tool_fetches() {
        let opens = |headers: &[(&'static str, &'static str)]| {
            let headers = headers
                .iter()
                .map(|(name, value)| (hyper::header::HeaderName::from_static(name), HeaderValue::from_static(value)));
            opens_a_page(&Method::GET, &headers.collect())
        };
        assert!(opens(&[("accept", "text/html,*/*;q=0.8")]));
        assert!(opens(&[("accept", "*/*"), ("sec-fetch-mode", "navigate")]));
        assert!(!opens(&[("accept", "*/*")]));
        assert!(!opens(&[("accept", "text/html"), ("sec-fetch-mode", "cors")]));
        assert!(!opens(&[]));
    }
}
