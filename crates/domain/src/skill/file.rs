//! The files of a skill, and which of them are acceptable.

use std::collections::BTreeSet;

/// The most files one skill has.
pub const MAX_FILES: usize = 500;
/// What they may have together, in bytes.
pub const MAX_FILES_BYTES: usize = 30 * 1024 * 1024;

const MAX_PATH_BYTES: usize = 512;
const MAX_PART_BYTES: usize = 255;

/// A file beside the skill's text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SkillFile {
    /// Relative to the skill's directory.
    pub path: String,
    pub content: Vec<u8>,
    /// What an editor shows it as.
    pub language: Option<String>,
    pub is_executable: bool,
}

/// Why files cannot be a skill's. The text is for the client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidFiles {
    #[error("a skill has at most {MAX_FILES} files")]
    TooMany,
    #[error("the files of a skill have at most {MAX_FILES_BYTES} bytes together")]
    TooLarge,
    #[error("{path:?} cannot be the name of a file: {why}")]
    Path { path: String, why: &'static str },
}

/// Checks the files of a skill together. What is in the way of another is refused, as no file system has both.
pub fn check_files<'a>(files: impl IntoIterator<Item = (&'a str, usize)>) -> Result<(), InvalidFiles> {
    let (mut seen, mut directories) = (BTreeSet::new(), BTreeSet::new());
    let (mut count, mut bytes) = (0usize, 0usize);
    for (path, size) in files {
        let refuse = |why| InvalidFiles::Path { path: path.chars().take(200).collect(), why };
        check_path(path).map_err(refuse)?;
        if !seen.insert(path) {
            return Err(refuse("it is there twice"));
        }
        directories.extend(path.match_indices('/').map(|(at, _)| &path[..at]));
        count += 1;
        bytes = bytes.saturating_add(size);
        if count > MAX_FILES {
            return Err(InvalidFiles::TooMany);
        }
        if bytes > MAX_FILES_BYTES {
            return Err(InvalidFiles::TooLarge);
        }
    }
    match seen.intersection(&directories).next() {
        Some(path) => {
            Err(InvalidFiles::Path { path: path.chars().take(200).collect(), why: "it is a directory of others, too" })
        }
        None => Ok(()),
    }
}

fn check_path(path: &str) -> Result<(), &'static str> {
    if path.is_empty() || path.len() > MAX_PATH_BYTES {
        return Err("it must have 1 to 512 bytes");
    }
    if path.starts_with('/') || path.contains('\\') || path.get(1..2) == Some(":") {
        return Err("it must be relative to the skill, with '/' between its parts");
    }
    if path.chars().any(char::is_control) {
        return Err("it has a control character");
    }
    for part in path.split('/') {
        if matches!(part, "" | "." | "..") {
            return Err("it must not have empty parts, '.' or '..'");
        }
        if part.len() > MAX_PART_BYTES {
            return Err("a part of it has more than 255 bytes");
        }
    }
    if path.split('/').next().is_some_and(|first| first.eq_ignore_ascii_case(super::DOCUMENT_NAME)) {
        return Err("the skill's text has this name");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_file_leaves_the_skill_or_is_in_the_way_of_another() {
        assert_eq!(check_files([("scripts/a.py", 1), ("b.md", 2), ("scripts/lib/c", 0), ("d..e", 1)]), Ok(()));
        for path in [
            "",
            "/etc/passwd",
            "../x",
            "a/../../x",
            "a//b",
            "a/./b",
            "a/",
            "a\\b",
            "C:\\x",
            "c:x",
            "a\0b",
            "a\nb",
            "SKILL.md",
            "SKILL.md/x",
            "skill.MD",
            &"x".repeat(256),
            &"x/".repeat(300),
        ] {
            assert!(matches!(check_files([(path, 1)]), Err(InvalidFiles::Path { .. })), "{path:?}");
        }
        for files in [[("a", 1), ("a", 1)], [("a", 1), ("a/b", 1)], [("a/b/c", 1), ("a/b", 1)]] {
            assert!(matches!(check_files(files), Err(InvalidFiles::Path { .. })), "{files:?}");
        }
        assert_eq!(check_files([("a", MAX_FILES_BYTES), ("b", 1)]), Err(InvalidFiles::TooLarge));
        let names: Vec<String> = (0..=MAX_FILES).map(|n| n.to_string()).collect();
        assert_eq!(check_files(names.iter().map(|name| (name.as_str(), 0))), Err(InvalidFiles::TooMany));
    }
}
