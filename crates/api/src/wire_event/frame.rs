//! The bytes of a frame: `event:`, `id:` and exactly one `data:` line.
//!
//! Clients read line by line and parse each `data: ` line on its own, and one of them takes U+0085, U+2028 and U+2029 for
//! line ends. So the JSON is compact and those three are escaped in it: unescaped, a whole answer would vanish.

use std::fmt::Write;

use serde::Serialize;

/// Appends a frame to `out`. `id` is what a client resumes after, so it stands only where nothing before it is missing.
pub(crate) fn write_frame(out: &mut String, name: &str, id: Option<i64>, data: &impl Serialize) {
    out.push_str("event: ");
    out.push_str(name);
    if let Some(id) = id {
        write!(out, "\nid: {id}").expect("a string takes everything");
    }
    out.push_str("\ndata: ");
    let data = serde_json::to_string(data).expect("our events have string keys and finite numbers");
    push_on_one_line(out, &data);
    out.push_str("\n\n");
}

/// Gives a line that clients skip.
pub(crate) fn comment(text: &str) -> String {
    format!(": {text}\n\n")
}

/// Appends JSON with what some clients take for a line end escaped. It can only stand inside of strings.
fn push_on_one_line(out: &mut String, json: &str) {
    let mut rest = json;
    while let Some(at) = rest.find(['\u{85}', '\u{2028}', '\u{2029}']) {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        let separator = from.chars().next().expect("found just now");
        write!(out, "\\u{:04x}", u32::from(separator)).expect("a string takes everything");
        rest = &from[separator.len_utf8()..];
    }
    out.push_str(rest);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_has_one_data_line_whatever_the_text_holds() {
        let text: String = (0..=0x2fff).filter_map(char::from_u32).collect();
        let mut frame = String::new();
        write_frame(&mut frame, "log", Some(7), &text);
        // All that Python's `str.splitlines` splits on.
        let ends = ['\r', '\u{b}', '\u{c}', '\u{1c}', '\u{1d}', '\u{1e}', '\u{85}', '\u{2028}', '\u{2029}'];
        assert!(!frame.contains(ends));
        let lines: Vec<_> = frame.split('\n').collect();
        assert_eq!((lines.len(), lines[0], lines[1], lines[3], lines[4]), (5, "event: log", "id: 7", "", ""));
        let data = lines[2].strip_prefix("data: ").expect("a data line");
        assert_eq!(serde_json::from_str::<String>(data).expect("is JSON"), text);
    }
}
