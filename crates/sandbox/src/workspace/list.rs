//! Listing a directory, shallow or whole.

use chrono::{DateTime, Utc};
use rustix::fs::FileType;

use super::tree::{MAX_STEPS, Tree};
use super::upload::is_temporary;
use super::walk::{Found, Order, Walk, has_children};
use super::{modified, size};
use crate::Error;

/// A listing ends here and says so.
pub(super) const MAX_ENTRIES: usize = 100_000;
/// How many steps all links of one listing may take together: a tree full of long chains must not keep us busy.
const MAX_LINK_STEPS: usize = 100 * MAX_STEPS;

/// What is below a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// Sorted by path.
    pub entries: Vec<Entry>,
    /// Whether something was left out, because there is too much of it or because it cannot be named or read.
    pub truncated: bool,
}

/// One file or directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Relative to the workspace. Bytes that are not UTF-8 are shown as U+FFFD; such a name can be reached only through the
    /// directory it is in.
    pub path: String,
    pub name: String,
    /// Of a link: of what it points to, if that is inside; else `File`.
    pub kind: Kind,
    pub is_symlink: bool,
    /// In bytes; 0 for directories, special files, and links to nowhere or to the outside.
    pub size: u64,
    /// Of a link to nowhere or to the outside: its own.
    pub modified: DateTime<Utc>,
    /// Of a directory: whether anything is in it.
    pub has_children: bool,
}

/// What an entry is to a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    File,
    Directory,
}

pub(super) fn list(tree: &Tree, path: &str, depth: Option<u32>, limit: usize) -> Result<Listing, Error> {
    let base = tree.directory(path)?;
    let mut listing = Listing { entries: Vec::new(), truncated: false };
    if depth == Some(0) {
        return Ok(listing);
    }
    let prefix = if path.is_empty() { String::new() } else { format!("{path}/") };
    let mut link_steps = MAX_LINK_STEPS;
    // The tag of what is found is the place in `parents` of the directory it lies in.
    let mut parents = vec![Parent { level: 1, entry: None }];
    let mut walk = Walk::new(base, Order::BreadthFirst, 0);
    while let Some(found) = walk.next() {
        let Found { kind, stat, tag, .. } = found;
        if kind == FileType::RegularFile && is_temporary(found.name()) {
            continue;
        }
        let Parent { level, entry } = parents[tag];
        if let Some(parent) = entry {
            let parent: &mut Entry = &mut listing.entries[parent];
            parent.has_children = true;
        }
        if listing.entries.len() == limit {
            listing.truncated = true;
            break;
        }
        let full = [prefix.as_bytes(), &found.path].concat();
        let mut entry = Entry {
            path: String::from_utf8_lossy(&full).into_owned(),
            name: String::from_utf8_lossy(found.name()).into_owned(),
            kind: Kind::File,
            is_symlink: kind == FileType::Symlink,
            size: 0,
            modified: modified(&stat),
            has_children: false,
        };
        match kind {
            FileType::RegularFile => entry.size = size(&stat),
            FileType::Directory => {
                entry.kind = Kind::Directory;
                if depth.is_some_and(|depth| level >= depth) {
                    entry.has_children = walk.dir().is_some_and(|dir| has_children(dir, found.name()));
                } else if full.len() >= domain::path::MAX_LEN {
                    // A client cannot name what is in there.
                    listing.truncated = true;
                    entry.has_children = true;
                } else {
                    parents.push(Parent { level: level + 1, entry: Some(listing.entries.len()) });
                    walk.enter(found.path, parents.len() - 1);
                }
            }
            FileType::Symlink => {
                if let Some((place, stat)) = tree.target(&full, &mut link_steps) {
                    entry.modified = modified(&stat);
                    match FileType::from_raw_mode(stat.st_mode) {
                        FileType::RegularFile => entry.size = size(&stat),
                        FileType::Directory => {
                            entry.kind = Kind::Directory;
                            entry.has_children = has_children(&place.dir, place.name.as_deref().unwrap_or(b"."));
                        }
                        _ => {}
                    }
                }
            }
            _ => {}
        }
        listing.entries.push(entry);
    }
    listing.truncated |= walk.is_incomplete;
    listing.entries.sort_unstable_by(|a, b| a.path.cmp(&b.path));
    Ok(listing)
}

/// A directory whose entries are being listed.
#[derive(Clone, Copy)]
struct Parent {
    level: u32,
    /// Its own place in the listing; `None` for the one asked for.
    entry: Option<usize>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listing_that_is_cut_off_says_so_and_keeps_what_is_shallow() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("a/b")).unwrap();
        for path in ["a/b/1", "a/b/2", "x", "y"] {
            std::fs::write(root.path().join(path), "").unwrap();
        }
        let tree = Tree::open(root.path()).unwrap();
        let paths = |limit| {
            let Listing { entries, truncated } = list(&tree, "", None, limit).unwrap();
            (entries.into_iter().map(|entry| entry.path).collect::<Vec<_>>().join(" "), truncated)
        };
        assert_eq!(paths(3), ("a x y".to_owned(), true));
        assert_eq!(paths(4), ("a a/b x y".to_owned(), true));
        assert_eq!(paths(6), ("a a/b a/b/1 a/b/2 x y".to_owned(), false));
        assert!(list(&tree, "", None, 4).unwrap().entries[1].has_children);
    }
}
