//! What a thread is called while nobody has given it a name.

/// The longest title that is made, in characters.
pub const MAX_CHARS: usize = 80;

/// Makes a title from what was asked: the beginning of its first line.
pub fn from_text(text: &str) -> String {
    text.trim().lines().next().unwrap_or_default().chars().take(MAX_CHARS).collect()
}

/// Makes a title from what a model answered when it was asked for one; `None` if there is none in it.
///
/// Models like to quote, to number and to explain. The first line that says something is taken, without decoration.
pub fn from_reply(reply: &str) -> Option<String> {
    let is_decoration = |c: char| c.is_whitespace() || "\"'`*#“”‘’„«».:-".contains(c);
    let title = |line: &str| {
        let line = line.trim_matches(is_decoration);
        let line = line.strip_prefix("Title:").or(line.strip_prefix("title:")).unwrap_or(line);
        line.trim_matches(is_decoration).chars().filter(|c| !c.is_control()).take(MAX_CHARS).collect::<String>()
    };
    reply.lines().map(title).find(|title| !title.is_empty()).map(|title| title.trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_title_is_found_in_what_a_model_says() {
        for (reply, title) in [
            ("Flask API with tests", Some("Flask API with tests")),
            ("\"Flask API\".\n", Some("Flask API")),
            ("**Title: Flask API**\n\nThis says…", Some("Flask API")),
            ("# Über C++\n", Some("Über C++")),
            ("\n\n  ", None),
            ("", None),
            ("---", None),
        ] {
            assert_eq!(from_reply(reply).as_deref(), title, "{reply:?}");
        }
        assert_eq!(from_reply(&"ä".repeat(200)).expect("a title").chars().count(), MAX_CHARS);
    }

    #[test]
    fn a_title_from_a_text_is_the_beginning_of_its_first_line() {
        assert_eq!(from_text("\n  Write a test\nand more"), "Write a test");
        assert_eq!(from_text(" "), "");
    }
}
