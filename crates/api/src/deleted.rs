//! The answer to every DELETE: a body, since an empty one crashes clients.

use std::fmt::Display;

use serde::{Serialize, Serializer, ser::SerializeMap};
use utoipa::ToSchema;

/// `{deleted: true, success: true, id, <kind>Id}`.
#[derive(Debug, ToSchema)]
#[schema(example = json!({"deleted": true, "success": true, "id": "agent_1", "agentId": "agent_1"}))]
pub(crate) struct Deleted {
    /// Always true.
    #[allow(dead_code, reason = "describes the shape; `serialize` writes it")]
    deleted: bool,
    /// Always true.
    #[allow(dead_code, reason = "describes the shape; `serialize` writes it")]
    success: bool,
    id: String,
    #[schema(ignore)]
    name: &'static str,
}

impl Deleted {
    /// Tells that `id` is gone; `name` is what the kind's id is called, for example `agentId`.
    pub(crate) fn new(name: &'static str, id: impl Display) -> Self {
        Self { deleted: true, success: true, id: id.to_string(), name }
    }
}

impl Serialize for Deleted {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(4))?;
        map.serialize_entry("deleted", &true)?;
        map.serialize_entry("success", &true)?;
        map.serialize_entry("id", &self.id)?;
        map.serialize_entry(self.name, &self.id)?;
        map.end()
    }
}
