//! A conversation as plain text, for a reader who shall judge it rather than go on with it.
//!
//! Blocks as they are carry calls that want their tools declared, thinking that is bound to its place, and images. A
//! summary or an answer about them needs none of that, and text of a known size fits into any window of any back end.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

/// Gives an entry's blocks as text, each shortened in its middle to about `max_block_bytes`. `speaker` stands before what
/// was said. Thinking is left out, images and unknown blocks are only named.
pub fn digest(speaker: &str, blocks: &str, max_block_bytes: usize) -> Result<String, serde_json::Error> {
    let mut out = String::new();
    for block in serde_json::from_str::<Vec<&RawValue>>(blocks)? {
        let kind: Kind<'_> = serde_json::from_str(block.get())?;
        let piece = match &*kind.r#type {
            "text" => {
                let text: Text = serde_json::from_str(block.get())?;
                format!("{speaker}: {}", shorten(text.text.trim(), max_block_bytes))
            }
            "tool_use" => {
                let call: Call = serde_json::from_str(block.get())?;
                format!("Call of {}: {}", call.name, shorten(call.input.get(), max_block_bytes))
            }
            "tool_result" => {
                let result: ToolResult = serde_json::from_str(block.get())?;
                let label = if result.is_error { "Result (an error)" } else { "Result" };
                format!(
                    "{label}: {}",
                    shorten(&result.content.map(Content::into_text).unwrap_or_default(), max_block_bytes)
                )
            }
            "thinking" | "redacted_thinking" => continue,
            other => format!("[{other}]"),
        };
        out.push_str(&piece);
        out.push('\n');
    }
    Ok(out)
}

/// Leaves out the middle of a text that is longer than `max` bytes.
pub fn shorten(text: &str, max: usize) -> Cow<'_, str> {
    if text.len() <= max {
        return text.into();
    }
    let head = text.floor_char_boundary(max / 2);
    let tail = text.ceil_char_boundary(text.len() - max / 2);
    format!("{}\n[… {} bytes left out …]\n{}", &text[..head], tail - head, &text[tail..]).into()
}

#[derive(Deserialize)]
struct Kind<'a> {
    #[serde(borrow)]
    r#type: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Text {
    text: String,
}

#[derive(Deserialize)]
struct Call {
    name: String,
    input: Box<RawValue>,
}

#[derive(Deserialize)]
struct ToolResult {
    content: Option<Content>,
    #[serde(default)]
    is_error: bool,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Content {
    Text(String),
    Blocks(Vec<Part>),
}

#[derive(Deserialize)]
struct Part {
    r#type: String,
    text: Option<String>,
}

impl Content {
    fn into_text(self) -> String {
        match self {
            Self::Text(text) => text,
            Self::Blocks(parts) => {
                let texts: Vec<_> =
                    parts.into_iter().map(|part| part.text.unwrap_or_else(|| format!("[{}]", part.r#type))).collect();
                texts.join("\n")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_said_and_done_is_told_and_what_cannot_be_read_is_named() {
        let blocks = r#"[{"type":"thinking","thinking":"hm","signature":"s"},{"type":"text","text":" On it. "},
            {"type":"tool_use","id":"t","name":"Bash","input":{"command":"ls"}},
            {"type":"tool_result","tool_use_id":"t","is_error":true,"content":[{"type":"text","text":"no"},
                {"type":"image","source":{"type":"base64","media_type":"image/png","data":"AAAA"}}]},
            {"type":"tool_result","tool_use_id":"u","content":"plain"},
            {"type":"image","source":{"type":"base64","media_type":"image/png","data":"AAAA"}}]"#;
        let expected = "Agent: On it.\nCall of Bash: {\"command\":\"ls\"}\nResult (an error): no\n[image]\nResult: plain\n[image]\n";
        assert_eq!(digest("Agent", blocks, 100).expect("reads"), expected);
    }

    #[test]
    fn a_long_block_loses_its_middle() {
        let blocks = format!(r#"[{{"type":"text","text":"a{}z"}}]"#, "ä".repeat(100));
        let text = digest("User", &blocks, 10).expect("reads");
        assert!(text.starts_with("User: aä") && text.trim_end().ends_with("äz") && text.len() < 60, "{text}");
    }
}
