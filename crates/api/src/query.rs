//! Reading query strings: camelCase names, `true|false|1|0`, and pages.

use axum::{extract::FromRequestParts, http::request::Parts};
use chrono::{DateTime, Datelike, NaiveDate, Utc};
use serde::{Deserialize, Deserializer, de::DeserializeOwned};
use store::Page;

use crate::{Error, Result};

/// A request's query string as a `T`. Unknown names are ignored.
pub(crate) struct Query<T>(pub T);

impl<T: DeserializeOwned, S: Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self> {
        if parts.uri.query().is_some_and(|query| query.contains("%00")) {
            return Err(Error::bad_request("The query has the character NUL (%00)"));
        }
        let query = axum::extract::Query::try_from_uri(&parts.uri).map_err(|err| {
            let text = err.body_text();
            let text = text.strip_prefix("Failed to deserialize query string: ").unwrap_or(&text);
            let (name, what) = text.split_once(": ").unwrap_or(("query", text));
            Error::invalid_field(name, plainly(what))
        })?;
        Ok(Self(query.0))
    }
}

/// Reads a moment that the parameter `name` may give.
///
/// # Errors
/// 400 for what is not RFC 3339.
pub(crate) fn moment(name: &str, text: Option<&str>) -> Result<Option<DateTime<Utc>>> {
    match text {
        None | Some("") => Ok(None),
        Some(text) => match DateTime::parse_from_rfc3339(text) {
            Ok(moment) => Ok(Some(moment.to_utc())),
            Err(_) => Err(Error::invalid_field(name, "must be a time like 2025-01-15T10:30:00Z")),
        },
    }
}

/// The same, or a day, which stands for its beginning in UTC.
pub(crate) fn moment_or_day(name: &str, text: Option<&str>) -> Result<Option<DateTime<Utc>>> {
    let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(None) };
    let moment = match DateTime::parse_from_rfc3339(text) {
        Ok(moment) => Some(moment.to_utc()),
        Err(_) => text.parse::<NaiveDate>().ok().map(|day| day.and_time(chrono::NaiveTime::MIN).and_utc()),
    };
    // Calendars here and in the database reach farther, but not equally far.
    let moment = moment.filter(|moment| (1..=9999).contains(&moment.year())).ok_or_else(|| {
        Error::invalid_field(name, "must be a time such as 2025-01-15T10:30:00Z or a day such as 2025-01-15")
    });
    moment.map(Some)
}

/// Says what a value must be, where the parser of numbers only says what it did not like.
fn plainly(what: &str) -> &str {
    match what {
        "invalid digit found in string" | "cannot parse integer from empty string" => "must be a whole number",
        "number too large to fit in target type" | "number too small to fit in target type" => {
            "must be a whole number that is not so large"
        }
        "invalid float literal" | "cannot parse float from empty string" => "must be a number",
        other => other,
    }
}

/// Reads a yes or no: clients send `true` and `false`, browsers of the platform `1` and `0`.
pub(crate) fn boolean<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Option<bool>, D::Error> {
    match Option::<String>::deserialize(deserializer)?.as_deref() {
        Some("true" | "1") => Ok(Some(true)),
        Some("false" | "0") => Ok(Some(false)),
        Some("") | None => Ok(None),
        Some(other) => Err(serde::de::Error::custom(format!("expected true, false, 1 or 0, not {other:?}"))),
    }
}

/// Checks the part of a list that is asked for. A `limit` above `max` gives `max`; 0 gives no items, but the count.
pub(crate) fn page(limit: Option<i64>, offset: Option<i64>, default: i64, max: i64) -> Result<Page> {
    let limit = limit.unwrap_or(default);
    let offset = offset.unwrap_or(0);
    for (name, value) in [("limit", limit), ("offset", offset)] {
        if value < 0 {
            return Err(Error::invalid_field(name, "must not be negative"));
        }
    }
    Ok(Page { limit: limit.min(max), offset })
}
