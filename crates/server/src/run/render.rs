//! From events to what people read. A pure function of the events so far, so that a recorded run can be shown in a test.
//!
//! Whatever a model or a command has written is stripped of control characters: a terminal obeys them.

use std::{collections::HashMap, time::Instant};

use serde_json::Value;

use super::event::{Event, Item, Run, Tool, ToolCall};
use crate::config::show_bytes;

/// Lines of a command's output, and of a diff, that are shown.
const OUTPUT_LINES: usize = 8;
const DIFF_LINES: usize = 24;
/// The longest line of an argument.
const ARGUMENT_LETTERS: usize = 100;
const LINE_LETTERS: usize = 160;

/// Something to show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    /// A part of a line, as it comes.
    Text(String),
    /// The end of a line, if one was begun.
    LineEnd,
    /// A whole line, on a line of its own.
    Line(String),
    /// What is going on now, until the next piece.
    Status(String),
}

#[derive(Debug, Clone, Copy)]
enum Style {
    Plain,
    Bold,
    Dim,
    Red,
    Green,
    Yellow,
}

pub(super) struct Renderer {
    is_coloured: bool,
    began: Instant,
    /// What has been shown of the text that is on its way.
    streamed: String,
    /// What has come of the thinking that is on its way.
    thought: String,
    /// Pieces of thinking shown before they were finished.
    thoughts_shown: usize,
    /// The calls that wait for their result, by id; the last shown stands where its result would go.
    calls: HashMap<String, String>,
    last_call: String,
    thread: Option<String>,
    failure: Option<String>,
}

impl Renderer {
    pub(super) fn new(is_coloured: bool, began: Instant) -> Self {
        Self {
            is_coloured,
            began,
            streamed: String::new(),
            thought: String::new(),
            thoughts_shown: 0,
            calls: HashMap::new(),
            last_call: String::new(),
            thread: None,
            failure: None,
        }
    }

    /// Gives what is to be shown of an event.
    pub(super) fn render(&mut self, event: Event, now: Instant) -> Vec<Piece> {
        match event {
            Event::ThreadCreated { thread } => {
                self.thread = Some(thread.id.clone());
                vec![Piece::Line(self.paint(Style::Dim, &format!("thread {}", clean(&thread.id))))]
            }
            Event::ResponseCreated {} => vec![Piece::Status("waiting for a worker".into())],
            Event::ResponseStarted {} => vec![Piece::Status("thinking".into())],
            Event::ReasoningDelta { delta } => {
                self.thought.push_str(&delta.text);
                vec![Piece::Status("thinking".into())]
            }
            Event::ComputerStarting {} => vec![Piece::Status("starting the computer".into())],
            Event::TextDelta { delta } => {
                self.last_call.clear();
                self.streamed.push_str(&delta.text);
                // What was thought comes before what is said of it.
                let mut pieces = match std::mem::take(&mut self.thought) {
                    thought if thought.is_empty() => Vec::new(),
                    thought => {
                        self.thoughts_shown += 1;
                        self.thought_line(&thought)
                    }
                };
                pieces.push(Piece::Text(clean(&delta.text)));
                pieces
            }
            Event::ItemCreated { item } => match item {
                Item::ToolCall(call) => self.call(&call),
                Item::Text { .. } | Item::Reasoning { .. } | Item::Other => Vec::new(),
            },
            Event::ItemCompleted { item } => match item {
                Item::Text { content } => self.text(&content),
                Item::Reasoning { content } => self.reasoning(&content),
                Item::ToolCall(call) => self.result(&call),
                Item::Other => Vec::new(),
            },
            Event::Log { log } => {
                let message = clean(&log.message);
                match log.level.as_str() {
                    "error" => vec![Piece::Line(self.paint(Style::Red, &message))],
                    "warning" => vec![Piece::Line(self.paint(Style::Yellow, &message))],
                    _ => vec![Piece::Line(self.paint(Style::Dim, &message))],
                }
            }
            Event::ResponseFailed { response } => {
                self.failure = response.error.map(|error| error.message);
                Vec::new()
            }
            Event::StreamCompleted { run } => self.end(&run, now),
            Event::Other => Vec::new(),
        }
    }

