//! Read: a file of the container as numbered lines, as a picture, as a document.
//!
//! Text is read in pieces and only the lines asked for are kept, so the size of a file is no matter.

use domain::event::Detail;
use sandbox::Error;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    Context, Definition, Outcome, ToolError,
    context::Seen,
    for_model,
    input::{self, number},
    media, notebook, path, text,
};

pub(super) const DEFINITION: Definition = (
    "Read",
    "Reads a file of the computer. Text comes as lines with their numbers, as `cat -n` prints them: the number, a tab, \
     the line. The number and the tab are not part of the file.

- file_path must be absolute. Directories cannot be read; list them with Bash (ls).
- By default the first 2000 lines are read, with offset (the first line, counted from 1) and limit (how many lines) any \
part of a file of any size. Lines are cut after 2000 characters, and a result after 100000.
- Images (PNG, JPEG, GIF, WebP, up to 5 MiB) and PDF files (up to 20 MiB, always whole) are shown to you as such. \
Notebooks (.ipynb) come as their cells with outputs. Other binary files are refused.
- To look at several files, make several calls at once.",
    r#"{"type":"object","properties":{"file_path":{"type":"string","description":"Absolute path of the file"},"offset":{"type":"integer","description":"First line to read, counted from 1"},"limit":{"type":"integer","description":"How many lines to read (default 2000)"},"pages":{"type":"string","description":"Not supported: PDF files are read whole"}},"required":["file_path"],"additionalProperties":false}"#,
);

const DEFAULT_LINES: u64 = 2000;
const MAX_LINE_CHARS: usize = 2000;
const MAX_CHARS: usize = 100_000;

/// Read at once: most files are whole with the first piece.
const PIECE_BYTES: u64 = 512 * 1024;

/// How far into a file lines are counted.
const MAX_SCANNED_BYTES: u64 = 4 * 1024 * 1024 * 1024;

#[derive(Deserialize)]
struct Input {
    file_path: String,
    #[serde(default, deserialize_with = "number")]
    offset: Option<u64>,
    #[serde(default, deserialize_with = "number")]
    limit: Option<u64>,
    #[serde(default)]
    pages: Option<String>,
}

pub(super) async fn call(cx: &Context, input: &RawValue) -> Result<Outcome, ToolError> {
    let input: Input = input::parse("Read", input)?;
    let path = path::absolute("file_path", &input.file_path, &cx.cwd())?;
    if input.limit == Some(0) {
        return Err(for_model("limit must be at least 1."));
    }
    let first = cx.read_file(&path, 0, PIECE_BYTES).await.map_err(|err| explain(err, &path))?;
    if let Some(kind) = media::Kind::of(&first.bytes) {
        if input.pages.is_some_and(|pages| !pages.trim().is_empty()) {
            return Err(for_model(
                "Page ranges are not supported. Read the whole PDF without pages, or take the pages out with Bash first.",
            ));
        }
        return media::read(cx, kind, &path, first).await;
    }
    if path.ends_with(".ipynb") && input.offset.is_none() && input.limit.is_none() {
        let bytes = cx.read_file(&path, 0, notebook::MAX_BYTES + 1).await.map_err(|err| explain(err, &path))?;
        if let Some(text) = notebook::render(&bytes.bytes) {
            cx.note_seen(&path, Seen::whole(bytes.modified_ms, &bytes.bytes));
            return Ok(Outcome::text(text::cap(text, MAX_CHARS), Some(Detail::FileRead { path, lines: None })));
        }
    }
    if is_binary(&first.bytes) {
        return Err(for_model(format!(
            "{path} is a binary file ({}), which Read cannot show. Look into it with Bash (file, strings, xxd).",
            text::size(first.size)
        )));
    }

    let mut lines = Lines::new(input.offset.unwrap_or(1).max(1), input.limit.unwrap_or(DEFAULT_LINES));
    let is_whole = (first.bytes.len() as u64) < PIECE_BYTES;
    let seen = if is_whole {
        Seen::whole(first.modified_ms, &first.bytes)
    } else {
        Seen { modified_ms: first.modified_ms, size: first.size, hash: None }
    };
    let (mut piece, mut scanned) = (first.bytes, 0);
    loop {
        lines.feed(&piece);
        scanned += piece.len() as u64;
        if lines.is_full || (piece.len() as u64) < PIECE_BYTES || scanned >= MAX_SCANNED_BYTES {
            break;
        }
        piece = cx.read_file(&path, scanned, PIECE_BYTES).await.map_err(|err| explain(err, &path))?.bytes;
    }
    cx.note_seen(&path, seen);
    let (text, shown) = lines.finish(scanned);
    Ok(Outcome::text(text, Some(Detail::FileRead { path, lines: Some(shown as i64) })))
}

/// Says what is wrong with a path in the words of this tool.
pub(super) fn explain(err: Error, path: &str) -> ToolError {
    match err {
        Error::NotFound(_) => for_model(format!("File does not exist: {path}")),
        Error::IsDirectory(_) => {
            for_model(format!("{path} is a directory, not a file. List it with Bash (ls) or find files with Glob."))
        }
        err => err.into(),
    }
}

/// Text has no NUL, and is not for the most part something that is no UTF-8.
fn is_binary(start: &[u8]) -> bool {
    let start = &start[..start.len().min(8192)];
    if start.contains(&0) {
        return true;
    }
    let bad: usize = start.utf8_chunks().map(|chunk| chunk.invalid().len()).sum();
    bad * 10 > start.len() * 3
}

