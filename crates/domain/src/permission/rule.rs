//! One rule: a tool, and perhaps a pattern of what it is called with.

use std::{fmt, str::FromStr};

use serde::Deserialize;
use serde_json::Value;
use url::Url;

use super::{
    Kind,
    paths::{Pattern, WORKSPACE, glob, resolve},
    shell::{self, Line, Simple},
};

/// A rule such as `Bash(npm run *)`, as it was written and as it is meant.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Rule {
    text: String,
    /// May hold `*`.
    tool: String,
    pattern: What,
}

/// What of a tool's calls a rule is about.
#[derive(Debug, Clone, PartialEq, Eq)]
enum What {
    Everything,
    /// A shell command; `*` stands for anything.
    Command(String),
    Path(Pattern),
    /// A host in lower case; `*.x` is every host beneath `x`.
    Domain(String),
}

/// Whether a rule holds for a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Match {
    No,
    /// It cannot be told.
    Perhaps,
    Yes,
}

/// A text that is no rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{rule:?} is no rule: {why}")]
pub struct InvalidRule {
    rule: String,
    why: &'static str,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl TryFrom<String> for Rule {
    type Error = InvalidRule;

    fn try_from(text: String) -> Result<Self, InvalidRule> {
        text.parse()
    }
}

impl FromStr for Rule {
    type Err = InvalidRule;

    fn from_str(text: &str) -> Result<Self, InvalidRule> {
        let invalid = |why| InvalidRule { rule: text.chars().take(200).collect(), why };
        let trimmed = text.trim();
        let (tool, pattern) = match trimmed.split_once('(') {
            None => (trimmed, None),
            Some((tool, rest)) => {
                let pattern = rest.strip_suffix(')').ok_or_else(|| invalid("the bracket is not closed"))?;
                (tool, Some(pattern.trim()))
            }
        };
        if tool.is_empty() || !tool.chars().all(|c| c.is_ascii_alphanumeric() || "_-*.".contains(c)) {
            return Err(invalid("it begins with the name of a tool"));
        }
        let what = match pattern {
            None | Some("*") => What::Everything,
            Some("") => return Err(invalid("the brackets are empty")),
            Some(pattern) => match Kind::of(tool) {
                Kind::Shell => What::Command(command_pattern(pattern)),
                Kind::Read | Kind::Write => What::Path(Pattern::new(pattern)),
                Kind::Web => {
                    let domain = pattern.strip_prefix("domain:").map(str::trim).unwrap_or_default();
                    let domain = domain.trim_end_matches('.').to_ascii_lowercase();
                    if domain.is_empty() || domain.contains(['/', ':', ' ', '@']) {
                        return Err(invalid("for this tool it is domain:HOST"));
                    }
                    What::Domain(domain)
                }
                Kind::Skill | Kind::Delegation | Kind::Harmless | Kind::Other => {
                    return Err(invalid("this tool takes no pattern"));
                }
            },
        };
        Ok(Self { text: trimmed.to_owned(), tool: tool.to_owned(), pattern: what })
    }
}

/// `npm run:*` is an older way to write `npm run *`.
fn command_pattern(pattern: &str) -> String {
    match pattern.strip_suffix(":*") {
        Some(prefix) => format!("{prefix} *"),
        None => pattern.to_owned(),
    }
}

/// Tells whether a command fits a pattern. `npm run *` is also for `npm run` without anything.
fn fits(pattern: &str, command: &str) -> bool {
    glob(pattern, command) || pattern.strip_suffix(" *").is_some_and(|prefix| glob(prefix, command))
}

impl Rule {
    /// Tells whether the rule is about calls of this tool at all. `Read` is about all tools that read files, `Edit` about
    /// all that change them, `mcp__x` about all tools of the server `x`.
    pub(super) fn covers(&self, tool: &str) -> bool {
        glob(&self.tool, tool)
            || self.tool == "Read" && Kind::of(tool) == Kind::Read
            || self.tool == "Edit" && Kind::of(tool) == Kind::Write
            || self.tool.starts_with("mcp__")
                && tool.strip_prefix(self.tool.as_str()).is_some_and(|rest| rest.starts_with("__"))
    }

