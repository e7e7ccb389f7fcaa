//! What a snapshot holds.

use crate::{Error, Id, Node, objects::Objects, tree::join};

/// Something that a snapshot holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Relative to the workspace.
    pub path: Vec<u8>,
    pub node: Node,
}

/// What is below a path.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// Sorted by path, each directory before what is in it.
    pub entries: Vec<Listed>,
    /// Whether there is more.
    pub is_truncated: bool,
}

/// Lists what is at and below the path `prefix`: the file itself, or all in the directory.
pub(crate) fn list(objects: &Objects, root: &Id, prefix: &[u8], limit: usize) -> Result<Listing, Error> {
    let mut listing = Listing::default();
    let path = crate::tree::components(prefix).fold(Vec::new(), |path, name| join(&path, name));
    match objects.find(root, &path)? {
        Some(Node::Directory { tree, .. }) => below(objects, &tree, &path, limit, &mut listing)?,
        Some(node) => listing.entries.push(Listed { path, node }),
        None => {}
    }
    Ok(listing)
}

fn below(objects: &Objects, tree: &Id, path: &[u8], limit: usize, listing: &mut Listing) -> Result<(), Error> {
    for (name, node) in objects.tree(tree)?.entries {
        if listing.entries.len() >= limit {
            listing.is_truncated = true;
            return Ok(());
        }
        let path = join(path, &name);
        listing.entries.push(Listed { path: path.clone(), node: node.clone() });
        if let Node::Directory { tree, .. } = &node {
            below(objects, tree, &path, limit, listing)?;
        }
    }
    Ok(())
}
