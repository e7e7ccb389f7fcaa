//! What a write changed, for the people who watch.

use std::time::Duration;

use domain::event::Detail;
use similar::{ChangeTag, TextDiff};

use super::text;

/// Larger texts are not compared line by line: it would hold up everything else.
const MAX_COMPARED_BYTES: usize = 1024 * 1024;

/// The most that is stored of a diff, in characters.
const MAX_DIFF_CHARS: usize = 20_000;

/// Describes the change from `old` (`None`: there was no file) to `new`.
pub(super) fn detail(path: &str, old: Option<&str>, new: &str) -> Detail {
    let is_new = old.is_none();
    let old = old.unwrap_or_default();
    if old.len().max(new.len()) > MAX_COMPARED_BYTES {
        let count = |text: &str| text.lines().count() as i64;
        let diff = "(The file is too large to show what changed.)".to_owned();
        return Detail::FileWrite { path: path.to_owned(), is_new, diff, additions: count(new), deletions: count(old) };
    }
    let diff = TextDiff::configure().timeout(Duration::from_millis(50)).diff_lines(old, new);
    let (mut additions, mut deletions) = (0, 0);
    for change in diff.iter_all_changes() {
        match change.tag() {
            ChangeTag::Insert => additions += 1,
            ChangeTag::Delete => deletions += 1,
            ChangeTag::Equal => {}
        }
    }
    let from = if is_new { "/dev/null".to_owned() } else { format!("a{path}") };
    let unified = diff.unified_diff().context_radius(3).header(&from, &format!("b{path}")).to_string();
    Detail::FileWrite { path: path.to_owned(), is_new, diff: text::cap(unified, MAX_DIFF_CHARS), additions, deletions }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_a_unified_diff_with_its_counts() {
        let detail = detail("/workspace/x", Some("a\nb\nc\n"), "a\nB\nc\nd\n");
        let diff = "--- a/workspace/x\n+++ b/workspace/x\n@@ -1,3 +1,4 @@\n a\n-b\n+B\n c\n+d\n".to_owned();
        let path = "/workspace/x".to_owned();
        assert_eq!(detail, Detail::FileWrite { path, is_new: false, diff, additions: 2, deletions: 1 });
    }

    #[test]
    fn a_new_file_is_all_additions() {
        let Detail::FileWrite { diff, is_new: true, additions: 2, deletions: 0, .. } = detail("/x", None, "a\nb")
        else {
            panic!("a new file")
        };
        assert_eq!(diff, "--- /dev/null\n+++ b/x\n@@ -0,0 +1,2 @@\n+a\n+b\n\\ No newline at end of file\n");
    }

    #[test]
    fn a_large_change_is_not_compared() {
        let (old, new) = ("x\n".repeat(600_000), "y\n".repeat(600_001));
        assert!(matches!(
            detail("/x", Some(&old), &new),
            Detail::FileWrite { additions: 600_001, deletions: 600_000, .. }
        ));
    }
}
