//! Glob: files by the shape of their path, newest first.

use std::{cmp::Reverse, collections::BinaryHeap, ops::ControlFlow};

use domain::event::Detail;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    Context, Definition, Outcome, ToolError, for_model, input, path,
    search::{self, End},
};

pub(super) const DEFINITION: Definition = (
    "Glob",
    "Finds files by a pattern for their path, such as `**/*.py` or `src/**/*.{ts,tsx}`. Gives at most 100 absolute paths, \
     the most recently changed first.

- `*` stands for any characters but `/`, `**` for any directories, `{a,b}` for either, `[a-z]` for one of these.
- A pattern without a `/` finds files of that name at any depth. Hidden and ignored files are found too, `.git` is left \
out.
- path is the directory to search, by default the working directory. To search for text in files use Grep.",
    r#"{"type":"object","properties":{"pattern":{"type":"string","description":"The pattern; may be absolute"},"path":{"type":"string","description":"Directory to search (default: the working directory)"}},"required":["pattern"],"additionalProperties":false}"#,
);

const MAX_FILES: usize = 100;

#[derive(Deserialize)]
struct Input {
    pattern: String,
    #[serde(default)]
    path: Option<String>,
}

/// The newest files found so far, and how many there are in all.
#[derive(Default)]
pub(super) struct Newest {
    /// Smallest on top: the oldest is the next to be dropped.
    files: BinaryHeap<Reverse<(Time, Vec<u8>)>>,
    pub count: u64,
    keep: usize,
}

/// Seconds and nanoseconds.
type Time = (i64, u32);

impl Newest {
    pub(super) fn keeping(keep: usize) -> Self {
        Self { keep, ..Self::default() }
    }

    /// Takes a record of `stat`: the time of change, a space, the name.
    pub(super) fn take(&mut self, record: &[u8]) {
        let Some(space) = record.iter().position(|&byte| byte == b' ') else { return };
        let time = std::str::from_utf8(&record[..space]).unwrap_or_default();
        let (seconds, nanos) = time.split_once('.').unwrap_or((time, "0"));
        let time = (seconds.parse().unwrap_or(0), nanos.parse().unwrap_or(0));
        self.count += 1;
        self.files.push(Reverse((time, record[space + 1..].to_vec())));
        if self.files.len() > self.keep {
            self.files.pop();
        }
    }

    /// Gives the names, newest first.
    pub(super) fn into_names(self) -> Vec<String> {
        let sorted = self.files.into_sorted_vec();
        sorted.into_iter().map(|Reverse((_, name))| String::from_utf8_lossy(&name).into_owned()).collect()
    }
}

pub(super) async fn call(cx: &Context, input: &RawValue) -> Result<Outcome, ToolError> {
    let Input { pattern, path } = input::parse("Glob", input)?;
    if pattern.trim().is_empty() || pattern.contains('\0') {
        return Err(for_model("pattern is empty."));
    }
    let path = match path.filter(|path| !path.is_empty()) {
        Some(path) => path::resolve("path", &path, &cx.cwd())?,
        None => cx.cwd(),
    };
    let (directory, relative) = split(&path, &pattern);
    let mut argv: Vec<String> = ["sh", "-c", search::WITH_TIMES, "sh", "--files", "--null"].map(str::to_owned).to_vec();
    argv.extend(["--no-config", "--no-messages", "--no-ignore", "--hidden"].map(str::to_owned));
    // A leading `!` would turn the meaning around.
    let escaped = if relative.starts_with('!') { format!("\\{relative}") } else { relative.clone() };
    argv.extend(["--glob".to_owned(), escaped]);
    if !pattern.contains(".git") && !path.contains("/.git") {
        argv.extend(["--glob".to_owned(), "!**/.git/**".to_owned()]);
    }

    let start = || Newest::keeping(MAX_FILES);
    let take = |newest: &mut Newest, record: &[u8]| {
        newest.take(record);
        ControlFlow::Continue(())
    };
    let (newest, end) = match search::run(cx, argv, &directory, 0, start, take).await {
        Err(ToolError::ForModel(text)) if text.contains(&format!("There is no file or directory {directory}")) => {
            return Err(for_model(format!("Directory does not exist: {directory}")));
        }
        result => result?,
    };
    let count = newest.count;
    let base = directory.trim_end_matches('/');
    let names: Vec<_> = newest.into_names().into_iter().map(|name| format!("{base}/{name}")).collect();
    let mut text = if names.is_empty() { "No files found".to_owned() } else { names.join("\n") };
    if count > MAX_FILES as u64 {
        text.push_str(&format!(
            "\n[{count} files found, the {MAX_FILES} newest are shown. Take a more specific pattern or path for others.]"
        ));
    }
    if end == End::TimedOut {
        text.push_str("\n[The search took too long and was ended: there may be more. Take a more specific path.]");
    }
    Ok(Outcome::text(text, Some(Detail::Search { pattern, matches: count as i64 })))
}

/// Takes the directories at the front of an absolute pattern, which has no place in a search below another directory.
fn split(path: &str, pattern: &str) -> (String, String) {
    if !pattern.starts_with('/') {
        return (path.to_owned(), pattern.trim_start_matches("./").to_owned());
    }
    let plain = pattern.find(['*', '?', '[', '{', '\\']).unwrap_or(pattern.len());
    let at = pattern[..plain].rfind('/').unwrap_or(0);
    let directory = if at == 0 { "/" } else { &pattern[..at] };
    // With a slash in front the rest is meant from that directory on, not at any depth.
    let rest = &pattern[at..];
    let rest = if rest.starts_with("/**") { &rest[1..] } else { rest };
    (directory.to_owned(), rest.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_absolute_pattern_says_where_to_search() {
        for (pattern, directory, rest) in [
            ("*.py", "/workspace", "*.py"),
            ("./src/*.py", "/workspace", "src/*.py"),
            ("/srv/app/**/*.ts", "/srv/app", "**/*.ts"),
            ("/srv/app/*.ts", "/srv/app", "/*.ts"),
            ("/srv/app/main.ts", "/srv/app", "/main.ts"),
            ("/*.txt", "/", "/*.txt"),
        ] {
            assert_eq!(split("/workspace", pattern), (directory.to_owned(), rest.to_owned()), "{pattern}");
        }
    }

    #[test]
    fn the_newest_files_are_kept() {
        let mut newest = Newest::keeping(2);
        for record in ["10.5 old", "30.000000001 new name", "30.000000002 newest", "nonsense", "20.0 middle"] {
            newest.take(record.as_bytes());
        }
        assert_eq!(newest.count, 4);
        assert_eq!(newest.into_names(), ["newest", "new name"]);
    }
}
