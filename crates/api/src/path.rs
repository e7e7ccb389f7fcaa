//! Reading the parameters of a path, with our error shape for those that are malformed.

use axum::{extract::FromRequestParts, http::request::Parts};
use serde::de::DeserializeOwned;

use crate::{Error, Result};

/// The parameters of a request's path, percent-decoded.
pub(crate) struct Path<T>(pub T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self> {
        match axum::extract::Path::from_request_parts(parts, state).await {
            Ok(path) => Ok(Self(path.0)),
            Err(err) => {
                let text = err.body_text();
                let text = text.strip_prefix("Invalid URL: ").unwrap_or(&text);
                Err(Error::bad_request(format!("The path is not valid: {text}")))
            }
        }
    }
}

/// Gives a path as it stands in the table of routes, which is mounted twice.
pub(crate) fn without_mount(path: &str) -> &str {
    path.strip_prefix("/v1").filter(|rest| rest.starts_with('/')).unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_mount_is_taken_off() {
        for (path, expected) in [("/v1/agents", "/agents"), ("/agents", "/agents"), ("/v1x", "/v1x"), ("/v1", "/v1")] {
            assert_eq!(without_mount(path), expected);
        }
    }
}
