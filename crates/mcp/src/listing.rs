//! What a server has: kept, so that a later run knows it before the server runs.
//!
//! The model is told of all of it with each request, and a request with one tool that the API refuses is refused as a
//! whole. So what cannot be offered is left out or brought to a form that can.

use rmcp::model;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// The most tools of one server that are offered.
const MAX_TOOLS: usize = 256;

const MAX_DESCRIPTION_CHARS: usize = 4_000;
const MAX_SCHEMA_BYTES: usize = 64 * 1024;
const MAX_NAME_BYTES: usize = 1024;

/// The API takes none of these on the top level of an input.
const COMBINATORS: [&str; 3] = ["oneOf", "anyOf", "allOf"];

/// What a server has. The same server gives the same listing, byte for byte, whatever order it answers in.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Listing {
    /// Sorted by name.
    pub tools: Vec<Tool>,
    pub has_resources: bool,
    pub has_prompts: bool,
    /// Tools that cannot be offered, and why.
    pub left_out: Vec<String>,
}

/// A tool of a server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tool {
    /// As the server calls it.
    pub name: String,
    pub description: String,
    /// A JSON schema of type object.
    pub input_schema: Value,
}

impl Listing {
    pub(crate) fn new(tools: Vec<model::Tool>, capabilities: &model::ServerCapabilities) -> Self {
        let mut listing = Self {
            has_resources: capabilities.resources.is_some(),
            has_prompts: capabilities.prompts.is_some(),
            ..Self::default()
        };
        let count = tools.len();
        for tool in tools {
            match read(tool) {
                Ok(tool) => listing.tools.push(tool),
                Err(why) => listing.left_out.push(why),
            }
        }
        listing.tools.sort_by(|a, b| a.name.cmp(&b.name));
        listing.tools.dedup_by(|a, b| a.name == b.name);
        if listing.tools.len() > MAX_TOOLS {
            listing.tools.truncate(MAX_TOOLS);
            listing.left_out.push(format!("of {count} tools {MAX_TOOLS} are offered"));
        }
        listing.left_out.truncate(20);
        listing
    }
}

fn read(tool: model::Tool) -> Result<Tool, String> {
    let name = tool.name.into_owned();
    let shown: String = name.chars().take(100).collect();
    if name.is_empty() || name.len() > MAX_NAME_BYTES {
        return Err(format!("{shown:?}: its name is empty or too long"));
    }
    let mut schema = Map::clone(&tool.input_schema);
    let mut description = tool.description.map(std::borrow::Cow::into_owned).unwrap_or_default();
    if description.trim().is_empty() {
        description = tool.title.unwrap_or_default();
    }
    if let Some((end, _)) = description.char_indices().nth(MAX_DESCRIPTION_CHARS) {
        description.truncate(end);
        description.push('…');
    }
    // What was said of the input as a whole is said in words: the server checks it anyway.
    for combinator in COMBINATORS {
        if let Some(said) = schema.remove(combinator) {
            let said = json!({ combinator: said }).to_string();
            if said.len() <= MAX_DESCRIPTION_CHARS {
                description.push_str(&format!("\n\nThe input must also satisfy this JSON schema: {said}"));
            }
        }
    }
    schema.insert("type".into(), "object".into());
    if schema.get("properties").is_some_and(|properties| !properties.is_object()) {
        schema.remove("properties");
    }
    let properties = schema.get("properties").and_then(Value::as_object);
    if let Some(odd) = properties.into_iter().flat_map(Map::keys).find(|name| !is_property(name)) {
        let odd: String = odd.chars().take(100).collect();
        return Err(format!("{shown:?}: the model cannot name its input {odd:?}"));
    }
    let input_schema = Value::Object(schema);
    if input_schema.to_string().len() > MAX_SCHEMA_BYTES {
        return Err(format!("{shown:?}: its input's schema is larger than {MAX_SCHEMA_BYTES} bytes"));
    }
    Ok(Tool { name, description, input_schema })
}

fn is_property(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing(tools: Value) -> Listing {
        Listing::new(serde_json::from_value(tools).expect("tools"), &model::ServerCapabilities::default())
    }

    #[test]
    fn what_the_api_refuses_is_brought_to_a_form_that_it_takes() {
        let tools = json!([
            {"name": "b", "inputSchema": {}},
            {"name": "a", "title": "A", "inputSchema": {"type": "object", "oneOf": [{"required": ["x"]}], "properties": {"x": {}}}},
            {"name": "odd", "inputSchema": {"type": "object", "properties": {"a b": {}}}},
            {"name": "b", "inputSchema": {"type": "object"}},
        ]);
        let listing = listing(tools);
        let names: Vec<_> = listing.tools.iter().map(|tool| tool.name.as_str()).collect();
        assert_eq!(names, ["a", "b"]);
        assert!(listing.tools.iter().all(|tool| tool.input_schema["type"] == "object"));
        let description = &listing.tools[0].description;
        assert!(description.starts_with("A\n") && description.contains(r#"{"oneOf":[{"required":["x"]}]}"#));
        assert!(listing.tools[0].input_schema.get("oneOf").is_none());
        assert_eq!(listing.left_out.len(), 1);
    }

    #[test]
    fn the_order_of_the_answer_is_no_matter() {
        let [a, b] = ["a", "b"].map(|name| json!({"name": name, "inputSchema": {"type": "object"}}));
        assert_eq!(listing(json!([a, b])), listing(json!([b, a])));
    }

    #[test]
    fn there_is_an_end_to_tools_and_to_what_is_said_of_them() {
        let tool = |n: usize| json!({"name": format!("t{n}"), "description": "ä".repeat(9000), "inputSchema": {"type": "object"}});
        let listing = listing((0..300).map(tool).collect());
        assert_eq!(listing.tools.len(), MAX_TOOLS);
        assert!(listing.tools.iter().all(|tool| tool.description.chars().count() <= MAX_DESCRIPTION_CHARS + 1));
        assert_eq!(listing.left_out.len(), 1);
    }
}
