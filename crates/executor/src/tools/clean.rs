//! From a program's bytes to text a model can read: valid UTF-8 without terminal control.
//!
//! Escape sequences go, a line rewritten with carriage returns (a progress bar) becomes its last state, and bytes that
//! are no UTF-8 become one `U+FFFD` for each run of them. Works on pieces as they come and keeps little between them.

/// How much of the current line a carriage return can still take back, in bytes.
const MAX_LINE: usize = 8 * 1024;

/// How long a control string (`ESC ]` …) may be before it is taken for text that was never ended.
const MAX_CONTROL: usize = 4096;

/// Cleans a stream of output.
#[derive(Debug, Default)]
pub(super) struct Cleaner {
    /// The start of a character whose end has not come yet.
    partial: Vec<u8>,
    line: String,
    state: State,
    after_return: bool,
    control_len: usize,
    /// The last thing was no UTF-8: what follows it directly joins its replacement.
    in_garbage: bool,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Text,
    Escape,
    /// `ESC` and intermediate bytes, before the final one.
    EscapeIntermediate,
    /// `ESC [` …, ended by a byte of `@` to `~`.
    Sequence,
    /// `ESC ]`, `ESC P` …, ended by `BEL` or `ESC \`.
    String,
    StringEscape,
}

impl Cleaner {
    /// Takes the next bytes and appends to `out` what is certain of them.
    pub(super) fn feed(&mut self, bytes: &[u8], out: &mut String) {
        let joined;
        let mut rest = if self.partial.is_empty() {
            bytes
        } else {
            joined = [std::mem::take(&mut self.partial).as_slice(), bytes].concat();
            &joined
        };
        while !rest.is_empty() {
            match std::str::from_utf8(rest) {
                Ok(text) => {
                    self.text(text, out);
                    return;
                }
                Err(err) => {
                    let (valid, after) = rest.split_at(err.valid_up_to());
                    self.text(std::str::from_utf8(valid).unwrap_or_default(), out);
                    let Some(len) = err.error_len() else {
                        self.partial = after.to_vec();
                        return;
                    };
                    self.garbage(out);
                    rest = &after[len..];
                }
            }
        }
    }

    /// Appends what is left at the end of the stream.
    pub(super) fn finish(&mut self, out: &mut String) {
        if !std::mem::take(&mut self.partial).is_empty() {
            self.garbage(out);
        }
        out.push_str(&self.line);
        *self = Self::default();
    }

    fn garbage(&mut self, out: &mut String) {
        if !self.in_garbage {
            self.printable("\u{fffd}", out);
        }
        self.in_garbage = true;
    }

    fn text(&mut self, text: &str, out: &mut String) {
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            if self.state == State::Text {
                // Most output is plain; it goes in runs.
                let plain = rest.find(is_control).unwrap_or(rest.len());
                if plain > 0 {
                    self.in_garbage = false;
                    self.printable(&rest[..plain], out);
                    rest = &rest[plain..];
                    continue;
                }
            }
            rest = &rest[first.len_utf8()..];
            self.control(first, out);
        }
    }

    fn printable(&mut self, text: &str, out: &mut String) {
        if std::mem::take(&mut self.after_return) {
            self.line.clear();
        }
        self.line.push_str(text);
        if self.line.len() > MAX_LINE {
            out.push_str(&self.line);
            self.line.clear();
        }
    }

    fn control(&mut self, c: char, out: &mut String) {
        self.state = match (self.state, c) {
            (State::Text, '\n') => {
                self.in_garbage = false;
                self.after_return = false;
                out.push_str(&self.line);
                out.push('\n');
                self.line.clear();
                State::Text
            }
            (State::Text, '\t') => {
                self.printable("\t", out);
                State::Text
            }
            (State::Text, '\r') => {
                self.after_return = true;
                State::Text
            }
            (State::Text, '\u{8}') => {
                self.line.pop();
                State::Text
            }
            (_, '\u{1b}') if self.state != State::String => State::Escape,
            (State::Text, '\u{9b}') => self.begin(State::Sequence),
            (State::Text, '\u{90}' | '\u{98}' | '\u{9d}'..='\u{9f}') => self.begin(State::String),
            // What has no meaning here (NUL, BEL, …) is dropped; printable characters do not come here.
            (State::Text, _) => State::Text,
            (State::Escape, '[') => self.begin(State::Sequence),
            (State::Escape, ']' | 'P' | 'X' | '^' | '_') => self.begin(State::String),
            (State::Escape | State::EscapeIntermediate, ' '..='/') => State::EscapeIntermediate,
            (State::Escape | State::EscapeIntermediate, '0'..='~') => State::Text,
            (State::Sequence, ' '..='?') if self.control_len < MAX_CONTROL => {
                self.control_len += 1;
                State::Sequence
            }
            (State::Sequence, '@'..='~') => State::Text,
            (State::String, '\u{7}' | '\u{9c}') | (State::StringEscape, '\\') => State::Text,
            (State::String, '\u{1b}') => State::StringEscape,
            (State::String, c) if self.control_len < MAX_CONTROL && c != '\n' => {
                self.control_len += 1;
                State::String
            }
            (State::StringEscape, '[') => self.begin(State::Sequence),
            // No such sequence: from here on it is text again.
            (State::Escape | State::EscapeIntermediate | State::Sequence | State::String | State::StringEscape, c) => {
                self.state = State::Text;
                let mut text = [0; 4];
                self.text(c.encode_utf8(&mut text), out);
                self.state
            }
        };
    }

    fn begin(&mut self, state: State) -> State {
        self.control_len = 0;
        state
    }
}

