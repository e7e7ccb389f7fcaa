//! A workspace and its history, and what is in a directory as a value that can be compared.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs,
    os::unix::{ffi::OsStrExt, fs::PermissionsExt},
    path::{Path, PathBuf},
};

use history::{History, Id, Options};
use tempfile::TempDir;

pub(crate) struct Place {
    _dir: TempDir,
    pub(crate) workspace: PathBuf,
    pub(crate) store: PathBuf,
    pub(crate) history: History,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self::with(Options::default())
    }

    pub(crate) fn with(options: Options) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (workspace, store) = (dir.path().join("workspace"), dir.path().join("history"));
        fs::create_dir(&workspace).unwrap();
        let history = History::open(store.clone(), options).unwrap();
        Self { _dir: dir, workspace, store, history }
    }

    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.workspace.join(path)
    }

    pub(crate) fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    pub(crate) fn snapshot(&self) -> Id {
        self.history.snapshot(&self.workspace).unwrap().id
    }

    /// A directory beside the workspace.
    pub(crate) fn beside(&self, name: &str) -> PathBuf {
        self.store.with_file_name(name)
    }

    pub(crate) fn packs(&self) -> Vec<PathBuf> {
        let paths = fs::read_dir(&self.store).unwrap().map(|entry| entry.unwrap().path());
        paths.filter(|path| path.extension() == Some(OsStr::new("pack"))).collect()
    }

    pub(crate) fn contents(&self) -> Contents {
        contents(&self.workspace)
    }
}

/// What is at a path, with its mode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Thing {
    Directory(u32),
    File(u32, Vec<u8>),
    Link(PathBuf),
    Other,
}

pub(crate) type Contents = BTreeMap<PathBuf, Thing>;

/// Reads everything below a directory.
pub(crate) fn contents(root: &Path) -> Contents {
    let mut contents = Contents::new();
    let mut todo = vec![root.to_owned()];
    while let Some(dir) = todo.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let found = path.symlink_metadata().unwrap();
            let mode = found.permissions().mode() & 0o7777;
            let thing = if found.is_dir() {
                todo.push(path.clone());
                Thing::Directory(mode)
            } else if found.is_file() {
                Thing::File(mode, fs::read(&path).unwrap())
            } else if found.is_symlink() {
                Thing::Link(fs::read_link(&path).unwrap())
            } else {
                Thing::Other
            };
            contents.insert(path.strip_prefix(root).unwrap().to_owned(), thing);
        }
    }
    contents
}

pub(crate) fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

pub(crate) fn odd_name() -> &'static OsStr {
    OsStr::from_bytes(b"not \xff text\n")
}
