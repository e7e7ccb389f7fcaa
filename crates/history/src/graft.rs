//! A tree made of another by replacing what stands at some paths: how one writer's changes are told from another's, and
//! how a single file is brought back.

use std::collections::BTreeMap;

use crate::{
    Error, Id, Node,
    objects::{Adding, Objects},
    tree::{Tree, components, join},
};

/// What becomes of the names of a directory.
#[derive(Debug, Default)]
pub(crate) struct Edits(BTreeMap<Vec<u8>, Edit>);

#[derive(Debug)]
enum Edit {
    /// This stands there, or nothing.
    Set(Option<Node>),
    /// Something becomes of what is in the directory there, which has this mode where it comes from, or is none there.
    Below(Option<u32>, Edits),
}

impl Edits {
    /// Sets what stands at `path`, of whose directories `modes` tells the modes, from the top.
    pub(crate) fn set(&mut self, path: &[u8], modes: &[Option<u32>], node: Option<Node>) {
        let mut names = components(path).peekable();
        let mut modes = modes.iter();
        let mut edits = self;
        while let Some(name) = names.next() {
            if names.peek().is_none() {
                edits.0.insert(name.to_vec(), Edit::Set(node));
                return;
            }
            let mode = modes.next().copied().flatten();
            match edits.0.entry(name.to_vec()).or_insert_with(|| Edit::Below(mode, Self::default())) {
                Edit::Below(_, below) => edits = below,
                // The whole directory is replaced already, with what is at this path.
                Edit::Set(_) => return,
            }
        }
    }

    /// Takes what the directory `source` has at `path`.
    pub(crate) fn take(&mut self, objects: &Objects, source: &Id, path: &[u8]) -> Result<(), Error> {
        let mut modes = Vec::new();
        let mut above = Vec::new();
        for name in components(path) {
            above = join(&above, name);
            modes.push(match objects.find(source, &above)? {
                Some(Node::Directory { mode, .. }) => Some(mode),
                _ => None,
            });
        }
        self.set(path, &modes, objects.find(source, path)?);
        Ok(())
    }

    /// Makes the edited tree of `base`.
    pub(crate) fn apply(&self, objects: &Objects, adding: &mut Adding<'_>, base: &Tree) -> Result<Tree, Error> {
        let mut entries: BTreeMap<Vec<u8>, Node> = base.entries.iter().cloned().collect();
        for (name, edit) in &self.0 {
            let node = match edit {
                Edit::Set(node) => node.clone(),
                Edit::Below(mode, below) => {
                    let old = entries.get(name).cloned();
                    let is_directory = old.as_ref().is_some_and(Node::is_directory);
                    if mode.is_none() && !is_directory {
                        continue;
                    }
                    let tree = below.apply(objects, adding, &objects.tree_of(old.as_ref())?)?;
                    if tree.entries.is_empty() && (mode.is_none() || !is_directory) {
                        // The last of it went, or nothing of it came.
                        if is_directory { None } else { old }
                    } else {
                        let mode = match (&old, mode) {
                            (Some(Node::Directory { mode, .. }), _) => *mode,
                            (_, mode) => mode.unwrap_or(0o755),
                        };
                        Some(Node::Directory { tree: adding.put(&tree.encode())?, mode })
                    }
                }
            };
            match node {
                Some(node) => entries.insert(name.clone(), node),
                None => entries.remove(name),
            };
        }
        Ok(Tree { entries: entries.into_iter().collect() })
    }
}
