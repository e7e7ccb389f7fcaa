//! Cutting text to size without breaking a character.

/// Makes `text` fit for a result: no NUL, at most `max` characters.
pub(super) fn cap(mut text: String, max: usize) -> String {
    if text.contains('\0') {
        text = text.replace('\0', "\u{fffd}");
    }
    if let Some(end) = end_of(&text, max) {
        let left_out = text[end..].chars().count();
        text.truncate(end);
        text.push_str(&format!("\n[{left_out} more characters left out]"));
    }
    text
}

/// Gives the first `max` characters, with `…` where some are left out.
pub(super) fn shorten(text: &str, max: usize) -> String {
    match end_of(text, max) {
        Some(end) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// Gives where character `max` begins, `None` if there are not more than `max`.
pub(super) fn end_of(text: &str, max: usize) -> Option<usize> {
    if text.len() <= max {
        return None;
    }
    text.char_indices().nth(max).map(|(at, _)| at)
}

/// Gives the largest character boundary that is not beyond `at`.
pub(super) fn floor(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0)
}

/// Says a size as people do.
pub(super) fn size(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} bytes"),
        1024..1_048_576 => format!("{:.1} KiB", bytes as f64 / 1024.0),
        _ => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_cut_between_characters() {
        assert_eq!(cap("äöü".into(), 3), "äöü");
        assert_eq!(cap("äöüß".into(), 3), "äöü\n[1 more characters left out]");
        assert_eq!(cap("a\0b".into(), 10), "a\u{fffd}b");
        assert_eq!(shorten("äöü", 2), "äö…");
        assert_eq!(floor("äö", 1), 0);
        assert_eq!(size(1536), "1.5 KiB");
    }
}
