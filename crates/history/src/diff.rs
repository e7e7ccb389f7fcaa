//! What lies between two snapshots. Directories that are the same are one object, so they are not looked into.

use std::collections::HashMap;

use crate::{
    Error, Id, Node,
    objects::Objects,
    tree::{join, pair},
};

/// A difference between two snapshots at one path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Relative to the workspace. Bytes: names need not be text.
    pub path: Vec<u8>,
    /// What stood there; a directory only if it was empty, or is one still and has another mode.
    pub before: Option<Node>,
    pub after: Option<Node>,
    /// Where the same content was before and is no more, if that is one place.
    pub previous_path: Option<Vec<u8>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ChangeKind {
    Created,
    Modified,
    Deleted,
}

impl Change {
    pub fn kind(&self) -> ChangeKind {
        match (&self.before, &self.after) {
            (None, _) => ChangeKind::Created,
            (Some(_), None) => ChangeKind::Deleted,
            (Some(_), Some(_)) => ChangeKind::Modified,
        }
    }

    pub fn is_directory(&self) -> bool {
        self.after.as_ref().or(self.before.as_ref()).is_some_and(Node::is_directory)
    }
}

/// Lists what is different in `b`, sorted by path.
pub(crate) fn diff(objects: &Objects, a: Option<&Node>, b: Option<&Node>) -> Result<Vec<Change>, Error> {
    let mut changes = Vec::new();
    walk(objects, &[], a, b, &mut changes)?;
    changes.sort_by(|a, b| a.path.cmp(&b.path));
    find_moves(&mut changes);
    Ok(changes)
}

/// Compares what is in two directories.
fn walk(
    objects: &Objects,
    path: &[u8],
    a: Option<&Node>,
    b: Option<&Node>,
    changes: &mut Vec<Change>,
) -> Result<(), Error> {
    let (tree_a, tree_b) = (objects.tree_of(a)?, objects.tree_of(b)?);
    for (name, a, b) in pair(&tree_a, &tree_b) {
        if a == b {
            continue;
        }
        let path = join(path, name);
        match (a, b) {
            (Some(Node::Directory { tree: before, .. }), Some(Node::Directory { tree: after, .. })) => {
                if before != after {
                    walk(objects, &path, a, b, changes)?;
                }
                if mode(a) != mode(b) {
                    changes.push(change(path, a, b));
                }
            }
            _ => {
                for (directory, is_before) in [(a, true), (b, false)] {
                    if !directory.is_some_and(Node::is_directory) {
                        continue;
                    }
                    let count = changes.len();
                    let (a, b) = if is_before { (directory, None) } else { (None, directory) };
                    walk(objects, &path, a, b, changes)?;
                    if changes.len() == count {
                        changes.push(change(path.clone(), a, b));
                    }
                }
                let [a, b] = [a, b].map(|node| node.filter(|node| !node.is_directory()));
                if a.is_some() || b.is_some() {
                    changes.push(change(path, a, b));
                }
            }
        }
    }
    Ok(())
}

fn change(path: Vec<u8>, before: Option<&Node>, after: Option<&Node>) -> Change {
    Change { path, before: before.cloned(), after: after.cloned(), previous_path: None }
}

fn mode(node: Option<&Node>) -> Option<u32> {
    match node {
        Some(Node::Directory { mode, .. }) => Some(*mode),
        _ => None,
    }
}

/// Finds new files whose content was at one other path that is gone.
fn find_moves(changes: &mut [Change]) {
    let content = |node: &Option<Node>| match node {
        Some(Node::File { content, size, .. }) if *size > 0 => Some(*content),
        _ => None,
    };
    let mut gone: HashMap<Id, Option<Vec<u8>>> = HashMap::new();
    for change in changes.iter().filter(|change| change.kind() == ChangeKind::Deleted) {
        if let Some(id) = content(&change.before) {
            gone.entry(id).and_modify(|path| *path = None).or_insert_with(|| Some(change.path.clone()));
        }
    }
    for change in changes.iter_mut().filter(|change| change.before.is_none()) {
        if let Some(id) = content(&change.after) {
            change.previous_path = gone.get(&id).cloned().flatten();
        }
    }
}