    /// Tells whether the rule holds for a call, if it is one that takes something away: widely.
    pub(super) fn restricts(&self, tool: &str, input: &Value) -> Match {
        if !self.covers(tool) {
            return match &self.pattern {
                What::Path(pattern) if tool == "Bash" => names_path(pattern, &parse(input)),
                What::Path(_) | What::Everything | What::Command(_) | What::Domain(_) => Match::No,
            };
        }
        match &self.pattern {
            What::Everything => Match::Yes,
            What::Command(pattern) => restricts_command(pattern, input),
            What::Path(pattern) => {
                let Some(path) = path(tool, input) else { return Match::Perhaps };
                // What a search from above would find is content, too.
                let is_within = pattern.matches_within(&path) || tool == "Grep" && pattern.reaches_below(&path);
                if is_within { Match::Yes } else { Match::No }
            }
            What::Domain(domain) => match host(input) {
                None => Match::Perhaps,
                Some(host) if is_of_domain(domain, &host) => Match::Yes,
                Some(_) => Match::No,
            },
        }
    }

    /// Tells whether the rule allows a call that is not a shell command: exactly.
    fn allows(&self, tool: &str, input: &Value) -> bool {
        match &self.pattern {
            What::Everything => true,
            What::Command(_) => false,
            What::Path(pattern) => path(tool, input).is_some_and(|path| pattern.matches(&path)),
            What::Domain(domain) => host(input).is_some_and(|host| is_of_domain(domain, &host)),
        }
    }
}

/// Tells whether these rules allow a call. A shell command is allowed if each of its parts is.
pub(super) fn allows(rules: &[Rule], tool: &str, input: &Value) -> bool {
    let rules: Vec<_> = rules.iter().filter(|rule| rule.covers(tool)).collect();
    if rules.iter().any(|rule| rule.allows(tool, input)) {
        return true;
    }
    let patterns: Vec<_> = rules
        .iter()
        .filter_map(|rule| match &rule.pattern {
            What::Command(pattern) => Some(pattern),
            What::Everything | What::Path(_) | What::Domain(_) => None,
        })
        .collect();
    if patterns.is_empty() {
        return false;
    }
    let line = parse(input);
    line.is_plain
        && !line.commands.is_empty()
        && line.commands.iter().all(|command| patterns.iter().any(|pattern| fits(pattern, &command.text)))
}

fn parse(input: &Value) -> Line {
    shell::parse(input["command"].as_str().unwrap_or_default())
}

fn restricts_command(pattern: &str, input: &Value) -> Match {
    let Some(written) = input["command"].as_str() else { return Match::Perhaps };
    let line = shell::parse(written);
    let mut found = if line.is_broken { Match::Perhaps } else { Match::No };
    if fits(pattern, written.trim()) {
        return Match::Yes;
    }
    for command in shell::unwrap_all(line.commands) {
        let Simple { text, words } = &command;
        let name = words.first().map_or("", |first| first.rsplit('/').next().unwrap_or_default());
        let by_name =
            std::iter::once(name).chain(words.iter().skip(1).map(String::as_str)).collect::<Vec<_>>().join(" ");
        if fits(pattern, text) || fits(pattern, &words.join(" ")) || fits(pattern, &by_name) {
            return Match::Yes;
        }
        if shell::is_opaque(&command) {
            found = Match::Perhaps;
        }
    }
    found
}

/// Tells whether a shell command names a path that a rule is about.
fn names_path(pattern: &Pattern, line: &Line) -> Match {
    let words = line.commands.iter().flat_map(|command| &command.words).chain(&line.files);
    let mut words = words.flat_map(|word| [word.as_str(), word.rsplit(['=', ':', '@']).next().unwrap_or_default()]);
    let is_named = |word: &str| {
        let is_path = !word.is_empty() && !word.contains('\n');
        is_path && pattern.matches_within(&resolve(word.strip_prefix("~/").unwrap_or(word)))
    };
    if words.any(is_named) { Match::Yes } else { Match::No }
}

/// Gives the path that a call of a file tool is about. A search without one is about the workspace.
fn path(tool: &str, input: &Value) -> Option<String> {
    let path = match tool {
        "Glob" | "Grep" => match &input["path"] {
            Value::Null => WORKSPACE,
            path => path.as_str()?,
        },
        "NotebookEdit" => input["notebook_path"].as_str()?,
        _ => input["file_path"].as_str()?,
    };
    Some(resolve(path))
}

fn host(input: &Value) -> Option<String> {
    let url = Url::parse(input["url"].as_str()?.trim()).ok()?;
    Some(url.host_str()?.trim_end_matches('.').to_ascii_lowercase())
}

fn is_of_domain(domain: &str, host: &str) -> bool {
    glob(domain, host)
}
