//! Making what git complains about fit for a client: short, plain, and without what was lent.

use super::Token;

/// The most a client reads of it.
const MAX_CHARS: usize = 2000;

/// Gives the lines that say something, without hints, colours and tokens.
pub(super) fn complaint(said: &[u8], token: Option<&Token>) -> String {
    let mut text = String::from_utf8_lossy(said).into_owned();
    if let Some(token) = token {
        text = token.taken_out_of(&text);
    }
    let lines = text
        .split(['\n', '\r'])
        .map(|line| line.chars().filter(|char| !char.is_control()).collect::<String>())
        .map(|line| without_logins(line.trim()))
        .filter(|line| !line.is_empty() && !line.starts_with("hint:") && !line.starts_with("Cloning into"));
    let text = lines.collect::<Vec<_>>().join("; ");
    match text.char_indices().nth(MAX_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// Takes `user:password@` out of the URLs in a text.
pub(super) fn without_logins(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        clean.push_str(before);
        let authority = after.find(['/', ' ', '\'', '"', '?', '#']).unwrap_or(after.len());
        rest = after[..authority].rfind('@').map_or(after, |login| &after[login + 1..]);
    }
    clean + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_in_a_url_is_not_shown() {
        for (text, clean) in [
            (
                "fatal: unable to access 'https://me:s3cret@host/a.git/': no",
                "fatal: unable to access 'https://host/a.git/': no",
            ),
            ("https://tok@en@host", "https://host"),
            ("https://host/a@b and ssh://git@host/x", "https://host/a@b and ssh://host/x"),
            ("git@host:a/b", "git@host:a/b"),
        ] {
            assert_eq!(without_logins(text), clean);
        }
    }

    #[test]
    fn what_is_told_is_plain_and_short() {
        let said = b"Cloning into 'x'...\nremote: \x1b[31mno\x1b[0m\nhint: try\nfatal: bad\n";
        assert_eq!(complaint(said, None), "remote: [31mno[0m; fatal: bad");
        assert!(complaint(&b"x".repeat(10_000), None).chars().count() <= MAX_CHARS + 1);
    }
}
