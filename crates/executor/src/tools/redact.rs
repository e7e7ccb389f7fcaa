//! Taking secrets out of what tools give.
//!
//! What a command prints is read by the model, stored, streamed and shown to people, for good. The secrets that the run's
//! commands are given are to be in none of it, so their exact values are replaced before anything else sees the text:
//! before output is cut to length, which could leave a half of one, and before it is shown while it comes, which could
//! bring one in two pieces. What a program does to a value before it prints it (base64, reversing) is beyond this.

use std::{fmt, ops::Range, sync::Arc};

use aho_corasick::AhoCorasick;
use domain::event::Detail;

/// Shorter values are words that occur by themselves.
const MIN_BYTES: usize = 8;

/// Of a value of several lines each line that is no shorter, too: tools show files line by line.
const MIN_LINE_BYTES: usize = 16;

/// What stands in a secret's place.
pub(crate) const REDACTED: &str = "[redacted]";

/// Knows the values that must not be seen.
#[derive(Default)]
pub(crate) struct Redactor {
    values: Vec<String>,
    /// `None` where there is nothing to look for.
    finder: Option<AhoCorasick>,
}

// Not derived: it would be one step from a log.
impl fmt::Debug for Redactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redactor").field("values", &self.values.len()).finish_non_exhaustive()
    }
}

impl Redactor {
    pub(crate) fn new<'a>(secrets: impl IntoIterator<Item = &'a str>) -> Self {
        let mut values = Vec::new();
        for secret in secrets {
            let whole = secret.trim();
            if whole.len() >= MIN_BYTES {
                values.push(whole.to_owned());
            }
            let lines =
                whole.lines().map(str::trim).filter(|line| line.len() >= MIN_LINE_BYTES && line.len() < whole.len());
            values.extend(lines.map(str::to_owned));
        }
        values.sort_unstable();
        values.dedup();
        let finder = if values.is_empty() { None } else { AhoCorasick::new(&values).ok() };
        if finder.is_none() && !values.is_empty() {
            tracing::error!("cannot look for the run's secrets in what its tools give: there are too many");
        }
        Self { values, finder }
    }

    /// Replaces all that must not be seen.
    pub(crate) fn redact(&self, text: String) -> String {
        let spans = self.spans(&text);
        if spans.is_empty() {
            return text;
        }
        let mut clean = String::with_capacity(text.len());
        replace(&text, &spans, text.len(), &mut clean);
        clean
    }

    pub(crate) fn redact_detail(&self, detail: Detail) -> Detail {
        if self.finder.is_none() {
            return detail;
        }
        match detail {
            Detail::Command { command, exit_code, output } => {
                Detail::Command { command: self.redact(command), exit_code, output: self.redact(output) }
            }
            Detail::FileRead { path, lines } => Detail::FileRead { path: self.redact(path), lines },
            Detail::FileWrite { path, is_new, diff, additions, deletions } => {
                Detail::FileWrite { path: self.redact(path), is_new, diff: self.redact(diff), additions, deletions }
            }
            Detail::Search { pattern, matches } => Detail::Search { pattern: self.redact(pattern), matches },
            Detail::Mcp { server, tool, arguments, output, error } => Detail::Mcp {
                server,
                tool,
                arguments: self.redact(arguments),
                output: self.redact(output),
                error: error.map(|error| self.redact(error)),
            },
            Detail::Todos { todos } => Detail::Todos { todos },
            Detail::Fetch { url, status, bytes, title, hash } => Detail::Fetch {
                url: self.redact(url),
                status,
                bytes,
                title: title.map(|title| self.redact(title)),
                hash,
            },
            Detail::WebSearch { query, mut hits } => {
                for hit in &mut hits {
                    hit.title = self.redact(std::mem::take(&mut hit.title));
                    hit.url = self.redact(std::mem::take(&mut hit.url));
                }
                Detail::WebSearch { query: self.redact(query), hits }
            }
            Detail::Agent(mut called) => {
                called.description = self.redact(std::mem::take(&mut called.description));
                Detail::Agent(called)
            }
            Detail::Image { path, is_new, media_type, width, height, bytes } => {
                Detail::Image { path: self.redact(path), is_new, media_type, width, height, bytes }
            }
        }
    }

    /// Finds where secrets are; those that overlap are one span.
    fn spans(&self, text: &str) -> Vec<Range<usize>> {
        let Some(finder) = &self.finder else { return Vec::new() };
        let mut found: Vec<Range<usize>> = finder.find_overlapping_iter(text).map(|found| found.range()).collect();
        found.sort_unstable_by_key(|span| span.start);
        let mut spans: Vec<Range<usize>> = Vec::new();
        for span in found {
            match spans.last_mut() {
                Some(last) if span.start < last.end => last.end = last.end.max(span.end),
                Some(_) | None => spans.push(span),
            }
        }
        spans
    }

    /// Tells from where on a text could be the beginning of a secret whose rest has not come yet.
    fn open_from(&self, text: &str) -> usize {
        let longest = self.values.iter().map(String::len).max().unwrap_or(0);
        let starts = super::text::floor(text, text.len().saturating_sub(longest.saturating_sub(1)));
        let is_open = |rest: &str| self.values.iter().any(|value| value.len() > rest.len() && value.starts_with(rest));
        let mut candidates = text[starts..].char_indices().map(|(at, _)| starts + at);
        candidates.find(|&at| is_open(&text[at..])).unwrap_or(text.len())
    }
}

