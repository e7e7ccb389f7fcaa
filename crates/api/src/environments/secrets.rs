//! Secrets of an environment: taken, never given.
//!
//! Clients read an environment, change a field and send the whole back. The secrets they send back then are the masks they
//! were shown; a mask keeps the value that is there.

use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{Error, Result};

/// What stands in place of every value.
pub(super) const MASK: &str = "********";

/// A secret as it is set.
#[derive(Debug, Clone, Deserialize, ToSchema)]
pub(super) struct SecretInput {
    /// The name of the environment variable it becomes.
    pub key: String,
    /// Absent, `null` or `********` keeps the value that is there.
    pub value: Option<String>,
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

/// Gives the whole new set of secrets, `None` to leave what is there. `known` are the values there are.
pub(super) fn resolve(
    sent: Option<Vec<SecretInput>>,
    known: Vec<(String, SecretString)>,
) -> Result<Option<Vec<(String, SecretString)>>> {
    let Some(sent) = sent else { return Ok(None) };
    let mut secrets = Vec::with_capacity(sent.len());
    for (index, secret) in sent.into_iter().enumerate() {
        let value = match secret.value {
            Some(value) if value != MASK => SecretString::from(value),
            _ => match known.iter().find(|(key, _)| *key == secret.key) {
                Some((_, value)) => value.clone(),
                None => return Err(Error::missing_field(&format!("secrets[{index}].value"))),
            },
        };
        secrets.push((secret.key, value));
    }
    Ok(Some(secrets))
}
