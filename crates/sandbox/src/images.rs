//! Which images an environment may name.

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
    use super::is_like;

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