/// Appends the text up to `end` with its spans replaced.
fn replace(text: &str, spans: &[Range<usize>], end: usize, out: &mut String) {
    let mut from = 0;
    for span in spans.iter().filter(|span| span.start < end) {
        out.push_str(&text[from..span.start]);
        out.push_str(REDACTED);
        from = span.end;
    }
    out.push_str(&text[from..end]);
}

/// Redacts a text that comes in pieces.
#[derive(Debug, Default)]
pub(crate) struct Redaction {
    redactor: Arc<Redactor>,
    /// What came and may be the beginning of a secret.
    held: String,
}

impl Redaction {
    pub(crate) fn new(redactor: Arc<Redactor>) -> Self {
        Self { redactor, held: String::new() }
    }

    /// Takes the next piece and gives what is certain by now.
    pub(crate) fn push(&mut self, piece: String) -> String {
        if self.redactor.finder.is_none() {
            return piece;
        }
        let text = std::mem::take(&mut self.held) + &piece;
        let spans = self.redactor.spans(&text);
        let mut end = self.redactor.open_from(&text);
        // A secret that reaches into what may be another's beginning waits with it.
        if let Some(span) = spans.iter().find(|span| span.start < end && end < span.end) {
            end = span.start;
        }
        let mut clean = String::with_capacity(end);
        replace(&text, &spans, end, &mut clean);
        self.held = text[end..].to_owned();
        clean
    }

    /// Gives what is left at the end.
    pub(crate) fn finish(&mut self) -> String {
        self.redactor.redact(std::mem::take(&mut self.held))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn in_pieces(redactor: &Arc<Redactor>, text: &str, size: usize) -> String {
        let chars: Vec<char> = text.chars().collect();
        let mut redaction = Redaction::new(redactor.clone());
        let mut out = String::new();
        for piece in chars.chunks(size) {
            out.push_str(&redaction.push(piece.iter().collect()));
        }
        out + &redaction.finish()
    }

    #[test]
    fn a_secret_is_found_however_it_comes() {
        let redactor = Arc::new(Redactor::new(["s3cret-value", "s3cret-value-and-more", "short", "ünï-cödé-töken"]));
        for (text, expected) in [
            ("TOKEN=s3cret-value\n", "TOKEN=[redacted]\n"),
            ("s3cret-value-and-more", "[redacted]"),
            ("s3cret-value-and-mor", "[redacted]-and-mor"),
            ("s3cret-s3cret-value", "s3cret-[redacted]"),
            ("s3cret-values3cret-value", "[redacted][redacted]"),
            ("a short one: ünï-cödé-töken!", "a short one: [redacted]!"),
            ("s3cret-valu", "s3cret-valu"),
        ] {
            assert_eq!(redactor.redact(text.to_owned()), expected);
            for size in 1..text.len() {
                assert_eq!(in_pieces(&redactor, text, size), expected, "{text} in pieces of {size}");
            }
        }
    }

    #[test]
    fn a_value_of_several_lines_is_found_line_by_line_too() {
        let key = "-----BEGIN KEY-----\nMIIEvQIBADANBgkqhkiG9w0\nabc\n-----END KEY-----\n";
        let redactor = Redactor::new([key]);
        assert_eq!(redactor.redact(format!("[{key}]")), "[[redacted]\n]");
        let shown = "1\t-----BEGIN KEY-----\n2\tMIIEvQIBADANBgkqhkiG9w0\n3\tabc\n";
        assert_eq!(redactor.redact(shown.to_owned()), "1\t[redacted]\n2\t[redacted]\n3\tabc\n");
    }

    proptest! {
        #[test]
        fn pieces_give_what_the_whole_gives(text in "[ab]{0,60}", secrets in prop::collection::vec("[ab]{8,12}", 0..4), size in 1_usize..20) {
            let redactor = Arc::new(Redactor::new(secrets.iter().map(String::as_str)));
            let whole = redactor.redact(text.clone());
            prop_assert_eq!(in_pieces(&redactor, &text, size), whole.clone());
            for secret in &secrets {
                prop_assert!(!whole.contains(secret.as_str()));
            }
        }
    }
}
