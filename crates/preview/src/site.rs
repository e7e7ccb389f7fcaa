//! Where previews are reached: what links look like, and how a request is known for one.

use domain::PreviewId;
use secrecy::{ExposeSecret, SecretString};
use url::{Host, Url};

/// The parameter of a link that holds the token.
pub(crate) const TOKEN_PARAMETER: &str = "atelier_preview";

/// The place below which every preview has a name: `https://preview.example.com` for `https://preview-….preview.example.com`.
#[derive(Debug, Clone)]
pub struct Site {
    scheme: &'static str,
    /// Host and port.
    authority: String,
}

/// A base that has no names below it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoName;

impl std::fmt::Display for NoName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("previews need a domain name, since each has a name of its own below it; an address has none")
    }
}

impl std::error::Error for NoName {}

impl Site {
    /// Takes the base from a URL, of which a path would be ignored.
    ///
    /// # Errors
    /// `NoName` for an IP address.
    pub fn new(base: &Url) -> Result<Self, NoName> {
        let Some(Host::Domain(host)) = base.host() else { return Err(NoName) };
        let authority = match base.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        };
        Ok(Self { scheme: if base.scheme() == "https" { "https" } else { "http" }, authority })
    }

    /// The base on this machine. Browsers and curl know every name below `localhost`, without any setting.
    pub fn local(port: u16) -> Self {
        Self { scheme: "http", authority: format!("localhost:{port}") }
    }

    pub(crate) fn scheme(&self) -> &'static str {
        self.scheme
    }

    pub(crate) fn is_secure(&self) -> bool {
        self.scheme == "https"
    }

    /// Gives a preview's origin, which opens nothing by itself.
    pub fn origin(&self, preview: &PreviewId) -> String {
        format!("{}://{}.{}", self.scheme, preview.label(), self.authority)
    }

    /// Gives the link that opens a preview, in a browser or a tool.
    pub fn link(&self, preview: &PreviewId, token: &SecretString) -> String {
        format!("{}/?{TOKEN_PARAMETER}={}", self.origin(preview), token.expose_secret())
    }

    /// Gives the address below which a tool reaches everything of a preview, without names below the base and without
    /// cookies. Browsers are led from there to the preview's own origin.
    pub fn tool_link(&self, preview: &PreviewId, token: &SecretString) -> String {
        format!("{}://{}{}/", self.scheme, self.authority, tool_prefix(preview, token))
    }
}

/// Gives the path that a tool's address begins with.
pub(crate) fn tool_prefix(preview: &PreviewId, token: &SecretString) -> String {
    format!("/{}/{}", preview.label(), token.expose_secret())
}

/// Reads the preview from the name that a request is for.
///
/// Whatever is behind the first label: requests may come by another name or port than links have, through a tunnel.
pub(crate) fn preview_of_host(host: &str) -> Option<PreviewId> {
    let (label, rest) = host.split_once('.')?;
    if rest.is_empty() { None } else { PreviewId::from_label(label) }
}

/// Reads preview, token and the rest of the path from the path of a tool's address.
pub(crate) fn preview_of_path(path: &str) -> Option<(PreviewId, SecretString, &str)> {
    let (label, rest) = path.strip_prefix('/')?.split_once('/')?;
    let preview = PreviewId::from_label(label)?;
    let end = rest.find('/').unwrap_or(rest.len());
    let (token, rest) = rest.split_at(end);
    Some((preview, SecretString::from(token), if rest.is_empty() { "/" } else { rest }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_lead_back_to_their_preview() {
        let (preview, token) = (PreviewId::generate(), SecretString::from("t0k"));
        let bases = [("https://p.example.com", "p.example.com"), ("http://localhost:8081/x", "localhost:8081")];
        for (base, authority) in bases {
            let site = Site::new(&base.parse().expect("a URL")).expect("a name");
            let link: Url = site.link(&preview, &token).parse().expect("a URL");
            assert_eq!(link.host_str().and_then(preview_of_host), Some(preview.clone()));
            assert_eq!(link.query(), Some("atelier_preview=t0k"));
            assert!(site.origin(&preview).ends_with(authority));
            let tool: Url = site.tool_link(&preview, &token).parse().expect("a URL");
            let (found, given, rest) = preview_of_path(tool.path()).expect("a preview");
            assert_eq!((found, given.expose_secret(), rest), (preview.clone(), "t0k", "/"));
        }
        assert_eq!(Site::new(&"http://127.0.0.1:8081".parse().expect("a URL")).expect_err("no name"), NoName);
        assert!(Site::new(&"http://[::1]:8081".parse().expect("a URL")).is_err());
    }

    #[test]
    fn other_names_and_paths_are_of_no_preview() {
        let label = PreviewId::generate().label();
        for host in ["", "localhost", "localhost:8081", "www.example.com", &label, &format!("{label}.")] {
            assert_eq!(preview_of_host(host), None, "{host}");
        }
        for path in ["", "/", "/favicon.ico", &format!("/{label}"), "/preview-1/x", "*"] {
            assert!(preview_of_path(path).is_none(), "{path}");
        }
    }
}
