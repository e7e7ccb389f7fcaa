//! The web search that the back end runs itself: how it is offered, and what of its results people see.
//!
//! Results go back to the model as they came, encrypted parts and all; what is read here is a view beside them.

use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};

/// From this version on, a model searches from code that it runs there, unless it is told to search directly.
const FIRST_FROM_CODE: &str = "web_search_20260209";

/// What a search may look at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WebSearch {
    /// Searches in one request; 0 is no limit.
    pub max_uses: u32,
    /// Only these and what is below them, where there are any.
    pub allowed_domains: Vec<String>,
    /// Looked at only where nothing is allowed by name: the API takes one list.
    pub blocked_domains: Vec<String>,
}

#[derive(Serialize)]
struct Definition<'a> {
    r#type: &'a str,
    name: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_uses: Option<u32>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    allowed_domains: &'a [String],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    blocked_domains: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    allowed_callers: Option<[&'static str; 1]>,
}

impl WebSearch {
    /// Describes the tool of a version such as `web_search_20250305` to the model: always the same bytes.
    pub fn definition(&self, version: &str) -> Box<RawValue> {
        let blocked_domains = if self.allowed_domains.is_empty() { &*self.blocked_domains } else { &[] };
        let definition = Definition {
            r#type: version,
            name: "web_search",
            max_uses: Some(self.max_uses).filter(|&uses| uses > 0),
            allowed_domains: &self.allowed_domains,
            blocked_domains,
            allowed_callers: (version >= FIRST_FROM_CODE).then_some(["direct"]),
        };
        to_raw_value(&definition).expect("texts and numbers are always JSON")
    }
}

/// A page that was found.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Hit {
    #[serde(default)]
    pub url: String,
    #[serde(default)]
    pub title: String,
    /// When the page was last changed, as the API words it.
    pub page_age: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Content {
    Hits(Vec<Hit>),
    Failed { error_code: String },
}

/// Reads the content of a `web_search_tool_result`; the error is the API's code.
pub fn read_hits(content: &RawValue) -> Result<Vec<Hit>, String> {
    match serde_json::from_str(content.get()) {
        Ok(Content::Hits(hits)) => Ok(hits),
        Ok(Content::Failed { error_code }) => Err(error_code),
        Err(_) => Err("unreadable".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tool_is_offered_as_its_version_wants_it() {
        let search = WebSearch {
            max_uses: 5,
            allowed_domains: vec!["a.example".into()],
            blocked_domains: vec!["b.example".into()],
        };
        assert_eq!(
            search.definition("web_search_20250305").get(),
            r#"{"type":"web_search_20250305","name":"web_search","max_uses":5,"allowed_domains":["a.example"]}"#
        );
        let search = WebSearch { max_uses: 0, allowed_domains: Vec::new(), ..search };
        assert_eq!(
            search.definition("web_search_20260318").get(),
            r#"{"type":"web_search_20260318","name":"web_search","blocked_domains":["b.example"],"allowed_callers":["direct"]}"#
        );
    }

    #[test]
    fn results_and_errors_are_told_apart() {
        let read = |json: &str| read_hits(&RawValue::from_string(json.to_owned()).expect("JSON"));
        let hits = r#"[{"type":"web_search_result","url":"https://a.example","title":"A","page_age":"2 days ago","encrypted_content":"x"},
                       {"type":"web_search_result","url":"https://b.example","title":"B","page_age":null}]"#;
        let hits = read(hits).expect("hits");
        assert_eq!((hits[0].page_age.as_deref(), hits[1].title.as_str()), (Some("2 days ago"), "B"));
        assert_eq!(
            read(r#"{"type":"web_search_tool_result_error","error_code":"max_uses_exceeded"}"#),
            Err("max_uses_exceeded".into())
        );
        assert_eq!(read("7"), Err("unreadable".into()));
    }
}
