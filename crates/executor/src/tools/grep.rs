//! Grep: text in files, by ripgrep in the container.

use std::ops::ControlFlow;

use domain::event::Detail;
use sandbox::Error;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    Context, Definition, Outcome, ToolError, for_model,
    glob::Newest,
    input::{self, boolean, number},
    path,
    search::{self, End},
    text,
};

pub(super) const DEFINITION: Definition = (
    "Grep",
    "Searches the content of files with ripgrep. Files that .gitignore excludes, binary files and `.git` are left out.

- pattern is a regular expression in the syntax of Rust's regex (`log.*Error`, `fn\\s+\\w+`); braces that are meant \
literally are escaped (`interface\\{\\}`).
- path is a file or directory, by default the working directory. glob (`*.js`, `**/*.{ts,tsx}`) and type (`py`, `rust`, \
`js`) narrow the files.
- output_mode: files_with_matches (default) gives paths, the most recently changed first; content gives the lines, with \
their numbers unless -n is false, and with -A, -B, -C or context the lines around them; count gives the number of matching \
lines in each file.
- head_limit bounds the lines or files given (default 250, 0 for all), offset leaves out so many before them.
- Matches stay within a line unless multiline is set.",
    r#"{"type":"object","properties":{"pattern":{"type":"string","description":"Regular expression to search for"},"path":{"type":"string","description":"File or directory to search (default: the working directory)"},"glob":{"type":"string","description":"Only files that this pattern fits"},"type":{"type":"string","description":"Only files of this type, such as py, js, rust"},"output_mode":{"type":"string","enum":["content","files_with_matches","count"],"description":"What to give (default files_with_matches)"},"-A":{"type":"integer","description":"Lines after each match (content)"},"-B":{"type":"integer","description":"Lines before each match (content)"},"-C":{"type":"integer","description":"Lines before and after each match (content)"},"context":{"type":"integer","description":"Same as -C"},"-n":{"type":"boolean","description":"Line numbers (content, default true)"},"-i":{"type":"boolean","description":"Ignore case"},"-o":{"type":"boolean","description":"Only the matching part of each line (content)"},"head_limit":{"type":"integer","description":"Lines or files to give (default 250, 0 for all)"},"offset":{"type":"integer","description":"Lines or files to leave out first (default 0)"},"multiline":{"type":"boolean","description":"Let matches span lines; . matches a line end (default false)"}},"required":["pattern"],"additionalProperties":false}"#,
);

const DEFAULT_HEAD: u64 = 250;

/// The most of the matching lines, in characters.
const MAX_CHARS: usize = 30_000;

/// Paths taken to be sorted by time, when the model asks for all.
const MAX_FILES: u64 = 10_000;

/// Lines of context that make sense.
const MAX_CONTEXT: u64 = 1000;

#[derive(Deserialize)]
struct Input {
    pattern: String,
    #[serde(default)]
    path: Option<String>,
    #[serde(default)]
    glob: Option<String>,
    #[serde(default, rename = "type")]
    kind: Option<String>,
    #[serde(default)]
    output_mode: Option<Mode>,
    #[serde(default, rename = "-A", deserialize_with = "number")]
    after: Option<u64>,
    #[serde(default, rename = "-B", deserialize_with = "number")]
    before: Option<u64>,
    #[serde(default, rename = "-C", deserialize_with = "number")]
    around: Option<u64>,
    #[serde(default, deserialize_with = "number")]
    context: Option<u64>,
    #[serde(default, rename = "-n", deserialize_with = "boolean")]
    numbers: Option<bool>,
    #[serde(default, rename = "-i", deserialize_with = "boolean")]
    ignore_case: Option<bool>,
    #[serde(default, rename = "-o", deserialize_with = "boolean")]
    only_matching: Option<bool>,
    #[serde(default, deserialize_with = "number")]
    head_limit: Option<u64>,
    #[serde(default, deserialize_with = "number")]
    offset: Option<u64>,
    #[serde(default, deserialize_with = "boolean")]
    multiline: Option<bool>,
}

#[derive(Deserialize, Debug, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
enum Mode {
    Content,
    FilesWithMatches,
    Count,
}

