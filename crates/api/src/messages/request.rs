//! The body of a request that starts a run, read as bytes: it is parsed for more than one purpose, and what a retry must
//! repeat is the whole of it.

use axum::extract::{FromRequest, Request};
use bytes::Bytes;
use serde::de::DeserializeOwned;
use store::runs::Idempotency;

use crate::{Api, Error, Result, body, idempotency};

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
        let key = idempotency::find_key(&parts.headers)?;
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
        let request_hash = idempotency::hash(target, &self.body, self.max_depth);
        Ok(Some(Idempotency { key, request_hash }))
    }
}
