//! Calls that the model's back end makes itself, in the middle of a reply: shown like calls of ours.
//!
//! Nothing is called here. A reply holds the call and, as a rule, its result; where the back end paused in between, the result
//! comes with a later reply.

use std::collections::BTreeMap;

use domain::event::{Detail, Event, Item, SearchHit, ToolCall, ToolResult};
use serde::Deserialize;
use serde_json::value::RawValue;

/// The calls of the newest reply, by id, until their results come.
#[derive(Debug, Default)]
pub(crate) struct ServerCalls(BTreeMap<String, (String, Box<RawValue>)>);

#[derive(Deserialize)]
struct Input {
    query: Option<String>,
}

impl ServerCalls {
    /// Tells whether the last reply holds a call without a result.
    pub(crate) fn has_open(&self) -> bool {
        !self.0.is_empty()
    }

    /// The model has asked for a call.
    pub(crate) fn begun(&mut self, id: String, name: String, input: Box<RawValue>) -> Event {
        let name = shown_name(&name).to_owned();
        self.0.insert(id.clone(), (name.clone(), input.clone()));
        Event::ItemStarted { item: Item::ToolCall(ToolCall { id, name, input, result: None }) }
    }

    /// A result came. Its call is not known any more where another process saw it.
    pub(crate) fn ended(&mut self, kind: &str, id: String, content: &RawValue) -> Event {
        let known = self.0.remove(&id);
        let name = kind.strip_suffix("_tool_result").unwrap_or(kind);
        let (name, input) = known.unwrap_or_else(|| {
            (shown_name(name).to_owned(), RawValue::from_string("{}".to_owned()).expect("{} is JSON"))
        });
        let result = if kind == "web_search_tool_result" { search_result(&input, content) } else { other_result() };
        Event::ItemCompleted { item: Item::ToolCall(ToolCall { id, name, input, result: Some(result) }) }
    }
}

/// The name that our own tool for the same has.
fn shown_name(name: &str) -> &str {
    match name {
        "web_search" => "WebSearch",
        "web_fetch" => "WebFetch",
        other => other,
    }
}

fn search_result(input: &RawValue, content: &RawValue) -> ToolResult {
    let input: Input = serde_json::from_str(input.get()).unwrap_or(Input { query: None });
    let query = input.query.unwrap_or_default();
    match claude::read_hits(content) {
        Ok(hits) => {
            let hits: Vec<_> =
                hits.into_iter().map(|hit| SearchHit { title: hit.title, url: hit.url, date: hit.page_age }).collect();
            let lines = hits.iter().map(|hit| {
                let date = hit.date.as_deref().map(|date| format!(" ({date})")).unwrap_or_default();
                format!("{}{date}\n{}", hit.title, hit.url)
            });
            let text = lines.collect::<Vec<_>>().join("\n");
            ToolResult { is_error: false, text, duration_ms: 0, detail: Some(Detail::WebSearch { query, hits }) }
        }
        Err(code) => {
            let text = format!("The search failed: {code}.");
            ToolResult { is_error: true, text, duration_ms: 0, detail: None }
        }
    }
}

fn other_result() -> ToolResult {
    ToolResult { is_error: false, text: String::new(), duration_ms: 0, detail: None }
}
