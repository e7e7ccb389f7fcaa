//! What a command wrote, as much of it as a model should read: all of it while it is short, head and tail when not.

use std::sync::Arc;

use super::{
    clean::Cleaner,
    redact::{Redaction, Redactor},
    text,
};

/// The longest output that is given whole, in characters.
pub(super) const MAX_INLINE_CHARS: usize = 30_000;

/// Of longer output: this much of its beginning and of its end, in bytes.
const HEAD: usize = 5_000;
const TAIL: usize = 5_000;

/// A command's output while it grows. Takes bounded memory whatever comes.
#[derive(Debug, Default)]
pub(super) struct Output {
    cleaner: Cleaner,
    redaction: Redaction,
    /// The beginning: everything, until it is too long to be given whole.
    head: String,
    head_chars: usize,
    /// The end, once `head` is no longer everything.
    tail: Option<String>,
    chars: u64,
    lines: u64,
    bytes: u64,
}

/// The text for the result.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Shown {
    Whole(String),
    Parts { head: String, tail: String, left_out_chars: u64 },
}

impl Output {
    /// With secrets taken out of it.
    pub(super) fn redacted(redactor: Arc<Redactor>) -> Self {
        Self { redaction: Redaction::new(redactor), ..Self::default() }
    }

    /// Takes the next bytes and gives what they add to the text, for those who watch.
    pub(super) fn push(&mut self, bytes: &[u8]) -> String {
        self.bytes += bytes.len() as u64;
        let mut new = String::new();
        self.cleaner.feed(bytes, &mut new);
        let new = self.redaction.push(new);
        self.keep(&new);
        new
    }

    /// Tells whether there is more than will be given whole.
    pub(super) fn is_long(&self) -> bool {
        self.tail.is_some()
    }

    /// What came, in bytes.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Takes the end of the stream: an unfinished line becomes one, and may make the output too long.
    pub(super) fn end(&mut self) {
        let mut rest = String::new();
        self.cleaner.finish(&mut rest);
        let rest = self.redaction.push(rest) + &self.redaction.finish();
        self.keep(&rest);
    }

    /// Gives the text and how many lines there were. Comes after [`end`](Self::end).
    pub(super) fn finish(self) -> (Shown, u64) {
        let lines = self.lines;
        let Some(tail) = self.tail else { return (Shown::Whole(self.head), lines) };
        // Whole lines, where they are not too long.
        let head_end = text::floor(&self.head, HEAD);
        let head_end =
            self.head[..head_end].rfind('\n').map_or(head_end, |at| if at > HEAD / 2 { at + 1 } else { head_end });
        let start = text::floor(&tail, tail.len().saturating_sub(TAIL));
        let start = tail[start..].find('\n').map_or(start, |at| if at < TAIL / 2 { start + at + 1 } else { start });
        let (head, tail) = (self.head[..head_end].to_owned(), tail[start..].to_owned());
        let shown = (head.chars().count() + tail.chars().count()) as u64;
        (Shown::Parts { head, tail, left_out_chars: self.chars.saturating_sub(shown) }, lines)
    }

    fn keep(&mut self, new: &str) {
        let chars = new.chars().count();
        self.chars += chars as u64;
        self.lines += new.bytes().filter(|&byte| byte == b'\n').count() as u64;
        match &mut self.tail {
            None if self.head_chars + chars <= MAX_INLINE_CHARS => {
                self.head.push_str(new);
                self.head_chars += chars;
            }
            None => {
                let mut all = std::mem::take(&mut self.head);
                all.push_str(new);
                let end = text::floor(&all, HEAD);
                self.head = all[..end].to_owned();
                self.tail = Some(last(&all[end..], TAIL).to_owned());
            }
            Some(tail) => {
                tail.push_str(last(new, TAIL));
                // Seldom, so that each byte is moved a few times at most.
                if tail.len() > 8 * TAIL {
                    *tail = last(tail, TAIL).to_owned();
                }
            }
        }
    }
}

fn last(text: &str, bytes: usize) -> &str {
    &text[text::floor(text, text.len().saturating_sub(bytes))..]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(pieces: impl IntoIterator<Item = Vec<u8>>) -> (Shown, u64) {
        let mut output = Output::default();
        pieces.into_iter().for_each(|piece| drop(output.push(&piece)));
        output.end();
        output.finish()
    }

    #[test]
    fn short_output_is_given_whole() {
        assert_eq!(shown([]), (Shown::Whole(String::new()), 0));
        assert_eq!(shown([b"a\nb".to_vec(), b"c\n".to_vec()]), (Shown::Whole("a\nbc\n".into()), 2));
        let most = "ä".repeat(MAX_INLINE_CHARS);
        assert_eq!(shown([most.clone().into_bytes()]), (Shown::Whole(most), 0));
    }

    #[test]
    fn long_output_is_given_as_whole_lines_of_its_beginning_and_end() {
        let lines = |range: std::ops::Range<u32>| range.map(|n| format!("line {n:06}\n")).collect::<String>();
        let (Shown::Parts { head, tail, left_out_chars }, count) =
            shown((0..10_000).map(|n| lines(n..n + 1).into_bytes()))
        else {
            panic!("it is long")
        };
        assert_eq!(count, 10_000);
        assert_eq!(head, lines(0..416));
        assert_eq!(tail, lines(10_000 - 416..10_000));
        assert_eq!(left_out_chars, (10_000 - 2 * 416) * 12);
    }

    #[test]
    fn one_endless_line_is_cut_between_characters() {
        let (Shown::Parts { head, tail, .. }, 0) = shown((0..1000).map(|_| "€".repeat(100).into_bytes())) else {
            panic!("it is long")
        };
        assert!(head.len() <= HEAD && tail.len() <= TAIL + 4 && head.chars().chain(tail.chars()).all(|c| c == '€'));
    }
}
