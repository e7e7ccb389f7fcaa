//! Reading a JSON body.
//!
//! Bodies are JSON whatever `Content-Type` says, since curl labels them as forms; an empty one is `{}`, since SDKs send none
//! where all is optional; unknown keys are ignored, since SDKs forward whatever they are given. Everything that is not
//! acceptable is told with the field's name.

use std::{borrow::Cow, time::Duration};

use axum::{
    extract::{FromRequest, Request},
    http::{HeaderMap, StatusCode, header},
};
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use serde::{Deserialize, Deserializer, de::DeserializeOwned};
use serde_json::{Map, Value};
use tokio::time::{Instant, timeout_at};

use crate::{Api, Error, Result, json};

/// A request's JSON body as a `T`.
pub(crate) struct Body<T>(pub T);

impl<T: DeserializeOwned> FromRequest<Api> for Body<T> {
    type Rejection = Error;

    async fn from_request(request: Request, api: &Api) -> Result<Self> {
        let settings = &api.settings;
        let (parts, body) = request.into_parts();
        let bytes = read(&parts.headers, body, settings.max_body_bytes, settings.body_timeout).await?;
        parse(&bytes, settings.max_json_depth).map(Self)
    }
}

/// Reads a whole body.
pub(crate) async fn read(
    headers: &HeaderMap,
    body: axum::body::Body,
    max_bytes: usize,
    time: Duration,
) -> Result<Bytes> {
    if let Some(encoding) = headers.get(header::CONTENT_ENCODING).filter(|encoding| *encoding != "identity") {
        let encoding = String::from_utf8_lossy(encoding.as_bytes());
        let message = format!("A body with the Content-Encoding {encoding} cannot be read; send it as it is");
        return Err(Error::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message));
    }
    let mut chunks = body.into_data_stream();
    let mut whole = BytesMut::new();
    let end = Instant::now() + time;
    loop {
        let chunk = match timeout_at(end, chunks.next()).await {
            Ok(Some(Ok(chunk))) => chunk,
            Ok(Some(Err(_))) => return Err(Error::bad_request("The body broke off")),
            Ok(None) => return Ok(whole.freeze()),
            Err(_) => {
                let message = format!("The body did not arrive within {} seconds", time.as_secs());
                return Err(Error::new(StatusCode::REQUEST_TIMEOUT, message));
            }
        };
        if whole.len() + chunk.len() > max_bytes {
            let message = format!("The body is larger than {max_bytes} bytes");
            return Err(Error::new(StatusCode::PAYLOAD_TOO_LARGE, message));
        }
        whole.extend_from_slice(&chunk);
    }
}

/// Reads a `T` from a whole body.
pub(crate) fn parse<T: DeserializeOwned>(body: &[u8], max_depth: usize) -> Result<T> {
    json::check(body, max_depth)?;
    let body = if body.iter().all(u8::is_ascii_whitespace) { b"{}" } else { body };
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let value = serde_path_to_error::deserialize(&mut deserializer).map_err(|err| {
        let path = err.path().to_string();
        explain(&path, &err.into_inner())
    })?;
    deserializer.end().map_err(|err| explain("", &err))?;
    Ok(value)
}

fn explain(path: &str, err: &serde_json::Error) -> Error {
    if !err.is_data() {
        return Error::bad_request(format!("The body is not valid JSON: {err}"));
    }
    let text = err.to_string();
    let text = text.rsplit_once(" at line ").map_or(text.as_str(), |(text, _)| text);
    let path = if path == "." { "" } else { path };
    if let Some(name) = text.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`')) {
        let parent = path.strip_suffix(name).unwrap_or(path).trim_end_matches('.');
        return Error::missing_field(&if parent.is_empty() { name.to_owned() } else { format!("{parent}.{name}") });
    }
    let text = without_value(text);
    // The name of one of our types means nothing to a client.
    let text = text
        .split_once("expected struct ")
        .map_or(text.to_string(), |(before, _)| format!("{before}expected an object"));
    Error::invalid_field(if path.is_empty() { "body" } else { path }, text)
}

/// Takes what was sent out of a complaint about its type: errors are kept and shown, and it may be a secret.
fn without_value(text: &str) -> Cow<'_, str> {
    let parts = text.strip_prefix("invalid type: ").and_then(|rest| {
        let (sent, expected) = rest.rsplit_once(", expected ")?;
        Some((sent.split(['`', '"']).next()?.trim_end(), expected))
    });
    match parts {
        Some((kind, expected)) => format!("invalid type: {kind}, expected {expected}").into(),
        None => text.into(),
    }
}

