//! `DeepResearch`: has a question answered from many pages, in a report. What it asks for; carrying it out is
//! `crate::agents`.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Definition, ToolError, for_model, input};

pub(crate) const NAME: &str = "DeepResearch";

pub(super) const DEFINITION: Definition = (
    NAME,
    "Researches a question in depth: it is divided, several agents search the web and read pages side by side, and a report \
     is written whose every citation is a page that was read. Use it for questions that need many sources; for a single \
     fact a search is enough. It takes minutes and costs accordingly, so ask once, for everything.

- query is the whole question: what is to be found out, what is known already, what the answer is for. The agents know \
nothing of this conversation.
- The report is a Markdown file in /workspace/research, with a list of the sources beside it. You are given its text.",
    r#"{"type":"object","properties":{"query":{"type":"string","minLength":3,"description":"What is to be found out, complete in itself"}},"required":["query"],"additionalProperties":false}"#,
);

/// The longest question, in characters.
const MAX_QUERY_CHARS: usize = 20_000;

#[derive(Deserialize)]
struct Input {
    #[serde(alias = "topic", alias = "question")]
    query: String,
}

/// Reads the question of a call.
///
/// # Errors
/// `ForModel`: what is wrong with it.
pub(crate) fn parse(input: &RawValue) -> Result<String, ToolError> {
    let Input { query } = input::parse(NAME, input)?;
    let query = query.trim();
    match query.chars().count() {
        0..3 => Err(for_model("The query is empty: there is nothing to be found out.")),
        3..=MAX_QUERY_CHARS => Ok(query.to_owned()),
        _ => Err(for_model(format!("The query must have at most {MAX_QUERY_CHARS} characters."))),
    }
}
