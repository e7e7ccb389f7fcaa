//! A change as text: what `git diff` would say, so that people and `git apply` can read it.

use std::{fmt::Write, time::Duration};

use similar::{ChangeTag, TextDiff};

use crate::{Change, Error, Node, content::read_whole, objects::Objects};

/// Larger files are not compared line by line.
const MAX_COMPARED_BYTES: u64 = 1024 * 1024;
/// After this long the comparison of two texts may become coarser.
const DEADLINE: Duration = Duration::from_millis(100);
/// A NUL in so many bytes makes a file binary, as it does for git.
const LOOKED_AT: usize = 8000;

/// What changed in a file, line by line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FileDiff {
    /// Unified, with git's header. Empty for directories.
    pub text: String,
    pub additions: u64,
    pub deletions: u64,
    /// Whether it is no text, or too large or not kept, so that nothing was compared.
    pub is_opaque: bool,
}

/// One side of a comparison.
enum Side {
    Nothing,
    Text(String),
    Opaque,
}

pub(crate) fn diff(objects: &Objects, change: &Change) -> Result<FileDiff, Error> {
    if change.is_directory() {
        return Ok(FileDiff::default());
    }
    let path = String::from_utf8_lossy(&change.path);
    let mut text = format!("diff --git a/{path} b/{path}\n");
    let (from, to) = (mode(change.before.as_ref()), mode(change.after.as_ref()));
    // Writing to a string does not fail.
    let _ = match (from, to) {
        (None, Some(mode)) => writeln!(text, "new file mode {mode:o}"),
        (Some(mode), None) => writeln!(text, "deleted file mode {mode:o}"),
        (Some(from), Some(to)) if from != to => writeln!(text, "old mode {from:o}\nnew mode {to:o}"),
        _ => Ok(()),
    };
    let old = if change.before.is_some() { format!("a/{path}") } else { "/dev/null".to_owned() };
    let new = if change.after.is_some() { format!("b/{path}") } else { "/dev/null".to_owned() };
    let (a, b) = (side(objects, change.before.as_ref())?, side(objects, change.after.as_ref())?);
    let (a, b) = match (a, b) {
        (Side::Opaque, _) | (_, Side::Opaque) => {
            if !has_same_content(change) {
                let _ = writeln!(text, "Binary files {old} and {new} differ");
            }
            return Ok(FileDiff { text, is_opaque: true, ..FileDiff::default() });
        }
        (a, b) => (a.into_text(), b.into_text()),
    };
    let diff = TextDiff::configure().timeout(DEADLINE).diff_lines(a.as_str(), b.as_str());
    let (mut additions, mut deletions) = (0, 0);
    for change in diff.iter_all_changes() {
        match change.tag() {
            ChangeTag::Insert => additions += 1,
            ChangeTag::Delete => deletions += 1,
            ChangeTag::Equal => {}
        }
    }
    if additions + deletions > 0 {
        text.push_str(&diff.unified_diff().context_radius(3).header(&old, &new).to_string());
    }
    Ok(FileDiff { text, additions, deletions, is_opaque: false })
}

impl Side {
    fn into_text(self) -> String {
        match self {
            Self::Text(text) => text,
            Self::Nothing | Self::Opaque => String::new(),
        }
    }
}

fn side(objects: &Objects, node: Option<&Node>) -> Result<Side, Error> {
    Ok(match node {
        None | Some(Node::Directory { .. }) => Side::Nothing,
        Some(Node::Link { target }) => Side::Text(String::from_utf8_lossy(target).into_owned()),
        Some(Node::Left { .. }) => Side::Opaque,
        Some(Node::File { content, size, .. }) => match read_whole(objects, content, *size, MAX_COMPARED_BYTES)? {
            Some(bytes) if !bytes.iter().take(LOOKED_AT).any(|byte| *byte == 0) => Side::Text(
                String::from_utf8(bytes).unwrap_or_else(|err| String::from_utf8_lossy(err.as_bytes()).into_owned()),
            ),
            Some(_) | None => Side::Opaque,
        },
    })
}

fn has_same_content(change: &Change) -> bool {
    match (&change.before, &change.after) {
        (Some(Node::File { content: a, .. }), Some(Node::File { content: b, .. })) => a == b,
        _ => false,
    }
}

/// Gives the mode as git writes it.
fn mode(node: Option<&Node>) -> Option<u32> {
    match node? {
        Node::File { mode, .. } => Some(0o100_000 | mode),
        Node::Link { .. } => Some(0o120_000),
        Node::Left { .. } => Some(0o100_000),
        Node::Directory { .. } => None,
    }
}