/// A field of a PATCH: absent leaves the value, `null` clears it.
///
/// The field needs `#[serde(default)]`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum Patch<T> {
    #[default]
    Absent,
    Null,
    Value(T),
}

impl<T> Patch<T> {
    /// Applies the change to an optional value.
    pub(crate) fn apply(self, target: &mut Option<T>) {
        match self {
            Self::Absent => {}
            Self::Null => *target = None,
            Self::Value(value) => *target = Some(value),
        }
    }

    /// Applies the change to a value that has a default to be cleared to.
    pub(crate) fn apply_or_default(self, target: &mut T)
    where
        T: Default,
    {
        match self {
            Self::Absent => {}
            Self::Null => *target = T::default(),
            Self::Value(value) => *target = value,
        }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Patch<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        Ok(Option::deserialize(deserializer)?.map_or(Self::Null, Self::Value))
    }
}

/// Takes over the fields of `sent` that are called `names`, as a PATCH does: an absent one is left, `null` clears it.
pub(crate) fn patch_named(
    stored: &mut Map<String, Value>,
    mut sent: Map<String, Value>,
    names: impl IntoIterator<Item = &'static str>,
) {
    for name in names {
        match sent.remove(name) {
            None => {}
            Some(Value::Null) => drop(stored.remove(name)),
            Some(value) => drop(stored.insert(name.to_owned(), value)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    #[allow(dead_code, reason = "only what is wrong with them is looked at")]
    struct Outer {
        name: String,
        #[serde(default)]
        inner: Vec<Inner>,
        #[serde(default)]
        note: Patch<String>,
    }

    #[derive(Debug, Deserialize)]
    #[allow(dead_code, reason = "only what is wrong with them is looked at")]
    struct Inner {
        size: u32,
    }

    #[test]
    fn what_is_wrong_is_told_with_the_field_and_the_position() {
        let cases = [
            ("", "Missing required field: name"),
            (r#"{"inner":[]}"#, "Missing required field: name"),
            (r#"{"name":5}"#, "name: invalid type: integer, expected a string"),
            (
                r#"{"name":"a","inner":[{"size":1},{"size":-1}]}"#,
                "inner[1].size: invalid value: integer `-1`, expected u32",
            ),
            (r#"{"name":"a","inner":[{"size":1},{}]}"#, "Missing required field: inner[1].size"),
            (r#"{"name":"a","inner":["x"]}"#, "inner[0]: invalid type: string, expected an object"),
            (r#"{"name":"a","inner":"my, expected \"secret"}"#, "inner: invalid type: string, expected a sequence"),
            (r#"{"name" "a"}"#, "The body is not valid JSON: expected `:` at line 1 column 9"),
            (r#"{"name":"a"} x"#, "The body is not valid JSON: trailing characters at line 1 column 14"),
            ("name=a", "The body is not valid JSON: expected ident at line 1 column 2"),
        ];
        for (body, message) in cases {
            assert_eq!(parse::<Outer>(body.as_bytes(), 8).expect_err(body).to_string(), message);
        }
    }

    #[test]
    fn a_patch_tells_absent_from_null() {
        let note = |body: &str| parse::<Outer>(body.as_bytes(), 8).expect("is valid").note;
        assert_eq!(note(r#"{"name":"a"}"#), Patch::Absent);
        assert_eq!(note(r#"{"name":"a","note":null}"#), Patch::Null);
        assert_eq!(note(r#"{"name":"a","note":"b"}"#), Patch::Value("b".to_owned()));
    }
}
