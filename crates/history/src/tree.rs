//! What a snapshot says about a directory.
//!
//! The encoding is part of a tree's name, so it must never change: equal directories have equal names, and a directory
//! that did not change is the same object in every snapshot and every fork. Times and owners are not part of it, or a file
//! that was only touched would be a change.

use serde::{Deserialize, Serialize};

use crate::Id;

/// What stands at a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Node {
    Directory {
        tree: Id,
        /// Permissions only.
        mode: u32,
    },
    File {
        /// The content itself where it is small, else the list of its parts.
        content: Id,
        size: u64,
        mode: u32,
    },
    Link {
        target: Vec<u8>,
    },
    /// Something whose content is not kept. `stamp` is another where it is another.
    Left {
        why: Why,
        size: u64,
        stamp: Id,
    },
}

/// Why a content is not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Why {
    TooLarge,
    /// The system did not let us read it.
    Unreadable,
    /// A directory nested deeper than any program needs.
    TooDeep,
}

impl Node {
    pub fn is_directory(&self) -> bool {
        matches!(self, Self::Directory { .. })
    }

    /// Gives a file's size, in bytes.
    pub fn size(&self) -> Option<u64> {
        match self {
            Self::File { size, .. } | Self::Left { size, .. } => Some(*size),
            Self::Directory { .. } | Self::Link { .. } => None,
        }
    }
}

/// A directory: names and what stands there, sorted by name as bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Tree {
    pub(crate) entries: Vec<(Vec<u8>, Node)>,
}

impl Tree {
    pub(crate) fn encode(&self) -> Vec<u8> {
        postcard::to_allocvec(self).expect("writing to memory does not fail")
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        postcard::from_bytes(bytes).ok()
    }

    pub(crate) fn find(&self, name: &[u8]) -> Option<&Node> {
        let at = self.entries.binary_search_by(|(other, _)| other.as_slice().cmp(name)).ok()?;
        Some(&self.entries[at].1)
    }
}

/// Gives the names of a path, from the top.
pub(crate) fn components(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/').filter(|name| !name.is_empty())
}

/// Appends a name to a path.
pub(crate) fn join(path: &[u8], name: &[u8]) -> Vec<u8> {
    let mut joined = Vec::with_capacity(path.len() + 1 + name.len());
    joined.extend_from_slice(path);
    if !path.is_empty() {
        joined.push(b'/');
    }
    joined.extend_from_slice(name);
    joined
}

/// Pairs the names of two directories, in order.
pub(crate) fn pair<'a>(a: &'a Tree, b: &'a Tree) -> Vec<(&'a [u8], Option<&'a Node>, Option<&'a Node>)> {
    let (mut left, mut right) = (a.entries.iter().peekable(), b.entries.iter().peekable());
    let mut pairs = Vec::with_capacity(a.entries.len().max(b.entries.len()));
    loop {
        let order = match (left.peek(), right.peek()) {
            (None, None) => return pairs,
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
            (Some((a, _)), Some((b, _))) => a.cmp(b),
        };
        let from_a = if order.is_le() { left.next() } else { None };
        let from_b = if order.is_ge() { right.next() } else { None };
        let name = from_a.or(from_b).map_or(&[][..], |(name, _)| name.as_slice());
        pairs.push((name, from_a.map(|(_, node)| node), from_b.map(|(_, node)| node)));
    }
}
