//! Which images an environment may name.

/// The repository of the images that are built here.
pub(crate) const BUILT: &str = "atelier-env";

/// Tells whether a name is that of an image that was built here. No environment may name one: whose it is, and what is in
/// it, is for the recipe to say that it was made from.
pub(crate) fn is_built(name: &str) -> bool {
    name.strip_prefix(BUILT).is_some_and(|rest| rest.is_empty() || rest.starts_with([':', '@']))
}

/// Tells whether a name is like one of `patterns`, in which `*` stands for any characters but a slash. A name is taken as
/// it is written: another spelling of an image is another name.
pub(crate) fn are_among(patterns: &[String], name: &str) -> bool {
    patterns.iter().any(|pattern| is_like(pattern, name))
}

fn is_like(pattern: &str, name: &str) -> bool {
    let Some((fixed, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(name) = name.strip_prefix(fixed) else { return false };
    let reach = name.find('/').unwrap_or(name.len());
    // Names have few characters, and patterns fewer stars.
    name.char_indices()
        .map(|(at, _)| at)
        .chain([name.len()])
        .take_while(|at| *at <= reach)
        .any(|at| is_like(rest, &name[at..]))
}

#[cfg(test)]
mod tests {
    use super::{is_built, is_like};

    #[test]
    fn what_was_built_is_told_by_its_repository() {
        for name in ["atelier-env", "atelier-env:0123", "atelier-env@sha256:0123"] {
            assert!(is_built(name), "{name}");
        }
        for name in ["atelier-environment:1", "my/atelier-env:1", "atelier-workspace:latest"] {
            assert!(!is_built(name), "{name}");
        }
    }

    #[test]
    fn a_star_stands_for_anything_but_a_slash() {
        for (pattern, name, expected) in [
            ("atelier-*", "atelier-workspace:latest", true),
            ("atelier-*", "atelier-", true),
            ("atelier-*", "atelier-x/root:latest", false),
            ("atelier-*", "my-atelier-x", false),
            ("atelier-*", "sha256:0123", false),
            ("debian:*-slim", "debian:bookworm-slim", true),
            ("debian:*-slim", "debian:bookworm", false),
            ("ghcr.io/acme/*", "ghcr.io/acme/tools:1", true),
            ("ghcr.io/acme/*", "ghcr.io/acme/a/b", false),
            ("*/*", "a/b", true),
            ("*", "postgres:17", true),
            ("*", "a/b", false),
            ("debian:12", "debian:12", true),
            ("debian:12", "debian:123", false),
            ("", "a", false),
        ] {
            assert_eq!(is_like(pattern, name), expected, "{pattern} {name}");
        }
    }
}