/// C0 controls, DEL, and C1 controls.
fn is_control(c: char) -> bool {
    c.is_control()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clean(pieces: &[&[u8]]) -> String {
        let (mut cleaner, mut out) = (Cleaner::default(), String::new());
        pieces.iter().for_each(|piece| cleaner.feed(piece, &mut out));
        cleaner.finish(&mut out);
        out
    }

    const CASES: [(&[u8], &str); 24] = [
        (b"plain\ntext", "plain\ntext"),
        (b"", ""),
        (b"a\r\nb\r\n", "a\nb\n"),
        (b"10%\r50%\r100%\ndone", "100%\ndone"),
        (b"10%\r\r\n", "10%\n"),
        (b"kept at the end\r", "kept at the end"),
        (b"\x1b[31mred\x1b[0m", "red"),
        (b"\x1b[38;5;196mx\x1b[m\x1b[2K\x1b[1Ay", "xy"),
        (b"\x1b]0;title\x07x", "x"),
        (b"\x1b]8;;https://a.b\x1b\\link\x1b]8;;\x1b\\", "link"),
        (b"\x1b(Bx\x1b=y\x1bcz", "xyz"),
        (b"\x1bPq#0;2\x1b\\x", "x"),
        (b"\x1b]never ended\nnext line", "\nnext line"),
        (b"\x1b[31", ""),
        (b"a\0b\x07c\x7fd", "abcd"),
        (b"abc\x08\x08X", "aX"),
        (b"\t|\t", "\t|\t"),
        ("äöü€😀".as_bytes(), "äöü€😀"),
        (b"a\xff\xfe\xfdb", "a\u{fffd}b"),
        (b"\xff\n\xff", "\u{fffd}\n\u{fffd}"),
        (b"a\xf0\x9f\x98", "a\u{fffd}"),
        (b"\x80\x81", "\u{fffd}"),
        ("\u{9b}31mx\u{85}y".as_bytes(), "xy"),
        (b"\x1b\x1b[1mx", "x"),
    ];

    #[test]
    fn output_becomes_readable_however_it_is_cut() {
        for (bytes, expected) in CASES {
            assert_eq!(clean(&[bytes]), expected, "{:?}", String::from_utf8_lossy(bytes));
            for at in 0..bytes.len() {
                let (first, second) = bytes.split_at(at);
                assert_eq!(clean(&[first, second]), expected, "{:?} cut at {at}", String::from_utf8_lossy(bytes));
            }
        }
    }

    #[test]
    fn what_never_ends_takes_no_memory() {
        let (mut cleaner, mut out) = (Cleaner::default(), String::new());
        for start in [&b"x"[..], b"\x1b]", b"\x1b[", b"\x1bP"] {
            cleaner.feed(start, &mut out);
            for _ in 0..100 {
                cleaner.feed(&[b'1'; 10_000], &mut out);
                assert!(cleaner.line.len() <= MAX_LINE + 10_000);
                out.clear();
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_give_clean_text(bytes: Vec<u8>, at: proptest::sample::Index) {
            let (first, second) = bytes.split_at(at.index(bytes.len() + 1));
            let text = clean(&[first, second]);
            proptest::prop_assert_eq!(&text, &clean(&[&bytes]));
            proptest::prop_assert!(text.chars().all(|c| !c.is_control() || c == '\n' || c == '\t'));
        }
    }
}