/// Gathers the wanted lines from pieces of a file.
struct Lines {
    from: u64,
    limit: u64,
    /// The line that is being read, counted from 1.
    number: u64,
    line: Vec<u8>,
    has_begun: bool,
    out: String,
    out_chars: usize,
    shown: u64,
    /// There are lines after the last one shown.
    is_full: bool,
}

impl Lines {
    fn new(from: u64, limit: u64) -> Self {
        let line = Vec::new();
        Self {
            from,
            limit,
            number: 1,
            line,
            has_begun: false,
            out: String::new(),
            out_chars: 0,
            shown: 0,
            is_full: false,
        }
    }

    fn feed(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() && !self.is_full {
            let end = bytes.iter().position(|&byte| byte == b'\n');
            let part = &bytes[..end.unwrap_or(bytes.len())];
            self.has_begun = true;
            if self.number >= self.from {
                if self.shown >= self.limit {
                    self.is_full = true;
                    return;
                }
                // Enough to know that it is too long; a character has at most four bytes.
                let room = (4 * MAX_LINE_CHARS + 8).saturating_sub(self.line.len());
                self.line.extend_from_slice(&part[..part.len().min(room)]);
            }
            match end {
                Some(end) => {
                    self.end_line();
                    bytes = &bytes[end + 1..];
                }
                None => return,
            }
        }
    }

    fn end_line(&mut self) {
        self.has_begun = false;
        if self.number >= self.from {
            let line = self.line.strip_suffix(b"\r").unwrap_or(&self.line);
            let line = String::from_utf8_lossy(line);
            let line = match text::end_of(&line, MAX_LINE_CHARS) {
                Some(end) => format!("{}… [line cut after {MAX_LINE_CHARS} characters]", &line[..end]),
                None => line.into_owned(),
            };
            let chars = line.chars().count() + 8;
            if self.out_chars + chars > MAX_CHARS {
                self.is_full = true;
                return;
            }
            self.out_chars += chars;
            self.out.push_str(&format!("{:>6}\t{line}\n", self.number));
            self.shown += 1;
            self.line.clear();
        }
        self.number += 1;
    }

    fn finish(mut self, scanned: u64) -> (String, u64) {
        if self.has_begun && !self.is_full {
            self.end_line();
        }
        let lines = self.number - 1;
        if scanned == 0 {
            return ("[The file exists but is empty.]".to_owned(), 0);
        }
        if self.shown == 0 && !self.is_full {
            return (format!("[The file has {lines} lines; there is no line {}.]", self.from), 0);
        }
        let mut text = self.out;
        if self.is_full {
            let last = self.from + self.shown - 1;
            text.push_str(&format!(
                "[The file goes on. Lines {} to {last} are shown; read on with offset {}.]",
                self.from,
                last + 1
            ));
        } else {
            text.truncate(text.trim_end_matches('\n').len());
        }
        (text, self.shown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(content: &str, from: u64, limit: u64) -> String {
        let whole = {
            let mut lines = Lines::new(from, limit);
            lines.feed(content.as_bytes());
            lines.finish(content.len() as u64).0
        };
        let mut lines = Lines::new(from, limit);
        content.as_bytes().chunks(3).for_each(|piece| lines.feed(piece));
        assert_eq!(lines.finish(content.len() as u64).0, whole);
        whole
    }

    #[test]
    fn lines_are_numbered_and_paged() {
        for (content, from, limit, expected) in [
            ("a\nb\n", 1, 10, "     1\ta\n     2\tb"),
            ("a\nb", 1, 10, "     1\ta\n     2\tb"),
            ("a\r\nb\r\n", 1, 10, "     1\ta\n     2\tb"),
            (
                "a\n\n\nb",
                2,
                2,
                "     2\t\n     3\t\n[The file goes on. Lines 2 to 3 are shown; read on with offset 4.]",
            ),
            ("a\nb\nc\n", 2, 2, "     2\tb\n     3\tc"),
            ("a\nb\n", 3, 5, "[The file has 2 lines; there is no line 3.]"),
            ("", 1, 5, "[The file exists but is empty.]"),
            ("\n", 1, 5, "     1\t"),
        ] {
            assert_eq!(read(content, from, limit), expected, "{content:?} {from} {limit}");
        }
    }

    #[test]
    fn long_lines_and_long_files_are_cut() {
        let line = "ä".repeat(MAX_LINE_CHARS + 1);
        let expected = format!("     1\t{}… [line cut after 2000 characters]\n     2\tx", "ä".repeat(MAX_LINE_CHARS));
        assert_eq!(read(&format!("{line}\nx"), 1, 10), expected);
        let text = read(&"0123456789\n".repeat(20_000), 1, 20_000);
        assert!(text.chars().count() < MAX_CHARS + 200);
        assert!(text.ends_with("are shown; read on with offset 5556.]"), "{}", &text[text.len() - 100..]);
    }

    #[test]
    fn binary_content_is_recognised() {
        assert!(is_binary(b"\x7fELF\0\0"));
        assert!(is_binary(&[0xff; 100]));
        assert!(!is_binary("grün".as_bytes()));
        assert!(!is_binary(b"caf\xe9 latin-1 text is shown with a replacement"));
        assert!(!is_binary(b""));
    }
}
