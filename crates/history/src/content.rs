//! Files as objects: a small one is one object, a large one a list of parts. No more than a part is ever in memory.

use std::{fs::File, io::Read, sync::Arc};

use crate::{
    Error, Id, Node,
    objects::{Adding, Objects},
};

/// The size of all parts but the last. Part of what files are called, so it must never change.
pub(crate) const PART_BYTES: usize = 1024 * 1024;

/// Stores the next `limit` bytes of `file`, or what there is of them, and gives their name and number.
pub(crate) fn store(adding: &mut Adding<'_>, file: &mut File, limit: u64) -> Result<(Id, u64), Stored> {
    let mut file = file.take(limit);
    let mut part = Vec::new();
    let mut parts = Vec::new();
    let mut size = 0;
    loop {
        part.clear();
        (&mut file).take(PART_BYTES as u64).read_to_end(&mut part).map_err(|_| Stored::Unreadable)?;
        size += part.len() as u64;
        let is_last = part.len() < PART_BYTES;
        if !part.is_empty() || parts.is_empty() {
            parts.push(adding.put(&part)?);
        }
        if is_last {
            break;
        }
    }
    if let [only] = parts[..] {
        return Ok((only, size));
    }
    let list: Vec<u8> = parts.iter().flat_map(|id| *id.as_bytes()).collect();
    Ok((adding.put(&list)?, size))
}

/// Why a file could not be stored: it could not be read, or we could not write.
pub(crate) enum Stored {
    Unreadable,
    Write(Error),
}

impl From<Error> for Stored {
    fn from(err: Error) -> Self {
        Self::Write(err)
    }
}

/// A file of a snapshot, read part by part.
pub struct Content {
    objects: Arc<Objects>,
    /// In bytes.
    pub size: u64,
    /// Permissions.
    pub mode: u32,
    parts: std::vec::IntoIter<Id>,
}

impl Content {
    pub(crate) fn open(objects: Arc<Objects>, node: &Node, path: &str) -> Result<Self, Error> {
        let not_a_file = |why| Err(Error::NotAFile { path: path.to_owned(), why });
        match node {
            Node::File { content, size, mode } => {
                let parts = parts(&objects, content, *size)?.into_iter();
                Ok(Self { objects, size: *size, mode: *mode, parts })
            }
            Node::Directory { .. } => not_a_file("is a directory"),
            Node::Link { .. } => not_a_file("is a link"),
            Node::Left { .. } => not_a_file("was not kept: it was too large, or could not be read"),
        }
    }
}

impl Iterator for Content {
    type Item = Result<Vec<u8>, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        self.parts.next().map(|id| self.objects.read(&id))
    }
}

/// Gives the names of a file's parts.
pub(crate) fn parts(objects: &Objects, content: &Id, size: u64) -> Result<Vec<Id>, Error> {
    if size <= PART_BYTES as u64 {
        return Ok(vec![*content]);
    }
    let list = objects.read(content)?;
    let ids: Vec<Id> =
        list.chunks_exact(Id::LEN).filter_map(|id| id.first_chunk().copied().map(Id::from_bytes)).collect();
    if ids.len() as u64 == size.div_ceil(PART_BYTES as u64) { Ok(ids) } else { Err(Error::Damaged(*content)) }
}

/// Reads a small file as a whole; `None` if it is larger than `limit`.
pub(crate) fn read_whole(objects: &Objects, content: &Id, size: u64, limit: u64) -> Result<Option<Vec<u8>>, Error> {
    if size > limit {
        return Ok(None);
    }
    let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
    for id in parts(objects, content, size)? {
        bytes.extend(objects.read(&id)?);
    }
    Ok(Some(bytes))
}
