//! How a server is reached.

use std::collections::{BTreeMap, HashMap};

use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use tokio::io::{AsyncRead, AsyncWrite};
use url::Url;

/// What carries a process's input and output.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin + 'static> Stream for S {}

/// A way to a server.
pub enum Link {
    /// A process: its output is read, its input written. Dropping the stream is the process's end.
    Process(Box<dyn Stream>),
    /// Streamable HTTP; where that is not understood, the older way with server-sent events. `http` decides which addresses
    /// may be reached, and follows no redirects.
    Http { http: reqwest::Client, url: Url, headers: Headers },
    /// Server-sent events alone.
    Sse { http: reqwest::Client, url: Url, headers: Headers },
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Process(_) => "Process",
            Self::Http { .. } => "Http",
            Self::Sse { .. } => "Sse",
        })
    }
}

/// The headers that go with each request.
#[derive(Debug, Clone, Default)]
pub struct Headers(HeaderMap);

impl Headers {
    /// Takes headers by their names, and a token that is sent as `Authorization` if the headers have none.
    ///
    /// # Errors
    /// A sentence about what cannot be a header.
    pub fn new(headers: &BTreeMap<String, String>, bearer_token: Option<&str>) -> Result<Self, String> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            let key: HeaderName = name.parse().map_err(|_| format!("{name:?} cannot name a header"))?;
            map.insert(key, secret(value).ok_or_else(|| format!("the value of {name} cannot be sent in a header"))?);
        }
        if let Some(token) = bearer_token.filter(|token| !token.is_empty() && !map.contains_key(AUTHORIZATION)) {
            let value = secret(&format!("Bearer {token}")).ok_or("the bearerToken cannot be sent in a header")?;
            map.insert(AUTHORIZATION, value);
        }
        Ok(Self(map))
    }

    pub(crate) fn as_map(&self) -> HeaderMap {
        self.0.clone()
    }

    pub(crate) fn to_hash_map(&self) -> HashMap<HeaderName, HeaderValue> {
        self.0.iter().map(|(name, value)| (name.clone(), value.clone())).collect()
    }
}

fn secret(value: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(value.trim()).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_of_ones_own_wins_over_the_token_and_none_is_shown() {
        let own = BTreeMap::from([("authorization".to_owned(), "Basic hunter2".to_owned())]);
        let headers = Headers::new(&own, Some("token")).unwrap();
        assert_eq!(headers.as_map()[AUTHORIZATION], "Basic hunter2");
        assert!(!format!("{headers:?}").contains("hunter2"));
        assert_eq!(Headers::new(&BTreeMap::new(), Some("t")).unwrap().as_map()[AUTHORIZATION], "Bearer t");
        for (name, value) in [("a b", "x"), ("x", "a\nb"), ("", "x")] {
            assert!(Headers::new(&BTreeMap::from([(name.to_owned(), value.to_owned())]), None).is_err(), "{name:?}");
        }
    }
}
