//! Names of branches as clients give them: never an option, never an expression.

use super::Error;

/// Checks the name of a branch by the rules of `git check-ref-format`, and those of `git branch`.
pub fn branch<'a>(field: &'static str, name: &'a str) -> Result<&'a str, Error> {
    let is_bad = name.is_empty()
        || name.len() > 250
        || name == "@"
        || name == "HEAD"
        || name.starts_with(['-', '/'])
        || name.ends_with(['/', '.'])
        || name.contains("..")
        || name.contains("//")
        || name.contains("@{")
        || name.split('/').any(|part| part.starts_with('.') || part.ends_with(".lock"))
        || name.chars().any(|char| char.is_control() || matches!(char, ' ' | '~' | '^' | ':' | '?' | '*' | '[' | '\\'));
    if is_bad { Err(Error::invalid(field, "is not a valid name of a branch")) } else { Ok(name) }
}

/// Checks the name of a commit: its hash, or the beginning of it.
pub(super) fn hash<'a>(field: &'static str, hash: &'a str) -> Result<&'a str, Error> {
    let is_hash = (4..=64).contains(&hash.len()) && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_hash { Ok(hash) } else { Err(Error::invalid(field, "must be the hash of a commit")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_never_an_option_or_an_expression() {
        for good in ["main", "feature/x-1", "ünïcode", "a.b", "v1.0", "@x"] {
            assert!(branch("name", good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "-f",
            "--upload-pack=x",
            "a b",
            "a..b",
            "a:b",
            "a~1",
            "a^",
            "HEAD",
            "@",
            "a@{1}",
            "/a",
            "a/",
            "a//b",
            ".a",
            "a/.b",
            "a.lock",
            "a.",
            "a\\b",
            "a*",
            "a?",
            "a[",
            "a\nb",
            "a\0",
        ] {
            assert!(branch("name", bad).is_err(), "{bad:?}");
        }
        assert!(hash("sha", "abc1234").is_ok());
        for bad in ["", "abc", "HEAD", "--all", "main", &"a".repeat(65)] {
            assert!(hash("sha", bad).is_err(), "{bad:?}");
        }
    }
}
