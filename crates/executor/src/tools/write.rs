//! Write: puts a whole file into the container.
//!
//! A file that is there and was not looked at in this run is not overwritten: it may hold what the user put there since
//! the conversation began. After looking at it, or after writing it in this run, it may.

use sandbox::Error;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Context, Definition, Outcome, ToolError, context::Seen, diff, for_model, input, path, read::explain};

pub(super) const DEFINITION: Definition = (
    "Write",
    "Writes a file of the computer, replacing what was there; missing directories are made.

- file_path must be absolute.
- A file that exists must have been read with Read (or written) in this run before it can be replaced, and must not have \
changed since.
- To change a part of a file use Edit, which sends less and cannot lose the rest.",
    r#"{"type":"object","properties":{"file_path":{"type":"string","description":"Absolute path of the file"},"content":{"type":"string","description":"The whole content"}},"required":["file_path","content"],"additionalProperties":false}"#,
);

/// Files up to this size are compared with what replaces them.
pub(super) const MAX_FILE_BYTES: u64 = 16 * 1024 * 1024;

#[derive(Deserialize)]
struct Input {
    file_path: String,
    content: String,
}

pub(super) async fn call(cx: &Context, input: &RawValue) -> Result<Outcome, ToolError> {
    let Input { file_path, content } = input::parse("Write", input)?;
    let path = path::absolute("file_path", &file_path, &cx.cwd())?;
    let old = match cx.read_file(&path, 0, MAX_FILE_BYTES).await {
        Ok(old) => Some(old),
        Err(Error::NotFound(_)) => None,
        Err(err) => return Err(explain(err, &path)),
    };
    if let Some(old) = old.as_ref().filter(|old| old.size > 0) {
        match cx.seen(&path) {
            None => {
                return Err(for_model(format!(
                    "{path} exists and was not read in this run. Read it first, then write it. Nothing was written."
                )));
            }
            Some(seen) if !seen.is_same(old) => return Err(changed(&path)),
            Some(_) => {}
        }
    }
    let written = cx.write_file(&path, content.as_bytes()).await.map_err(|err| explain(err, &path))?;
    cx.note_seen(&path, Seen::whole(written.modified_ms, content.as_bytes()));
    let old_text = old.as_ref().map(|old| String::from_utf8_lossy(&old.bytes));
    let detail = diff::detail(&path, old_text.as_deref(), &content);
    let said = match old {
        None => format!("Created {path}."),
        Some(_) => format!("Replaced the content of {path}."),
    };
    Ok(Outcome::text(said, Some(detail)))
}

pub(super) fn changed(path: &str) -> ToolError {
    for_model(format!(
        "{path} has changed since it was last read, perhaps by a command or by the user. Read it again before you change \
         it. Nothing was written."
    ))
}
