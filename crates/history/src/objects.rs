//! The objects of one history: all its packs, and the pack that is being written.
//!
//! Each snapshot that found something new adds a pack. So that there are never many, packs of about the same size become
//! one when there are too many of them; that way each object is copied a few times in the life of a history, not once a
//! snapshot.

use std::{
    collections::HashSet,
    fs, io,
    path::{Path, PathBuf},
};

use crate::{
    Error, Id,
    pack::{Pack, SUFFIX, UNFINISHED, Writer},
    tree::{Node, Tree, components},
};

/// Packs of one size class; one more, and they become one pack.
const MAX_ALIKE: usize = 12;
/// A size class is this many times the one below it.
const CLASS: u64 = 16;
const LEVEL: i32 = 3;
/// Smaller objects do not get smaller.
const MIN_COMPRESSED: usize = 64;

/// The packs, open for reading.
pub(crate) struct Objects {
    dir: PathBuf,
    packs: Vec<Pack>,
    /// Whether something is there that should be a pack and is not: what was in it may be known only from an index.
    pub(crate) is_damaged: bool,
}

impl Objects {
    pub(crate) fn open(dir: &Path) -> Result<Self, Error> {
        // A merge removes packs after it made the one that replaces them, so what vanished between listing and opening is
        // found by listing again.
        for _ in 0..16 {
            if let Some(objects) = Self::try_open(dir)? {
                return Ok(objects);
            }
        }
        Err(Error::at(dir)(io::Error::other("packs keep vanishing")))
    }

    fn try_open(dir: &Path) -> Result<Option<Self>, Error> {
        let mut objects = Self { dir: dir.to_owned(), packs: Vec::new(), is_damaged: false };
        for entry in fs::read_dir(dir).map_err(Error::at(dir))? {
            let path = entry.map_err(Error::at(dir))?.path();
            if !path.as_os_str().as_encoded_bytes().ends_with(SUFFIX.as_bytes()) {
                continue;
            }
            match Pack::open(&path) {
                Ok(Some(pack)) => objects.packs.push(pack),
                Ok(None) => objects.is_damaged = true,
                Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(err) => return Err(Error::at(&path)(err)),
            }
        }
        // The large ones first: most of what is looked for is there.
        objects.packs.sort_by_key(|pack| std::cmp::Reverse(pack.records().len()));
        Ok(Some(objects))
    }

    /// Removes what a crash left unfinished. Only for the holder of the lock.
    pub(crate) fn sweep(dir: &Path) -> Result<(), Error> {
        for entry in fs::read_dir(dir).map_err(Error::at(dir))? {
            let entry = entry.map_err(Error::at(dir))?;
            if entry.file_name().as_encoded_bytes().starts_with(UNFINISHED.as_bytes()) {
                fs::remove_file(entry.path()).map_err(Error::at(entry.path()))?;
            }
        }
        Ok(())
    }

    pub(crate) fn contains(&self, id: &Id) -> bool {
        self.packs.iter().any(|pack| pack.find(id).is_some())
    }

    pub(crate) fn read(&self, id: &Id) -> Result<Vec<u8>, Error> {
        let mut result = Err(Error::Damaged(*id));
        for pack in &self.packs {
            if let Some(record) = pack.find(id) {
                result = pack.read(record);
                // Another pack may hold a sound copy.
                if result.is_ok() {
                    break;
                }
            }
        }
        result
    }

    pub(crate) fn tree(&self, id: &Id) -> Result<Tree, Error> {
        Tree::decode(&self.read(id)?).ok_or(Error::Damaged(*id))
    }

    /// Gives the tree of a directory, an empty one for what is none.
    pub(crate) fn tree_of(&self, node: Option<&Node>) -> Result<Tree, Error> {
        match node {
            Some(Node::Directory { tree, .. }) => self.tree(tree),
            Some(_) | None => Ok(Tree::default()),
        }
    }

