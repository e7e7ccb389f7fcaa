//! Reading columns into the types of `domain`, with errors that say what could not be read.

use domain::{MicroUsd, run::Spent};
use serde::de::DeserializeOwned;
use sqlx::{Row, postgres::PgRow};

use crate::{Error, Result};

pub(crate) trait ReadColumn {
    /// Reads an id or a word with a closed set of values.
    fn parse<T>(&self, column: &'static str) -> Result<T>
    where
        T: std::str::FromStr,
        T::Err: std::error::Error + Send + Sync + 'static;

    fn parse_optional<T>(&self, column: &'static str) -> Result<Option<T>>
    where
        T: std::str::FromStr,
        T::Err: std::error::Error + Send + Sync + 'static;

    /// Reads a `jsonb` document.
    fn json<T: DeserializeOwned>(&self, column: &'static str) -> Result<T>;

    fn json_optional<T: DeserializeOwned>(&self, column: &'static str) -> Result<Option<T>>;

    /// Reads the columns that hold what was spent.
    fn spent(&self) -> Result<Spent>;
}

impl ReadColumn for PgRow {
    fn parse<T>(&self, column: &'static str) -> Result<T>
    where
        T: std::str::FromStr,
        T::Err: std::error::Error + Send + Sync + 'static,
    {
        self.try_get::<&str, _>(column)?.parse().map_err(Error::unreadable(column))
    }

    fn parse_optional<T>(&self, column: &'static str) -> Result<Option<T>>
    where
        T: std::str::FromStr,
        T::Err: std::error::Error + Send + Sync + 'static,
    {
        self.try_get::<Option<&str>, _>(column)?.map(str::parse).transpose().map_err(Error::unreadable(column))
    }

    fn json<T: DeserializeOwned>(&self, column: &'static str) -> Result<T> {
        let value: serde_json::Value = self.try_get(column)?;
        serde_json::from_value(value).map_err(Error::unreadable(column))
    }

    fn json_optional<T: DeserializeOwned>(&self, column: &'static str) -> Result<Option<T>> {
        let value: Option<serde_json::Value> = self.try_get(column)?;
        value.map(serde_json::from_value).transpose().map_err(Error::unreadable(column))
    }

    fn spent(&self) -> Result<Spent> {
        Ok(Spent {
            input_tokens: self.try_get("input_tokens")?,
            output_tokens: self.try_get("output_tokens")?,
            cache_read_tokens: self.try_get("cache_read_tokens")?,
            cache_write_tokens: self.try_get("cache_write_tokens")?,
            cost: MicroUsd(self.try_get("cost_micro_usd")?),
        })
    }
}

/// Turns a document into what a `jsonb` parameter takes.
pub(crate) fn to_json<T: serde::Serialize>(document: &T) -> serde_json::Value {
    serde_json::to_value(document).expect("our documents have string keys and finite numbers")
}