pub(super) async fn call(cx: &Context, input: &RawValue) -> Result<Outcome, ToolError> {
    let input: Input = input::parse("Grep", input)?;
    if input.pattern.is_empty() || input.pattern.contains('\0') {
        return Err(for_model("pattern is empty."));
    }
    let path = match input.path.as_deref().filter(|path| !path.is_empty()) {
        Some(path) => path::resolve("path", path, &cx.cwd())?,
        None => cx.cwd(),
    };
    // Asked first: ripgrep's own complaint would be among others that are of no interest.
    match cx.read_file(&path, 0, 0).await {
        Ok(_) | Err(Error::IsDirectory(_) | Error::PermissionDenied(_) | Error::Other { .. }) => {}
        Err(Error::NotFound(_) | Error::NotADirectory(_)) => {
            return Err(for_model(format!("Path does not exist: {path}")));
        }
        Err(err) => return Err(err.into()),
    }
    let mode = input.output_mode.unwrap_or(Mode::FilesWithMatches);
    let page = Page {
        offset: input.offset.unwrap_or(0),
        limit: match input.head_limit.unwrap_or(DEFAULT_HEAD) {
            0 => u64::MAX,
            limit => limit,
        },
    };
    let arguments = arguments(&input, mode, path);
    let (text, matches) = match mode {
        Mode::Content => content(cx, arguments, page).await?,
        Mode::FilesWithMatches => files(cx, arguments, page).await?,
        Mode::Count => counts(cx, arguments, page).await?,
    };
    Ok(Outcome::text(text, Some(Detail::Search { pattern: text::shorten(&input.pattern, 1000), matches })))
}

/// Makes ripgrep's arguments.
fn arguments(input: &Input, mode: Mode, path: String) -> Vec<String> {
    let mut list: Vec<String> =
        ["--no-config", "--no-messages", "--color=never", "--no-heading", "--hidden", "--glob=!**/.git/**"]
            .map(str::to_owned)
            .to_vec();
    let mut add = |argument: String| list.push(argument);
    if input.ignore_case == Some(true) {
        add("--ignore-case".into());
    }
    if input.multiline == Some(true) {
        add("--multiline".into());
        add("--multiline-dotall".into());
    }
    match mode {
        Mode::FilesWithMatches => {
            add("--files-with-matches".into());
            add("--null".into());
        }
        Mode::Count => {
            add("--count".into());
            add("--with-filename".into());
            add("--null".into());
            add("--sort=path".into());
        }
        Mode::Content => {
            // In one order each time, or pages would not fit together.
            add("--sort=path".into());
            add("--max-columns=500".into());
            add("--max-columns-preview".into());
            add(if input.numbers == Some(false) { "--no-line-number" } else { "--line-number" }.into());
            if input.only_matching == Some(true) {
                add("--only-matching".into());
            }
            let around = input.context.or(input.around);
            for (flag, lines) in [
                ("--context", around),
                ("--after-context", input.after.filter(|_| around.is_none())),
                ("--before-context", input.before.filter(|_| around.is_none())),
            ] {
                if let Some(lines) = lines {
                    add(format!("{flag}={}", lines.min(MAX_CONTEXT)));
                }
            }
        }
    }
    if let Some(kind) = input.kind.as_deref().filter(|kind| !kind.is_empty()) {
        add(format!("--type={kind}"));
    }
    for glob in globs(input.glob.as_deref().unwrap_or_default()) {
        add(format!("--glob={glob}"));
    }
    add(format!("--regexp={}", input.pattern));
    add("--".into());
    add(path);
    list
}

/// Several patterns may be given, divided by white space or by commas that are in no braces.
fn globs(text: &str) -> Vec<String> {
    let (mut globs, mut depth) = (vec![String::new()], 0i32);
    for c in text.chars() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if c.is_whitespace() || (c == ',' && depth <= 0) {
            globs.push(String::new());
        } else if let Some(glob) = globs.last_mut() {
            glob.push(c);
        }
    }
    globs.retain(|glob| !glob.is_empty());
    globs
}

/// Which of the results are wanted.
#[derive(Debug, Clone, Copy)]
struct Page {
    offset: u64,
    limit: u64,
}

impl Page {
    fn end(self) -> u64 {
        self.offset.saturating_add(self.limit)
    }

    /// Says that there is more than was given.
    fn note(self, given: u64, what: &str) -> String {
        let next = self.offset + given;
        format!("\n[{given} {what} are shown, from offset {}; there are more. Go on with offset {next}.]", self.offset)
    }
}

fn late(end: End) -> &'static str {
    match end {
        End::TimedOut => "\n[The search took too long and was ended: there may be more. Take a more specific path.]",
        End::Complete | End::Enough => "",
    }
}

fn direct(arguments: Vec<String>) -> Vec<String> {
    std::iter::once("rg".to_owned()).chain(arguments).collect()
}

#[derive(Default)]
struct Lines {
    passed: u64,
    text: String,
    chars: usize,
    given: u64,
}

