//! Forgetting what no snapshot holds any more.

use std::collections::HashSet;

use crate::{Error, Id, Node, content, objects::Objects};

/// What was forgotten.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Collected {
    pub objects: u64,
    /// On the disk.
    pub bytes: u64,
}

/// Removes the objects that none of the trees `roots` leads to. One that cannot be read is an error, before anything is
/// removed.
pub(crate) fn collect(objects: &Objects, roots: &[Id]) -> Result<Collected, Error> {
    let (mut trees, mut lists, mut live) = (HashSet::new(), HashSet::new(), HashSet::new());
    let mut todo: Vec<Id> = roots.to_vec();
    while let Some(tree) = todo.pop() {
        // Not by `live`: a file may be made whose content reads like a directory, and so has its name.
        if !trees.insert(tree) {
            continue;
        }
        live.insert(tree);
        for (_, node) in objects.tree(&tree)?.entries {
            match node {
                Node::Directory { tree, .. } => todo.push(tree),
                Node::File { content, size, .. } => {
                    live.insert(content);
                    if size > content::PART_BYTES as u64 && lists.insert(content) {
                        live.extend(content::parts(objects, &content, size)?);
                    }
                }
                Node::Link { .. } | Node::Left { .. } => {}
            }
        }
    }
    let mut dead = Collected::default();
    let packs: Vec<_> = objects.packs().iter().collect();
    for record in packs.iter().flat_map(|pack| pack.records()).filter(|record| !live.contains(&record.id)) {
        dead.objects += 1;
        dead.bytes += u64::from(record.stored);
    }
    if dead.objects > 0 {
        objects.replace(&packs, |id| live.contains(id))?;
    }
    Ok(dead)
}