    /// Finds what stands at a path below the directory `root`.
    pub(crate) fn find(&self, root: &Id, path: &[u8]) -> Result<Option<Node>, Error> {
        let mut node = Node::Directory { tree: *root, mode: 0o755 };
        for name in components(path) {
            let Node::Directory { tree, .. } = &node else { return Ok(None) };
            match self.tree(tree)?.find(name) {
                Some(found) => node = found.clone(),
                None => return Ok(None),
            }
        }
        Ok(Some(node))
    }

    pub(crate) fn packs(&self) -> &[Pack] {
        &self.packs
    }

    /// Begins to add objects. Only for the holder of the lock.
    pub(crate) fn add(&self) -> Adding<'_> {
        Adding { objects: self, writer: None, added: HashSet::new(), compressor: None }
    }

    /// Makes one pack of many alike, if there are. Only for the holder of the lock.
    pub(crate) fn tidy(&self) -> Result<(), Error> {
        let class =
            |pack: &Pack| pack.records().iter().map(|record| u64::from(record.stored)).sum::<u64>().max(1).ilog(CLASS);
        let highest = self.packs.iter().map(class).max().unwrap_or(0);
        let is_full = |limit: &u32| self.packs.iter().filter(|pack| class(pack) == *limit).count() > MAX_ALIKE;
        let Some(limit) = (0..=highest).rev().find(is_full) else { return Ok(()) };
        // With those below it: what they become is larger than any of them.
        let chosen: Vec<&Pack> = self.packs.iter().filter(|pack| class(pack) <= limit).collect();
        self.replace(&chosen, |_| true)
    }

    /// Replaces packs by one with those of their objects that are `wanted`.
    pub(crate) fn replace(&self, packs: &[&Pack], wanted: impl Fn(&Id) -> bool) -> Result<(), Error> {
        let mut adding = self.add();
        for pack in packs {
            for record in pack.records().iter().filter(|record| wanted(&record.id)) {
                if adding.added.insert(record.id) {
                    adding.writer()?.copy(pack, record)?;
                }
            }
        }
        let kept = adding.finish()?;
        for pack in packs.iter().filter(|pack| Some(&pack.path) != kept.as_ref()) {
            fs::remove_file(&pack.path).map_err(Error::at(&pack.path))?;
        }
        Ok(())
    }
}

/// New objects on their way into a pack. Nothing of them is there before [`finish`](Self::finish).
pub(crate) struct Adding<'a> {
    objects: &'a Objects,
    writer: Option<Writer>,
    added: HashSet<Id>,
    compressor: Option<zstd::bulk::Compressor<'static>>,
}

impl Adding<'_> {
    /// Adds an object unless there is one like it, and gives its name.
    pub(crate) fn put(&mut self, bytes: &[u8]) -> Result<Id, Error> {
        let id = Id::of(bytes);
        if self.added.contains(&id) || self.objects.contains(&id) {
            return Ok(id);
        }
        let smaller = if bytes.len() < MIN_COMPRESSED { None } else { self.compress(bytes)? };
        self.writer()?.append(id, smaller.as_deref().unwrap_or(bytes), bytes.len())?;
        self.added.insert(id);
        Ok(id)
    }

    /// Compresses, where that is worth something.
    fn compress(&mut self, bytes: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        let failed = |err| Error::at(&self.objects.dir)(err);
        if self.compressor.is_none() {
            self.compressor = Some(zstd::bulk::Compressor::new(LEVEL).map_err(failed)?);
        }
        let compressor = self.compressor.as_mut().expect("it was just made");
        let smaller = compressor.compress(bytes).map_err(failed)?;
        Ok(Some(smaller).filter(|smaller| smaller.len() < bytes.len()))
    }

    fn writer(&mut self) -> Result<&mut Writer, Error> {
        if self.writer.is_none() {
            self.writer = Some(Writer::begin(&self.objects.dir)?);
        }
        Ok(self.writer.as_mut().expect("it was just begun"))
    }

    /// Makes the new objects durable. Gives the pack they are in, if there are any.
    pub(crate) fn finish(self) -> Result<Option<PathBuf>, Error> {
        self.writer.map(Writer::finish).transpose()
    }
}