    /// The finished text: only what has not been shown on its way.
    fn text(&mut self, content: &str) -> Vec<Piece> {
        self.last_call.clear();
        let streamed = std::mem::take(&mut self.streamed);
        let missing = match content.strip_prefix(&streamed) {
            Some(rest) => rest,
            // Another try of the model, or the beginning was before we came: the whole, on its own.
            None => return clean(content).lines().map(|line| Piece::Line(line.to_owned())).collect(),
        };
        vec![
            Piece::Text(clean(missing).trim_end_matches('\n').to_owned()),
            Piece::LineEnd,
            Piece::Status("thinking".into()),
        ]
    }

    fn reasoning(&mut self, content: &str) -> Vec<Piece> {
        self.thought.clear();
        if self.thoughts_shown > 0 {
            self.thoughts_shown -= 1;
            return Vec::new();
        }
        self.thought_line(content)
    }

    fn thought_line(&self, content: &str) -> Vec<Piece> {
        let Some(first) = content.lines().find(|line| !line.trim().is_empty()) else { return Vec::new() };
        vec![Piece::Line(self.paint(Style::Dim, &format!("✻ {}", shorten(&clean(first), LINE_LETTERS))))]
    }

    fn call(&mut self, call: &ToolCall) -> Vec<Piece> {
        let (name, argument) = (clean(&call.name), main_argument(&call.arguments));
        let status = shorten(format!("{name} {argument}").trim(), ARGUMENT_LETTERS);
        self.calls.insert(call.id.clone(), status.clone());
        self.last_call.clone_from(&call.id);
        let argument = shorten(&argument, ARGUMENT_LETTERS);
        let line = format!("● {} {argument}", self.paint(Style::Bold, &name));
        vec![Piece::Line(line.trim_end().to_owned()), Piece::Status(status)]
    }

    fn result(&mut self, call: &ToolCall) -> Vec<Piece> {
        let mut pieces = Vec::new();
        let is_known = self.calls.remove(&call.id).is_some();
        if !is_known || self.last_call != call.id {
            // Calls that run side by side end in any order: say whose result this is.
            pieces.extend(self.call(call));
            self.calls.remove(&call.id);
        }
        self.last_call.clear();
        pieces.extend(self.effect(call).into_iter().map(Piece::Line));
        let status = self.calls.values().next().cloned().unwrap_or_else(|| "thinking".into());
        pieces.push(Piece::Status(status));
        pieces
    }

    fn effect(&self, call: &ToolCall) -> Vec<String> {
        let has_failed = call.status == "failed";
        let content = call.content.as_deref().unwrap_or_default();
        match &call.tool {
            Tool::CommandExecution { exit_code, output } => {
                let mut lines = self.head(if output.is_empty() { content } else { output }, Style::Dim);
                if let Some(code) = exit_code.filter(|code| *code != 0) {
                    lines.push(format!("  {}", self.paint(Style::Red, &format!("exit code {code}"))));
                }
                lines
            }
            _ if has_failed => self.head(content, Style::Red),
            Tool::FileRead { lines: Some(lines) } => self.note(&format!("{lines} lines")),
            Tool::FileRead { lines: None } => Vec::new(),
            Tool::FileWrite { file_diff, additions, deletions, operation_kind } => {
                let kind = clean(operation_kind);
                let mut lines = self.note(format!("{kind} +{additions} -{deletions}").trim());
                lines.extend(self.diff(file_diff));
                lines
            }
            Tool::Search { matches } => self.note(&format!("{matches} matches")),
            Tool::TodoList { todos } => self.todos(todos),
            Tool::WebFetch { status, bytes } => self.note(&format!("{status}, {}", show_bytes(*bytes))),
            Tool::Other => self.head(content, Style::Dim),
        }
    }

    fn note(&self, text: &str) -> Vec<String> {
        vec![format!("  {}", self.paint(Style::Dim, text))]
    }

    /// The first lines of a text, and how many more there are.
    fn head(&self, text: &str, style: Style) -> Vec<String> {
        let text = clean(text);
        let all: Vec<&str> = text.trim_matches('\n').lines().collect();
        let shown = all.iter().take(OUTPUT_LINES);
        let mut lines: Vec<String> =
            shown.map(|line| format!("  {}", self.paint(style, &shorten(line, LINE_LETTERS)))).collect();
        if all.len() > OUTPUT_LINES {
            lines.extend(self.note(&format!("… {} more lines", all.len() - OUTPUT_LINES)));
        }
        lines
    }

