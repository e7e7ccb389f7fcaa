//! A port of an environment that whoever has the link may open.

use chrono::{DateTime, Utc};

use crate::{EnvironmentId, PreviewId};

/// A preview as it is stored, without the token that opens it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preview {
    pub id: PreviewId,
    pub environment_id: EnvironmentId,
    pub port: u16,
    pub name: Option<String>,
    /// What listens is told that it is called `localhost`, for servers that refuse other names.
    pub rewrites_host: bool,
    pub created_at: DateTime<Utc>,
    pub expires_at: DateTime<Utc>,
}

/// What the ids of previews begin with, and what their labels do.
const ID_PREFIX: &str = "preview_";
const LABEL_PREFIX: &str = "preview-";

impl PreviewId {
    /// Gives the id as a label of a host name, which knows no underscore.
    pub fn label(&self) -> String {
        self.as_str().replacen('_', "-", 1)
    }

    /// Reads an id from a label of a host name.
    pub fn from_label(label: &str) -> Option<Self> {
        // Names of hosts are the same in either case.
        let tail = label.to_ascii_lowercase().strip_prefix(LABEL_PREFIX)?.to_owned();
        let is_tail = tail.len() == 32 && tail.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_tail.then(|| format!("{ID_PREFIX}{tail}").parse().ok()).flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_comes_back_from_its_label() {
        let id = PreviewId::generate();
        assert_eq!(PreviewId::from_label(&id.label()), Some(id.clone()));
        assert_eq!(PreviewId::from_label(&id.label().to_uppercase()), Some(id.clone()));
        assert!(id.label().len() <= 63 && !id.label().contains('_'));
        for other in ["", "preview-", "preview-1", "www", id.as_str(), &format!("{}0", id.label())] {
            assert_eq!(PreviewId::from_label(other), None, "{other}");
        }
    }
}
