//! How a request proves who sends it, which differs between the API itself and everything that imitates it.

use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use crate::Error;

/// Which headers carry the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Auth {
    /// `x-api-key`: what every version of the API takes.
    ApiKey,
    /// `Authorization: Bearer`: OAuth tokens (`ANTHROPIC_AUTH_TOKEN`) and most gateways.
    Bearer,
    /// Both, for back ends of which we only know the address.
    Both,
}

impl Auth {
    /// `x-api-key` for the API itself, both headers elsewhere, since gateways differ in which one they read.
    pub fn default_for(base_url: &Url) -> Self {
        if is_anthropic(base_url) { Self::ApiKey } else { Self::Both }
    }

    pub(crate) fn apply(self, headers: &mut HeaderMap, key: &SecretString) -> Result<(), Error> {
        let secret = |text: &str| {
            let mut value = HeaderValue::from_str(text)
                .map_err(|_| Error::Invalid("the model API key holds characters that no header may hold".into()))?;
            value.set_sensitive(true);
            Ok::<_, Error>(value)
        };
        let key = key.expose_secret();
        if matches!(self, Self::ApiKey | Self::Both) {
            headers.insert("x-api-key", secret(key)?);
        }
        if matches!(self, Self::Bearer | Self::Both) {
            headers.insert(AUTHORIZATION, secret(&format!("Bearer {key}"))?);
        }
        Ok(())
    }
}

/// The `anthropic-version` to send: the newest for the API itself, the one every imitator knows elsewhere.
pub fn default_version(base_url: &Url) -> &'static str {
    if is_anthropic(base_url) { "2026-10-21" } else { "2023-06-01" }
}

/// Reads `ANTHROPIC_CUSTOM_HEADERS`: one `Name: value` a line.
pub fn parse_custom_headers(text: &str) -> Result<Vec<(String, String)>, Error> {
    text.lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .map(|line| {
            // The line itself stays out of the message: its value may be a secret.
            let (name, value) = line
                .split_once(':')
                .ok_or_else(|| Error::Invalid("a custom header is not of the form Name: value".into()))?;
            Ok((name.trim().to_owned(), value.trim().to_owned()))
        })
        .collect()
}

pub(crate) fn insert_custom(headers: &mut HeaderMap, custom: &[(String, String)]) -> Result<(), Error> {
    for (name, value) in custom {
        let key = HeaderName::from_bytes(name.as_bytes())
            .map_err(|_| Error::Invalid(format!("custom header {name:?} is not a header name")))?;
        let mut value = HeaderValue::from_str(value)
            .map_err(|_| Error::Invalid(format!("the value of custom header {name:?} is not a header value")))?;
        value.set_sensitive(true);
        headers.insert(key, value);
    }
    Ok(())
}

pub(crate) fn is_anthropic(base_url: &Url) -> bool {
    base_url.host_str().is_some_and(|host| host == "anthropic.com" || host.ends_with(".anthropic.com"))
}