    fn diff(&self, diff: &str) -> Vec<String> {
        let diff = clean(diff);
        let all: Vec<&str> =
            diff.lines().filter(|line| !line.starts_with("--- ") && !line.starts_with("+++ ")).collect();
        let paint = |line: &&str| {
            let style = match line.as_bytes().first() {
                Some(b'+') => Style::Green,
                Some(b'-') => Style::Red,
                Some(b'@') => Style::Dim,
                Some(_) | None => Style::Plain,
            };
            format!("  {}", self.paint(style, &shorten(line, LINE_LETTERS)))
        };
        let mut lines: Vec<String> = all.iter().take(DIFF_LINES).map(paint).collect();
        if all.len() > DIFF_LINES {
            lines.extend(self.note(&format!("… {} more lines", all.len() - DIFF_LINES)));
        }
        lines
    }

    fn todos(&self, todos: &Value) -> Vec<String> {
        let todos = todos.as_array().map(Vec::as_slice).unwrap_or_default();
        let line = |todo: &Value| {
            let content = shorten(&clean(todo["content"].as_str().unwrap_or_default()), LINE_LETTERS);
            let (mark, style) = match todo["status"].as_str() {
                Some("completed") => ("☒", Style::Dim),
                Some("in_progress") => ("◐", Style::Bold),
                _ => ("☐", Style::Plain),
            };
            format!("  {}", self.paint(style, &format!("{mark} {content}")))
        };
        todos.iter().map(line).collect()
    }

    fn end(&mut self, run: &Run, now: Instant) -> Vec<Piece> {
        let mut pieces = Vec::new();
        let status = clean(&run.status);
        let (mark, style) = match run.status.as_str() {
            "completed" => ("✓", Style::Green),
            "cancelled" => ("■", Style::Yellow),
            _ => ("✗", Style::Red),
        };
        if let Some(failure) = self.failure.take().filter(|_| run.status != "cancelled") {
            pieces.push(Piece::Line(self.paint(Style::Red, &clean(&failure))));
        }
        let seconds = now.saturating_duration_since(self.began).as_secs_f64();
        let mut details = format!(" in {seconds:.1} s · {} tokens in, {} out", run.tokens.input, run.tokens.output);
        if let Some(cost) = run.cost_usd {
            details.push_str(&format!(" · ${cost:.4}"));
        }
        if let Some(thread) = &self.thread {
            details.push_str(&format!(" · {}", clean(thread)));
        }
        let line = format!("{}{}", self.paint(style, &format!("{mark} {status}")), self.paint(Style::Dim, &details));
        pieces.push(Piece::Line(line));
        pieces
    }

    fn paint(&self, style: Style, text: &str) -> String {
        let code = match style {
            Style::Plain => return text.to_owned(),
            Style::Bold => "1",
            Style::Dim => "2",
            Style::Red => "31",
            Style::Green => "32",
            Style::Yellow => "33",
        };
        if self.is_coloured && !text.is_empty() { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// Names the thread of a run that goes on in one, since no event does.
    pub(super) fn set_thread(&mut self, thread: String) {
        self.thread = Some(thread);
    }
}

/// The argument that tells a call apart: its command, its file, what it looks for.
fn main_argument(arguments: &str) -> String {
    let Ok(Value::Object(arguments)) = serde_json::from_str(arguments) else { return String::new() };
    let names = ["command", "file_path", "notebook_path", "pattern", "url", "query", "path", "description"];
    let value = names.iter().find_map(|name| arguments.get(*name)?.as_str());
    clean(value.unwrap_or_default()).lines().collect::<Vec<_>>().join(" ⏎ ")
}

/// Leaves out what a terminal would obey: all control characters but line breaks and tabs.
fn clean(text: &str) -> String {
    // A carriage return overwrites: what a progress bar showed last is what counts, but all of it tells no lie.
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    text.chars()
        .filter(|letter| !letter.is_control() || matches!(letter, '\n' | '\t'))
        // These turn the direction of what follows.
        .filter(|letter| !matches!(letter, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'))
        .collect()
}

fn shorten(text: &str, letters: usize) -> String {
    match text.char_indices().nth(letters) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests;
