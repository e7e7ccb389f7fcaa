//! From a server's answer to a result that the model can be given.

use domain::event::Detail;
use mcp::{Answer, Content};

use crate::tools::{Context, Outcome, ResultBlock, media};

/// The most of an answer that is shown to people as the call's output, in characters.
const MAX_SHOWN_CHARS: usize = 30_000;

/// Which call an answer is to.
pub(super) struct Asked<'a> {
    pub server: &'a str,
    pub tool: &'a str,
    pub arguments: &'a str,
}

impl Asked<'_> {
    /// Makes the outcome of an answer.
    pub(super) fn outcome(&self, cx: &Context, answer: Answer) -> Outcome {
        let content: Vec<_> = answer.content.into_iter().flat_map(|content| to_blocks(cx, content)).collect();
        let mut outcome = Outcome { content, is_error: answer.is_error, ..Outcome::text("", None) };
        let output = shorten(&outcome.to_text());
        let error = outcome.is_error.then(|| output.clone());
        outcome.detail = Some(self.detail(output, error));
        outcome
    }

    /// Makes the outcome of a call that the server did not answer.
    pub(super) fn failure(&self, text: String) -> Outcome {
        let detail = Some(self.detail(String::new(), Some(shorten(&text))));
        Outcome { is_error: true, ..Outcome::text(text, detail) }
    }

    fn detail(&self, output: String, error: Option<String>) -> Detail {
        let (server, tool, arguments) = (self.server.to_owned(), self.tool.to_owned(), self.arguments.to_owned());
        Detail::Mcp { server, tool, arguments, output, error }
    }
}

fn to_blocks(cx: &Context, content: Content) -> Vec<ResultBlock> {
    match content {
        Content::Text(text) => vec![ResultBlock::Text(text)],
        Content::Link { uri, about } => {
            vec![ResultBlock::Text(if about.is_empty() { uri } else { format!("{uri} ({about})") })]
        }
        Content::Bytes { media_type, bytes, of } => {
            let size = bytes.len();
            let about = format!("[{of}: {media_type}, {size} bytes");
            let why = match media::block(&bytes) {
                Some(Ok((said, block))) => match cx.take_media(size as u64) {
                    Ok(()) => return vec![ResultBlock::Text(format!("[{of}: {said}, {size} bytes]")), block],
                    Err(_) => "; no more images and documents can be shown in this run]".to_owned(),
                },
                Some(Err(why)) => format!("; it cannot be shown: {why}]"),
                // Text that a server has put into base64 is text all the same.
                None => match String::from_utf8(bytes) {
                    Ok(text) if media_type.starts_with("text/") || media_type.ends_with("json") => {
                        return vec![ResultBlock::Text(format!("{of}:\n{text}"))];
                    }
                    _ => "; it cannot be shown]".to_owned(),
                },
            };
            vec![ResultBlock::Text(format!("{about}{why}"))]
        }
    }
}

fn shorten(text: &str) -> String {
    match text.char_indices().nth(MAX_SHOWN_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
