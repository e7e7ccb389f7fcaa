//! A request, read as far as a script needs it: what the user said last, and what happened since.
//!
//! One scan over the body, borrowing everything; a benchmark's body grows to megabytes, and then nothing but the kinds of
//! the blocks is looked at.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

/// What a request asks for.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Asked {
    pub model: String,
    pub is_stream: bool,
    /// The last text block of the last user message that has text: what the user said.
    pub user_text: String,
    /// All text blocks of that message, joined by line ends.
    pub user_message: String,
    /// How many user messages with tool results came after that text.
    pub round: usize,
    /// The calls made since that text, oldest first.
    pub calls: Vec<Call>,
    /// The results given since that text, oldest first.
    pub results: Vec<ToolResult>,
    /// The names of the tools offered.
    pub tools: Vec<String>,
}

/// A call the script made earlier.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    pub id: String,
    pub name: String,
    pub input: Value,
}

/// What a call gave.
#[derive(Debug, Clone, PartialEq)]
pub struct ToolResult {
    pub tool_use_id: String,
    /// Its text blocks, joined by line ends.
    pub text: String,
    pub is_error: bool,
    /// The round it was given in, from 1.
    pub round: usize,
}

/// How much is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Detail {
    /// The user's text and the number of rounds.
    Rounds,
    Everything,
}

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow, default)]
    model: Cow<'a, str>,
    #[serde(default)]
    stream: bool,
    #[serde(borrow, default)]
    tools: Option<&'a RawValue>,
    #[serde(borrow)]
    messages: Vec<Message<'a>>,
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    role: Cow<'a, str>,
    #[serde(borrow)]
    content: &'a RawValue,
}

#[derive(Deserialize)]
struct Head<'a> {
    #[serde(borrow)]
    r#type: Cow<'a, str>,
    #[serde(borrow)]
    text: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Full<'a> {
    #[serde(borrow)]
    r#type: Cow<'a, str>,
    #[serde(borrow)]
    id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    name: Option<Cow<'a, str>>,
    input: Option<Value>,
    #[serde(borrow)]
    tool_use_id: Option<Cow<'a, str>>,
    content: Option<Value>,
    #[serde(default)]
    is_error: bool,
}

#[derive(Deserialize)]
struct ToolName<'a> {
    #[serde(borrow)]
    name: Option<Cow<'a, str>>,
}

impl Asked {
    pub(crate) fn read(body: &[u8], detail: Detail) -> Result<Self, serde_json::Error> {
        let body: Body<'_> = serde_json::from_slice(body)?;
        let mut asked = Self { model: body.model.into_owned(), is_stream: body.stream, ..Self::default() };
        let mut first_after = 0;
        for (at, message) in body.messages.iter().enumerate().rev() {
            if message.role != "user" {
                continue;
            }
            let (texts, results) = kinds(message.content)?;
            if !texts.is_empty() {
                asked.user_text = texts.last().cloned().unwrap_or_default();
                asked.user_message = texts.join("\n");
                first_after = at + 1;
                break;
            }
            asked.round += usize::from(results > 0);
        }
        if detail == Detail::Rounds {
            return Ok(asked);
        }
        if let Some(tools) = body.tools {
            let tools: Vec<ToolName<'_>> = serde_json::from_str(tools.get())?;
            asked.tools = tools.into_iter().filter_map(|tool| Some(tool.name?.into_owned())).collect();
        }
        let mut round = 0;
        for message in &body.messages[first_after.min(body.messages.len())..] {
            if !message.content.get().starts_with('[') {
                continue;
            }
            round += usize::from(message.role == "user");
            let blocks: Vec<Full<'_>> = serde_json::from_str(message.content.get())?;
            for block in blocks {
                match &*block.r#type {
                    "tool_use" => asked.calls.push(Call {
                        id: block.id.unwrap_or_default().into_owned(),
                        name: block.name.unwrap_or_default().into_owned(),
                        input: block.input.unwrap_or_default(),
                    }),
                    "tool_result" => asked.results.push(ToolResult {
                        tool_use_id: block.tool_use_id.unwrap_or_default().into_owned(),
                        text: result_text(block.content.as_ref()),
                        is_error: block.is_error,
                        round,
                    }),
                    _ => {}
                }
            }
        }
        Ok(asked)
    }

    /// The results of the newest round.
    pub fn last_results(&self) -> impl Iterator<Item = &ToolResult> {
        let newest = self.results.last().map_or(0, |result| result.round);
        self.results.iter().filter(move |result| result.round == newest)
    }

    /// The texts of the newest results, joined by line ends.
    pub fn last_result_text(&self) -> String {
        self.last_results().map(|result| result.text.as_str()).collect::<Vec<_>>().join("\n")
    }
}

/// The texts of a user message that are the user's, and how many tool results it holds. Reminders a client adds on its own
/// are no words of the user.
fn kinds(content: &RawValue) -> Result<(Vec<String>, usize), serde_json::Error> {
    if content.get().starts_with('"') {
        return Ok((vec![serde_json::from_str(content.get())?], 0));
    }
    let blocks: Vec<Head<'_>> = serde_json::from_str(content.get())?;
    let mut texts = Vec::new();
    let mut results = 0;
    for block in blocks {
        match (&*block.r#type, block.text) {
            ("text", Some(text)) => {
                let text: String = serde_json::from_str(text.get())?;
                if !text.trim_start().starts_with("<system-reminder>") {
                    texts.push(text);
                }
            }
            ("tool_result", _) => results += 1,
            _ => {}
        }
    }
    Ok((texts, results))
}

fn result_text(content: Option<&Value>) -> String {
    match content {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(blocks)) => {
            blocks.iter().filter_map(|block| block["text"].as_str()).collect::<Vec<_>>().join("\n")
        }
        _ => String::new(),
    }
}
