//! What a server answers, in the few kinds that a model can be given.

use base64::{Engine, engine::general_purpose::STANDARD};
use rmcp::model::{CallToolResult, ContentBlock, GetPromptResult, ReadResourceResult, ResourceContents, Role};

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub content: Vec<Content>,
    pub is_error: bool,
}

/// A part of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    Text(String),
    /// Bytes of a kind that the server says they are of.
    Bytes {
        media_type: String,
        bytes: Vec<u8>,
        of: String,
    },
    /// Something that the server can be asked for.
    Link {
        uri: String,
        about: String,
    },
}

impl Content {
    fn decoded(data: &str, media_type: &str, of: impl Into<String>) -> Self {
        let (of, media_type) = (of.into(), media_type.to_owned());
        match STANDARD.decode(data.trim()) {
            Ok(bytes) => Self::Bytes { media_type, bytes, of },
            Err(_) => Self::Text(format!("[{of}: the server sent {media_type} that is not base64]")),
        }
    }
}

impl From<CallToolResult> for Answer {
    fn from(result: CallToolResult) -> Self {
        let mut content: Vec<_> = result.content.into_iter().map(Content::from).collect();
        // What is there in both forms is told once, in the one that was meant to be read.
        if let (true, Some(structured)) = (content.is_empty(), result.structured_content) {
            content.push(Content::Text(structured.to_string()));
        }
        Self { content, is_error: result.is_error == Some(true) }
    }
}

impl From<ReadResourceResult> for Answer {
    fn from(result: ReadResourceResult) -> Self {
        Self { content: result.contents.into_iter().map(Content::from).collect(), is_error: false }
    }
}

impl From<GetPromptResult> for Answer {
    fn from(result: GetPromptResult) -> Self {
        let mut content: Vec<_> = result.description.into_iter().map(Content::Text).collect();
        for message in result.messages {
            let speaker = if message.role == Role::Assistant { "[assistant]" } else { "[user]" };
            content.push(Content::Text(speaker.to_owned()));
            content.push(message.content.into());
        }
        Self { content, is_error: false }
    }
}

impl From<ContentBlock> for Content {
    fn from(block: ContentBlock) -> Self {
        match block {
            ContentBlock::Text(text) => Self::Text(text.text),
            ContentBlock::Image(image) => Self::decoded(&image.data, &image.mime_type, "image"),
            ContentBlock::Audio(audio) => Self::decoded(&audio.data, &audio.mime_type, "audio"),
            ContentBlock::Resource(embedded) => embedded.resource.into(),
            ContentBlock::ResourceLink(link) => {
                let about = [Some(link.name), link.title, link.description, link.mime_type];
                let about: Vec<_> = about.into_iter().flatten().filter(|text| !text.is_empty()).collect();
                Self::Link { uri: link.uri, about: about.join(", ") }
            }
            _ => Self::Text("[content of a kind that is not known here]".to_owned()),
        }
    }
}

impl From<ResourceContents> for Content {
    fn from(contents: ResourceContents) -> Self {
        match contents {
            ResourceContents::TextResourceContents { uri, text, .. } => Self::Text(format!("{uri}:\n{text}")),
            ResourceContents::BlobResourceContents { uri, mime_type, blob, .. } => {
                Self::decoded(&blob, mime_type.as_deref().unwrap_or("application/octet-stream"), uri)
            }
            _ => Self::Text("[a resource of a kind that is not known here]".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn answer(result: Value) -> Answer {
        serde_json::from_value::<CallToolResult>(result).expect("a result").into()
    }

    #[test]
    fn every_kind_of_content_is_told() {
        let answer = answer(json!({"content": [
            {"type": "text", "text": "a"},
            {"type": "image", "data": "AQI=", "mimeType": "image/png"},
            {"type": "audio", "data": "AQI=", "mimeType": "audio/wav"},
            {"type": "resource", "resource": {"uri": "x://1", "text": "t"}},
            {"type": "resource", "resource": {"uri": "x://2", "blob": "AQI=", "mimeType": "application/pdf"}},
            {"type": "resource", "resource": {"uri": "x://3", "blob": "!", "mimeType": "application/pdf"}},
            {"type": "resource_link", "uri": "x://4", "name": "n", "description": "d"},
        ], "structuredContent": {"a": 1}, "isError": true}));
        assert!(answer.is_error);
        let bytes = |of: &str, media_type: &str| Content::Bytes {
            media_type: media_type.into(),
            bytes: vec![1, 2],
            of: of.into(),
        };
        let expected = vec![
            Content::Text("a".into()),
            bytes("image", "image/png"),
            bytes("audio", "audio/wav"),
            Content::Text("x://1:\nt".into()),
            bytes("x://2", "application/pdf"),
            Content::Text("[x://3: the server sent application/pdf that is not base64]".into()),
            Content::Link { uri: "x://4".into(), about: "n, d".into() },
        ];
        assert_eq!(answer.content, expected);
    }

    #[test]
    fn what_is_structured_only_is_told_as_it_is() {
        let answer = answer(json!({"content": [], "structuredContent": {"b": 1, "a": [2]}}));
        assert_eq!(answer, Answer { content: vec![Content::Text(r#"{"b":1,"a":[2]}"#.into())], is_error: false });
    }
}