async fn content(cx: &Context, arguments: Vec<String>, page: Page) -> Result<(String, i64), ToolError> {
    let take = |lines: &mut Lines, record: &[u8]| {
        lines.passed += 1;
        if lines.passed <= page.offset {
            return ControlFlow::Continue(());
        }
        let line = String::from_utf8_lossy(record);
        // Several kilobytes long only with `-o` or in a binary file.
        let line = text::shorten(line.trim_end_matches('\r'), 4000);
        let chars = line.chars().count() + 1;
        if lines.passed > page.end() || lines.chars + chars > MAX_CHARS {
            return ControlFlow::Break(());
        }
        lines.text.push_str(&line);
        lines.text.push('\n');
        lines.chars += chars;
        lines.given += 1;
        ControlFlow::Continue(())
    };
    let (mut lines, end) = search::run(cx, direct(arguments), "/", b'\n', Lines::default, take).await?;
    lines.text.truncate(lines.text.trim_end_matches('\n').len());
    if lines.given == 0 {
        let none = if lines.passed > 0 { "No matches beyond this offset" } else { "No matches found" };
        return Ok((format!("{none}{}", late(end)), 0));
    }
    if end == End::Enough {
        lines.text.push_str(&page.note(lines.given, "lines"));
    }
    Ok((lines.text + late(end), lines.given as i64))
}

async fn files(cx: &Context, arguments: Vec<String>, page: Page) -> Result<(String, i64), ToolError> {
    let script = ["sh", "-c", search::WITH_TIMES, "sh"].map(str::to_owned);
    let argv = script.into_iter().chain(arguments).collect();
    let keep = page.end().min(MAX_FILES) as usize;
    let take = |newest: &mut Newest, record: &[u8]| {
        newest.take(record);
        ControlFlow::Continue(())
    };
    let (newest, end) = search::run(cx, argv, "/", 0, || Newest::keeping(keep), take).await?;
    let count = newest.count;
    if count == 0 {
        return Ok((format!("No files found{}", late(end)), 0));
    }
    let names: Vec<_> = newest.into_names().into_iter().skip(page.offset.min(MAX_FILES) as usize).collect();
    let given = names.len() as u64;
    let noun = if count == 1 { "file" } else { "files" };
    let mut text = format!("Found {count} {noun}\n{}", names.join("\n"));
    if page.offset + given < count {
        text.push_str(&page.note(given, "files"));
    }
    Ok((text + late(end), count as i64))
}

#[derive(Default)]
struct Counts {
    lines: Vec<String>,
    files: u64,
    matches: u64,
}

async fn counts(cx: &Context, arguments: Vec<String>, page: Page) -> Result<(String, i64), ToolError> {
    let take = |counts: &mut Counts, record: &[u8]| {
        // `path NUL count`
        let record = String::from_utf8_lossy(record);
        let Some((name, count)) = record.split_once('\0') else { return ControlFlow::Continue(()) };
        counts.files += 1;
        counts.matches += count.parse::<u64>().unwrap_or(0);
        if counts.files > page.offset && counts.files <= page.end().min(page.offset.saturating_add(MAX_FILES)) {
            counts.lines.push(format!("{name}:{count}"));
        }
        ControlFlow::Continue(())
    };
    let (counts, end) = search::run(cx, direct(arguments), "/", b'\n', Counts::default, take).await?;
    let Counts { lines, files, matches } = counts;
    if files == 0 {
        return Ok((format!("No matches found{}", late(end)), 0));
    }
    let mut text = lines.join("\n");
    text.push_str(&format!("\n[{matches} matching lines in {files} files]"));
    if page.offset + (lines.len() as u64) < files {
        text.push_str(&page.note(lines.len() as u64, "files"));
    }
    Ok((text + late(end), matches as i64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_patterns_for_files_may_be_given() {
        for (text, expected) in [
            ("", &[][..]),
            ("*.js", &["*.js"]),
            ("*.js,*.ts", &["*.js", "*.ts"]),
            ("*.js *.ts", &["*.js", "*.ts"]),
            ("**/*.{ts,tsx}, *.md", &["**/*.{ts,tsx}", "*.md"]),
        ] {
            assert_eq!(globs(text), expected, "{text}");
        }
    }

    #[test]
    fn every_option_reaches_ripgrep() {
        let json = r#"{"pattern":"-x","path":"/p","glob":"*.a","type":"py","output_mode":"content","-A":1,"-B":"2","-n":false,"-i":true,"-o":true,"multiline":true}"#;
        let input: Input = serde_json::from_str(json).unwrap();
        let arguments = arguments(&input, Mode::Content, "/p".into()).join(" ");
        assert_eq!(
            arguments,
            "--no-config --no-messages --color=never --no-heading --hidden --glob=!**/.git/** --ignore-case --multiline \
             --multiline-dotall --sort=path --max-columns=500 --max-columns-preview --no-line-number --only-matching \
             --after-context=1 --before-context=2 --type=py --glob=*.a --regexp=-x -- /p"
        );
    }
}
