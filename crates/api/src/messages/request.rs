//! The body of a request that starts a run, read as bytes: it is parsed for more than one purpose, and what a retry must
//! repeat is the whole of it.

use axum::{
    extract::{FromRequest, Request},
    http::{HeaderMap, HeaderName},
};
use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde_json::Value;
use sha2::{Digest, Sha256};
use store::runs::Idempotency;

use crate::{Api, Error, Result, body};

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const MAX_KEY_BYTES: usize = 255;

/// A body that was read and not parsed yet, with the retry identity that came with it.
pub(crate) struct WorkRequest {
    body: Bytes,
    max_depth: usize,
    key: Option<String>,
}

impl FromRequest<Api> for WorkRequest {
    type Rejection = Error;

    async fn from_request(request: Request, api: &Api) -> Result<Self> {
        let settings = &api.settings;
        let (parts, body) = request.into_parts();
        let key = find_key(&parts.headers)?;
        let body = body::read(&parts.headers, body, settings.max_body_bytes, settings.body_timeout).await?;
        Ok(Self { body, max_depth: settings.max_json_depth, key })
    }
}

impl WorkRequest {
    /// Reads a `T` from the body. Other readings may take other fields of it.
    pub(crate) fn parse<T: DeserializeOwned>(&self) -> Result<T> {
        body::parse(&self.body, self.max_depth)
    }

    /// Gives the retry identity, if the client sent one. `target` is what the request was for, for example
    /// `POST /threads`, without the prefix it was sent to.
    pub(crate) fn idempotency(&self, target: &str) -> Result<Option<Idempotency>> {
        let Some(key) = self.key.clone() else { return Ok(None) };
        let mut body: Value = self.parse()?;
        // A retry may write the same object in another order.
        body.sort_all_objects();
        let request_hash = Sha256::digest(format!("{target}\n{body}")).to_vec();
        Ok(Some(Idempotency { key, request_hash }))
    }
}

fn find_key(headers: &HeaderMap) -> Result<Option<String>> {
    let Some(value) = headers.get(IDEMPOTENCY_KEY) else { return Ok(None) };
    match value.to_str().map(str::trim) {
        Ok("") => Ok(None),
        Ok(key) if key.len() <= MAX_KEY_BYTES => Ok(Some(key.to_owned())),
        Ok(_) | Err(_) => Err(Error::bad_request(format!(
            "The Idempotency-Key must be 1 to {MAX_KEY_BYTES} printable ASCII characters"
        ))),
    }
}
