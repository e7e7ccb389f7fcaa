//! Secrets of an environment: taken, never given.
//!
//! Clients read an environment, change a field and send the whole back. The secrets they send back then are the masks they
//! were shown; a mask keeps the value that is there.

mod routes;

use std::fmt;

use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{Error, Result};

pub(super) use routes::routes;

/// What stands in place of every value.
pub(super) const MASK: &str = "********";

/// A secret as it is set.
#[derive(Clone, Deserialize, ToSchema)]
pub(super) struct SecretInput {
    /// The name of the environment variable it becomes.
    pub key: String,
    /// Absent, `null` or `********` keeps the value that is there.
    pub value: Option<String>,
}

impl fmt::Debug for SecretInput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecretInput").field("key", &self.key).finish_non_exhaustive()
    }
}

/// A secret as it is shown.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Secret)]
pub(super) struct SecretView {
    key: String,
    /// Always `********`.
    value: &'static str,
    /// Always true.
    has_value: bool,
}

impl From<String> for SecretView {
    fn from(key: String) -> Self {
        Self { key, value: MASK, has_value: true }
    }
}

/// Gives the whole new set of secrets; those without a value keep the one that is there.
pub(super) fn unmask(sent: Vec<SecretInput>) -> Vec<(String, Option<SecretString>)> {
    let value = |value: Option<String>| value.filter(|value| value != MASK).map(SecretString::from);
    sent.into_iter().map(|secret| (secret.key, value(secret.value))).collect()
}

/// Checks that the values that are to be kept are there. To be asked under the lock of the row that has them.
pub(super) fn check_kept(sent: Option<&[(String, Option<SecretString>)]>, there: &[String]) -> Result<()> {
    let missing = |(key, value): &(String, Option<SecretString>)| value.is_none() && !there.contains(key);
    match sent.unwrap_or_default().iter().position(missing) {
        Some(index) => Err(Error::missing_field(&format!("secrets[{index}].value"))),
        None => Ok(()),
    }
}
