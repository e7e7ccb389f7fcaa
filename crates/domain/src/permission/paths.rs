//! Patterns of paths, as in `.gitignore`: `*` within a name, `**` over names, a bare name at any depth.

/// Where relative patterns and words begin.
pub(super) const WORKSPACE: &str = "/workspace";

/// A pattern, split at its slashes and absolute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pattern(Vec<String>);

impl Pattern {
    /// `//x` is absolute like `/x`, `src/x` is in the workspace, `x` is anywhere, a slash at the end means all beneath.
    pub(super) fn new(pattern: &str) -> Self {
        let is_directory = pattern.ends_with('/');
        let trimmed = pattern.trim_end_matches('/');
        let mut segments: Vec<String> = if pattern.starts_with('/') {
            names(trimmed)
        } else if let Some(rest) = trimmed.strip_prefix("~/") {
            // The home directory differs from image to image; under any of them is wide enough for a rule.
            let mut segments = vec!["**".to_owned()];
            segments.extend(names(rest));
            segments
        } else if trimmed.strip_prefix("./").unwrap_or(trimmed).contains('/') || trimmed.starts_with("./") {
            names(&format!("{WORKSPACE}/{trimmed}"))
        } else {
            vec!["**".to_owned(), trimmed.to_owned()]
        };
        if is_directory {
            segments.push("**".to_owned());
        }
        Self(segments)
    }

    /// Tells whether the pattern is for exactly this path.
    pub(super) fn matches(&self, path: &str) -> bool {
        matches(&self.0, &names(path))
    }

    /// Tells whether the pattern is for this path or a directory above it.
    pub(super) fn matches_within(&self, path: &str) -> bool {
        let names = names(path);
        (0..=names.len()).any(|n| matches(&self.0, &names[..n]))
            // `secrets/**` is about `secrets` itself, too.
            || self.0.split_last().is_some_and(|(last, rest)| last == "**" && !rest.is_empty() && matches(rest, &names))
    }

    /// Tells whether the pattern may be for something beneath this directory.
    pub(super) fn reaches_below(&self, directory: &str) -> bool {
        reaches(&self.0, &names(directory))
    }
}

/// Gives the names of a path from the root, without `.`, `..` and doubled slashes.
fn names(path: &str) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for name in path.split('/') {
        match name {
            "" | "." => {}
            ".." => drop(names.pop()),
            name => names.push(name.to_owned()),
        }
    }
    names
}

/// Makes a path absolute, from the workspace.
pub(super) fn resolve(path: &str) -> String {
    let path = if path.starts_with('/') { path.to_owned() } else { format!("{WORKSPACE}/{path}") };
    format!("/{}", names(&path).join("/"))
}

fn matches(pattern: &[String], path: &[String]) -> bool {
    match (pattern.split_first(), path.split_first()) {
        (None, None) => true,
        (None, Some(_)) => false,
        (Some((first, rest)), _) if first == "**" => {
            // At the end it stands for at least one name: `src/**` is not `src`.
            if rest.is_empty() { !path.is_empty() } else { (0..=path.len()).any(|n| matches(rest, &path[n..])) }
        }
        (Some(_), None) => false,
        (Some((first, pattern)), Some((name, path))) => glob(first, name) && matches(pattern, path),
    }
}

fn reaches(pattern: &[String], directory: &[String]) -> bool {
    match (pattern.split_first(), directory.split_first()) {
        (_, None) => true,
        (None, Some(_)) => false,
        (Some((first, _)), Some(_)) if first == "**" => true,
        (Some((first, pattern)), Some((name, directory))) => glob(first, name) && reaches(pattern, directory),
    }
}

/// Tells whether `text` fits `pattern`, in which `*` stands for any characters, or none. Takes linear space and at most
/// the product of both lengths in time, whatever both hold.
pub(super) fn glob(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    let (mut p, mut t) = (0, 0);
    let mut retry = None;
    while t < text.len() {
        if p < pattern.len() && pattern[p] == '*' {
            retry = Some((p, t));
            p += 1;
        } else if p < pattern.len() && pattern[p] == text[t] {
            p += 1;
            t += 1;
        } else if let Some((star, from)) = retry {
            // The last star takes one character more.
            retry = Some((star, from + 1));
            p = star + 1;
            t = from + 1;
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_read_as_in_gitignore() {
        for (pattern, path, exact, within) in [
            ("/workspace/secrets/**", "/workspace/secrets/a/b", true, true),
            ("/workspace/secrets/**", "/workspace/secrets", false, true),
            ("/workspace/secrets/**", "/workspace/secrets2", false, false),
            ("/workspace/secrets/**", "/workspace/src/../secrets/a", true, true),
            ("/workspace/secrets", "/workspace/secrets/a", false, true),
            ("//etc/passwd", "/etc/passwd", true, true),
            ("src/**", "/workspace/src/a/b.rs", true, true),
            ("src/**", "/other/src/a", false, false),
            ("src/*", "/workspace/src/a", true, true),
            ("src/*", "/workspace/src/a/b", false, true),
            ("./src/*.rs", "/workspace/src/a.rs", true, true),
            (".env", "/workspace/deep/.env", true, true),
            ("*.key", "/anywhere/x.key", true, true),
            ("*.key", "/anywhere/x.keys", false, false),
            ("**/node_modules/**", "/workspace/a/node_modules/b", true, true),
            ("/workspace/logs/", "/workspace/logs/x", true, true),
            ("~/.ssh/**", "/home/agent/.ssh/id", true, true),
            ("/**", "/etc/shadow", true, true),
        ] {
            let parsed = Pattern::new(pattern);
            assert_eq!((parsed.matches(path), parsed.matches_within(path)), (exact, within), "{pattern} {path}");
        }
    }

    #[test]
    fn a_search_from_above_reaches_what_is_beneath() {
        for (pattern, directory, reaches) in [
            ("/workspace/secrets/**", "/workspace", true),
            ("/workspace/secrets/**", "/", true),
            ("/workspace/secrets/**", "/workspace/src", false),
            ("**/.env", "/workspace/src", true),
            ("/workspace/*/private", "/workspace/a", true),
        ] {
            assert_eq!(Pattern::new(pattern).reaches_below(directory), reaches, "{pattern} {directory}");
        }
    }

    #[test]
    fn a_star_takes_any_characters_and_never_long() {
        for (pattern, text, fits) in [
            ("npm run *", "npm run test", true),
            ("npm run *", "npm run", false),
            ("git * main", "git push origin main", true),
            ("*", "", true),
            ("a*b*c", "aXbYc", true),
            ("a*b*c", "aXbY", false),
            ("", "x", false),
        ] {
            assert_eq!(glob(pattern, text), fits, "{pattern} {text}");
        }
        let hard = "a*".repeat(50) + "b";
        assert!(!glob(&hard, &"a".repeat(5_000)));
    }
}
