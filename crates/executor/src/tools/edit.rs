//! Edit: replaces one text in a file by another.
//!
//! As in Claude Code today a file need not have been read in this run: `old_string` has to be there exactly and once, so
//! nothing is changed that the model does not know. A file that was read and has changed since is refused all the same,
//! because what the model believes of the rest may be wrong.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    Context, Definition, Outcome, ToolError,
    context::Seen,
    diff, for_model,
    input::{self, boolean},
    path,
    read::explain,
    text,
    write::{MAX_FILE_BYTES, changed},
};

pub(super) const DEFINITION: Definition = (
    "Edit",
    "Replaces a text in a file of the computer by another.

- file_path must be absolute. The file must be UTF-8 text.
- old_string must stand in the file exactly as given, white space included, and without the line numbers that Read puts in \
front. It must be there once: take more of its surroundings to make it unique, or set replace_all to replace every \
occurrence.
- A file that has changed since you read it is refused: read it again.
- An empty old_string makes a new file, or fills an empty one.",
    r#"{"type":"object","properties":{"file_path":{"type":"string","description":"Absolute path of the file"},"old_string":{"type":"string","description":"The text to replace"},"new_string":{"type":"string","description":"The text to put in its place"},"replace_all":{"type":"boolean","description":"Replace every occurrence (default false)"}},"required":["file_path","old_string","new_string"],"additionalProperties":false}"#,
);

/// How much of a text is repeated in an error, in characters.
const QUOTED_CHARS: usize = 500;

#[derive(Deserialize)]
struct Input {
    file_path: String,
    old_string: String,
    new_string: String,
    #[serde(default, deserialize_with = "boolean")]
    replace_all: Option<bool>,
}

pub(super) async fn call(cx: &Context, input: &RawValue) -> Result<Outcome, ToolError> {
    let Input { file_path, old_string, new_string, replace_all } = input::parse("Edit", input)?;
    let path = path::absolute("file_path", &file_path, &cx.cwd())?;
    if old_string == new_string {
        return Err(for_model("old_string and new_string are the same: there is nothing to change."));
    }
    let file = match cx.read_file(&path, 0, MAX_FILE_BYTES).await {
        Ok(file) => Some(file),
        Err(sandbox::Error::NotFound(_)) if old_string.is_empty() => None,
        Err(err) => return Err(explain(err, &path)),
    };
    let content = match &file {
        None => None,
        Some(file) if file.size > file.bytes.len() as u64 => {
            return Err(for_model(format!(
                "{path} has {}, more than Edit can take. Change it with Bash.",
                text::size(file.size)
            )));
        }
        Some(file) => Some(std::str::from_utf8(&file.bytes).map_err(|_| {
            for_model(format!("{path} is not UTF-8 text, so Edit would damage it. Change it with Bash."))
        })?),
    };
    if let (Some(file), Some(seen)) = (&file, cx.seen(&path))
        && !seen.is_same(file)
    {
        return Err(changed(&path));
    }
    let (new, count) = replace(content, &old_string, &new_string, replace_all.unwrap_or(false)).map_err(|why| {
        for_model(format!("{why} ({path}). Nothing was changed.\nold_string: {}", quote(&old_string)))
    })?;
    let written = cx.write_file(&path, new.as_bytes()).await.map_err(|err| explain(err, &path))?;
    cx.note_seen(&path, Seen::whole(written.modified_ms, new.as_bytes()));
    let detail = diff::detail(&path, content, &new);
    let said = match (content, count) {
        (None, _) => format!("Created {path}."),
        (Some(_), 1) => format!("Replaced 1 occurrence in {path}."),
        (Some(_), count) => format!("Replaced {count} occurrences in {path}."),
    };
    Ok(Outcome::text(said, Some(detail)))
}

/// Gives the new content and how often the text was replaced, or what is wrong.
fn replace(content: Option<&str>, old: &str, new: &str, all: bool) -> Result<(String, usize), String> {
    let Some(content) = content.filter(|content| !content.is_empty()) else {
        return match old {
            "" => Ok((new.to_owned(), 1)),
            _ => Err("old_string does not stand in the file, which is empty".to_owned()),
        };
    };
    if old.is_empty() {
        return Err("old_string is empty, but the file is not".to_owned());
    }
    // Read shows no carriage returns, so a file of Windows line ends is met halfway.
    if !content.contains(old) && content.contains("\r\n") && !old.contains('\r') {
        let (old, new) = (old.replace('\n', "\r\n"), new.replace("\r\n", "\n").replace('\n', "\r\n"));
        if content.contains(&old) {
            return replace(Some(content), &old, &new, all);
        }
    }
    match content.matches(old).count() {
        0 => Err("old_string does not stand in the file".to_owned()),
        1 => Ok((content.replacen(old, new, 1), 1)),
        count if all => Ok((content.replace(old, new), count)),
        count => Err(format!(
            "old_string stands in the file {count} times; give more of its surroundings to make it unique, or set \
             replace_all"
        )),
    }
}

fn quote(old: &str) -> String {
    text::shorten(old, QUOTED_CHARS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_replaced_where_it_is_meant() {
        for (content, old, new, all, expected) in [
            (Some("a b a"), "b", "c", false, Ok(("a c a", 1))),
            (Some("a b a"), "a", "c", true, Ok(("c b c", 2))),
            (Some("a b a"), "b", "$0\\1", false, Ok(("a $0\\1 a", 1))),
            (Some("a\r\nb\r\nc"), "a\nb", "x\ny", false, Ok(("x\r\ny\r\nc", 1))),
            (Some("a\r\nb\r\n"), "a\r\nb", "x", false, Ok(("x\r\n", 1))),
            (Some(""), "", "x", false, Ok(("x", 1))),
            (None, "", "x", false, Ok(("x", 1))),
            (Some("a"), "", "x", false, Err("old_string is empty, but the file is not")),
            (Some(""), "a", "x", false, Err("old_string does not stand in the file, which is empty")),
            (Some("a"), "b", "x", true, Err("old_string does not stand in the file")),
            (
                Some("a a"),
                "a",
                "x",
                false,
                Err("old_string stands in the file 2 times; give more of its surroundings to make it unique, or set \
                     replace_all"),
            ),
        ] {
            let result = replace(content, old, new, all);
            let result = result.as_ref().map(|(text, count)| (text.as_str(), *count)).map_err(String::as_str);
            assert_eq!(result, expected, "{content:?} {old:?}");
        }
    }
}
