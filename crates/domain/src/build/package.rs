//! Names of packages, with their versions, as the installers take them.
//!
//! They come from clients and become words of a shell command, so each kind has a grammar that has no room for a quote, a
//! blank, an option or a path. What an installer takes beyond that (a URL, a file) belongs into `dockerfileExtensions`,
//! where it can be seen for what it is.

use std::str::FromStr;

const MAX_BYTES: usize = 255;

/// Who installs a package.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    System,
    Python,
    Node,
}

/// A word that names no kind of package.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is none of system, python, node")]
pub struct UnknownKind(pub String);

impl FromStr for Kind {
    type Err = UnknownKind;

    fn from_str(kind: &str) -> Result<Self, UnknownKind> {
        match kind {
            "system" => Ok(Self::System),
            "python" => Ok(Self::Python),
            "node" | "nodejs" => Ok(Self::Node),
            _ => Err(UnknownKind(kind.to_owned())),
        }
    }
}

impl Kind {
    /// Tells whether `name` is a package of this kind, with or without a version.
    pub fn is_name(self, name: &str) -> bool {
        match self {
            Self::System => is_system(name),
            Self::Python => is_python(name),
            Self::Node => is_node(name),
        }
    }

    /// Gives the name of a package without what is said of its version.
    pub fn bare(self, package: &str) -> &str {
        let end = match self {
            Self::System => package.find(['=', ':']),
            Self::Python => package.find(['[', '=', '<', '>', '~', '!']),
            Self::Node => package.get(1..).and_then(|rest| rest.find('@')).map(|at| at + 1),
        };
        &package[..end.unwrap_or(package.len())]
    }
}

/// Tells whether `name` is a package of the distribution: `jq`, `libssl-dev:amd64`, `curl=7.88.1-10+deb12u5`.
pub fn is_system(name: &str) -> bool {
    let (name, version) = match name.split_once('=') {
        Some((name, version)) => (name, Some(version)),
        None => (name, None),
    };
    let (name, architecture) = match name.split_once(':') {
        Some((name, architecture)) => (name, Some(architecture)),
        None => (name, None),
    };
    // A trailing '-' or '+' tells apt to remove or to keep: both only after a name, which must not end so.
    name.len() >= 2
        && all(name, |c| c.is_ascii_lowercase() || c.is_ascii_digit() || "+-.".contains(c))
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && !name.ends_with('-')
        && architecture.is_none_or(|text| all(text, |c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'))
        && version.is_none_or(|text| all(text, |c| c.is_ascii_alphanumeric() || ".+:~-".contains(c)))
}

/// Tells whether `name` is a requirement of a Python package: `flask`, `uvicorn[standard]`, `numpy>=1.26,<2`.
pub fn is_python(name: &str) -> bool {
    if name.len() > MAX_BYTES {
        return false;
    }
    let end = name.find(|c: char| !is_python_word(c)).unwrap_or(name.len());
    let (word, mut rest) = name.split_at(end);
    if let Some(inner) = rest.strip_prefix('[') {
        let Some((extras, after)) = inner.split_once(']') else { return false };
        if !extras.split(',').all(|extra| is_python_name(extra.trim())) {
            return false;
        }
        rest = after;
    }
    is_python_name(word) && (rest.is_empty() || rest.split(',').all(is_python_version))
}

fn is_python_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || "._-".contains(c)
}

fn is_python_name(name: &str) -> bool {
    all(name, is_python_word)
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.ends_with(|c: char| c.is_ascii_alphanumeric())
}

fn is_python_version(clause: &str) -> bool {
    let operators = ["===", "==", ">=", "<=", "~=", "!=", "<", ">"];
    let version = operators.iter().find_map(|operator| clause.strip_prefix(operator));
    version.is_some_and(|version| all(version, |c| c.is_ascii_alphanumeric() || ".*+!_-".contains(c)))
}

/// Tells whether `name` is a package of npm: `typescript`, `@types/node`, `vite@^5.2`, `npm@latest`.
pub fn is_node(name: &str) -> bool {
    let (scope, rest) = match name.strip_prefix('@') {
        Some(scoped) => match scoped.split_once('/') {
            Some((scope, rest)) => (Some(scope), rest),
            None => return false,
        },
        None => (None, name),
    };
    let (word, version) = match rest.split_once('@') {
        Some((word, version)) => (word, Some(version)),
        None => (rest, None),
    };
    name.len() <= MAX_BYTES
        && is_node_name(word)
        && scope.is_none_or(is_node_name)
        && version.is_none_or(|text| all(text, |c| c.is_ascii_alphanumeric() || ".^~<>=*+_-".contains(c)))
}

fn is_node_name(name: &str) -> bool {
    all(name, |c| c.is_ascii_alphanumeric() || "._~-".contains(c)) && !name.starts_with(['.', '-', '~', '_'])
}

fn all(text: &str, is_good: impl Fn(char) -> bool) -> bool {
    (1..=MAX_BYTES).contains(&text.len()) && text.chars().all(is_good)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a shell or an installer would take for more than a name.
    const NO_NAMES: [&str; 24] = [
        "",
        " ",
        "a b",
        "-y",
        "--index-url=http://x",
        "a;id",
        "a&&id",
        "$(id)",
        "`id`",
        "a|id",
        "a>b'",
        "a'b",
        "a\"b",
        "a\\b",
        "../a",
        "/etc/passwd",
        "./a",
        "a\nb",
        "a\tb",
        "git+https://x/y",
        "https://x/y.whl",
        "a@https://x",
        "ä",
        "a#b",
    ];

    #[test]
    fn a_name_is_told_from_its_version() {
        for (kind, package, name) in [
            (Kind::System, "curl=7.88.1", "curl"),
            (Kind::System, "libc6:amd64", "libc6"),
            (Kind::Python, "uvicorn[standard]>=0.30", "uvicorn"),
            (Kind::Python, "flask", "flask"),
            (Kind::Node, "@types/node@20", "@types/node"),
            (Kind::Node, "vite@^5", "vite"),
            (Kind::Node, "", ""),
        ] {
            assert_eq!(kind.bare(package), name);
        }
    }

    #[test]
    fn names_are_taken_and_everything_else_is_not() {
        for (is_name, good) in [
            (
                is_system as fn(&str) -> bool,
                &["jq", "libssl-dev", "g++", "libc6:amd64", "curl=7.88.1-10+deb12u5", "r-base"][..],
            ),
            (
                is_python,
                &[
                    "flask",
                    "Flask==3.0",
                    "uvicorn[standard]",
                    "numpy>=1.26,<2",
                    "zope.interface",
                    "a~=1.0",
                    "x===1!2+l",
                ],
            ),
            (is_node, &["typescript", "@types/node", "vite@^5.2", "npm@latest", "@babel/core@7.x", "left-pad@>=1.0"]),
        ] {
            for name in good {
                assert!(is_name(name), "{name}");
            }
            for name in NO_NAMES {
                assert!(!is_name(name), "{name:?}");
            }
            assert!(!is_name(&"a".repeat(300)));
        }
        for (is_name, bad) in [
            (is_system as fn(&str) -> bool, &["JQ", "a", "jq-", "curl=", "=1", "jq/stable"][..]),
            (is_python, &["flask==", "flask=1", "[x]", "a[]", "a[x", "a,b", "-e", "a==1;python_version>'3'"]),
            (is_node, &["@types", "@/x", "a@", ".bin", "file:..", "a/b", "npm:x"]),
        ] {
            for name in bad {
                assert!(!is_name(name), "{name:?}");
            }
        }
    }
}
