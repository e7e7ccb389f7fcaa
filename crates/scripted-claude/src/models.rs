//! The models this server claims to have: one of each line is enough to test paging and lookups.

use serde_json::{Value, json};

const MODELS: [(&str, &str, &str); 4] = [
    ("claude-haiku-5-5", "Claude Haiku 5.5", "haiku"),
    ("claude-sonnet-5-5", "Claude Sonnet 5.5", "sonnet"),
    ("claude-opus-5-5", "Claude Opus 5.5", "opus"),
    ("claude-sonnet-4-6", "Claude Sonnet 4.6", "sonnet"),
];

pub(crate) fn find(id: &str) -> Option<Value> {
    MODELS.iter().find(|(known, ..)| *known == id).map(|(id, name, line)| {
        json!({
            "type": "model", "id": id, "display_name": name, "line": line, "lifecycle": "active",
            "created_at": "2026-10-01T00:00:00Z", "max_input_tokens": 1_000_000, "max_tokens": 128_000,
            "deprecated_at": null, "retires_at": null,
            "capabilities": { "image_input": { "supported": true }, "thinking": { "supported": true } },
        })
    })
}

/// A page of the list: at most `limit` models after or before the one named.
pub(crate) fn page(limit: usize, after: Option<&str>, before: Option<&str>) -> Value {
    let ids: Vec<&str> = MODELS.iter().map(|(id, ..)| *id).collect();
    let at = |id: Option<&str>| id.and_then(|id| ids.iter().position(|known| *known == id));
    let first = at(after).map_or(0, |at| at + 1);
    let end = at(before).unwrap_or(ids.len());
    let rest = ids.get(first..end).unwrap_or_default();
    let shown = &rest[..rest.len().min(limit)];
    json!({
        "data": shown.iter().filter_map(|id| find(id)).collect::<Vec<_>>(),
        "has_more": shown.len() < rest.len(),
        "first_id": shown.first(),
        "last_id": shown.last(),
    })
}
