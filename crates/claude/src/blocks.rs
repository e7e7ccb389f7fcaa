//! Content blocks that others need to make or to look into: the only place where they meet the model's JSON.
//!
//! Made blocks have a fixed key order, so the same content gives the same bytes in every process: prompt caching and
//! signed thinking both depend on it.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::ToolUse;

/// A block to be made.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum NewBlock<'a> {
    Text {
        text: &'a str,
    },
    Image {
        source: Base64Source<'a>,
    },
    Document {
        source: Base64Source<'a>,
    },
    ToolResult {
        tool_use_id: &'a str,
        content: Vec<NewBlock<'a>>,
        #[serde(skip_serializing_if = "is_false")]
        is_error: bool,
    },
}

/// Bytes in a block, as base64.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "type", rename = "base64")]
pub struct Base64Source<'a> {
    pub media_type: &'a str,
    pub data: &'a str,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_false(value: &bool) -> bool {
    !value
}

/// Makes the JSON array of an entry of the transcript.
pub fn to_json(blocks: &[NewBlock<'_>]) -> String {
    serde_json::to_string(blocks).expect("blocks have string keys")
}

/// What an entry of the transcript holds, as far as a loop needs to know.
#[derive(Debug, Default)]
pub struct Contents {
    /// All text blocks joined.
    pub text: String,
    pub tool_uses: Vec<ToolUse>,
    /// The ids of the calls that its tool results answer.
    pub answers: Vec<String>,
}

/// Looks into an entry of the transcript (a JSON array of blocks). Unknown blocks are passed over.
pub fn look_into(blocks: &str) -> Result<Contents, serde_json::Error> {
    let mut contents = Contents::default();
    for block in serde_json::from_str::<Vec<&RawValue>>(blocks)? {
        // The type first: a block of an unknown kind may use our field names in another way.
        let kind: Kind = serde_json::from_str(block.get())?;
        match &*kind.r#type {
            "text" => contents.text.push_str(&serde_json::from_str::<Text>(block.get())?.text),
            "tool_use" => {
                let call: Call = serde_json::from_str(block.get())?;
                contents.tool_uses.push(ToolUse { id: call.id, name: call.name, input: Ok(call.input) });
            }
            "tool_result" => contents.answers.push(serde_json::from_str::<Answer>(block.get())?.tool_use_id),
            _ => {}
        }
    }
    Ok(contents)
}

/// Gives an entry's text blocks, one by one.
pub fn texts(blocks: &str) -> Result<Vec<String>, serde_json::Error> {
    let mut texts = Vec::new();
    for block in serde_json::from_str::<Vec<&RawValue>>(blocks)? {
        let kind: Kind = serde_json::from_str(block.get())?;
        if kind.r#type == "text" {
            texts.push(serde_json::from_str::<Text>(block.get())?.text);
        }
    }
    Ok(texts)
}

#[derive(Deserialize)]
struct Kind {
    r#type: String,
}

#[derive(Deserialize)]
struct Text {
    text: String,
}

#[derive(Deserialize)]
struct Call {
    id: String,
    name: String,
    input: Box<RawValue>,
}

#[derive(Deserialize)]
struct Answer {
    tool_use_id: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_looked_into_past_blocks_nobody_knows() {
        let entry = r#"[{"type":"text","text":"a"},{"type":"new_kind","text":7,"id":{}},{"type":"text","text":"b"},
            {"type":"tool_use","id":"toolu_1","name":"Bash","input":{"b": 1, "a":2},"caller":{"type":"direct"}},
            {"type":"tool_result","tool_use_id":"toolu_0","content":"x"}]"#;
        let contents = look_into(entry).expect("reads");
        assert_eq!(contents.text, "ab");
        assert_eq!(contents.answers, ["toolu_0"]);
        let [call] = contents.tool_uses.as_slice() else { panic!("one call") };
        assert_eq!((call.id.as_str(), call.name.as_str()), ("toolu_1", "Bash"));
        assert_eq!(call.input.as_ref().expect("an object").get(), r#"{"b": 1, "a":2}"#);
    }

    #[test]
    fn made_blocks_always_give_the_same_bytes() {
        let blocks = [
            NewBlock::ToolResult { tool_use_id: "t", content: vec![NewBlock::Text { text: "x" }], is_error: true },
            NewBlock::Image { source: Base64Source { media_type: "image/png", data: "AA==" } },
        ];
        assert_eq!(
            to_json(&blocks),
            r#"[{"type":"tool_result","tool_use_id":"t","content":[{"type":"text","text":"x"}],"is_error":true},{"type":"image","source":{"type":"base64","media_type":"image/png","data":"AA=="}}]"#
        );
    }
}
