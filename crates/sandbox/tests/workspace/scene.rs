//! A workspace with things around it that must never be read or changed.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use domain::WorkspacePath;
use futures::TryStreamExt;
use sandbox::{Error, Workspace};
use tempfile::TempDir;

/// What the files outside hold, and nothing inside.
pub(crate) const SECRET: &str = "THE-CANARY-MUST-NOT-BE-READ";

pub(crate) struct Scene {
    pub(crate) workspace: Workspace,
    pub(crate) root: PathBuf,
    pub(crate) outside: PathBuf,
    top: TempDir,
    before: BTreeMap<PathBuf, (u64, i64, i64, u32, Vec<u8>)>,
}

impl Scene {
    pub(crate) fn new() -> Self {
        let top = tempfile::tempdir().unwrap();
        let root = top.path().join("workspace");
        let outside = top.path().join("outside");
        for dir in ["outside/sub", "workspace-evil"] {
            fs::create_dir_all(top.path().join(dir)).unwrap();
        }
        for file in ["outside/canary.txt", "outside/sub/canary.txt", "workspace-evil/canary.txt", "canary.txt"] {
            fs::write(top.path().join(file), SECRET).unwrap();
        }
        let workspace = Workspace::open(root.clone()).unwrap();
        let mut scene = Self { workspace, root, outside, top, before: BTreeMap::new() };
        scene.before = scene.look_outside();
        scene
    }

    /// Puts files and links of every hostile kind into the workspace, where they are missing.
    pub(crate) fn set_traps(&self) {
        fs::create_dir_all(self.root.join("src/deep")).unwrap();
        for (name, content) in [("src/app.py", "print()"), ("src/deep/a.txt", "a"), ("plain.txt", "plain")] {
            let _ = fs::write(self.root.join(name), content);
        }
        let outside = self.outside.to_str().unwrap();
        for (link, target) in [
            ("slash", "/"),
            ("up", ".."),
            ("out", "../outside"),
            ("absolute", outside),
            ("secret", "../canary.txt"),
            ("twice", "out"),
            ("proc", "/proc/self/root"),
            ("cwd", "/proc/self/cwd"),
            ("evil", "/workspace-evil"),
            ("sneaky", "/workspace/../outside"),
            ("src/over", "deep/../../../outside"),
            ("loop", "loop"),
            ("ping", "pong"),
            ("pong", "ping"),
            ("dangling", "nowhere"),
            ("dangling-out", "../outside/new.txt"),
        ] {
            let _ = symlink(target, self.root.join(link));
        }
    }

    fn look_outside(&self) -> BTreeMap<PathBuf, (u64, i64, i64, u32, Vec<u8>)> {
        let mut seen = BTreeMap::new();
        let mut left = vec![self.top.path().to_owned()];
        while let Some(dir) = left.pop() {
            for entry in fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                if path == self.root {
                    continue;
                }
                let meta = fs::symlink_metadata(&path).unwrap();
                let content = if meta.is_file() { fs::read(&path).unwrap() } else { Vec::new() };
                seen.insert(path.clone(), (meta.ino(), meta.mtime_nsec(), meta.ctime_nsec(), meta.mode(), content));
                if meta.is_dir() {
                    left.push(path);
                }
            }
        }
        seen
    }

    pub(crate) fn assert_outside_is_untouched(&self, after: &str) {
        assert_eq!(self.look_outside(), self.before, "something outside was changed by {after}");
    }

    pub(crate) async fn read(&self, path: &str) -> Result<Vec<u8>, Error> {
        let file = self.workspace.open_file(&at(path)).await?;
        let size = file.size;
        let chunks: Vec<Bytes> = file.into_stream(0, size).await?.try_collect().await?;
        Ok(chunks.concat())
    }

    pub(crate) async fn write(&self, path: &str, content: &[u8]) -> Result<(), Error> {
        let mut upload = self.workspace.upload(&at(path)).await?;
        upload.write(Bytes::copy_from_slice(content)).await?;
        upload.commit().await.map(drop)
    }

    pub(crate) async fn paths(&self, path: &str, depth: Option<u32>) -> Vec<String> {
        let listing = self.workspace.list(&at(path), depth).await.unwrap();
        listing.entries.into_iter().map(|entry| entry.path).collect()
    }

    pub(crate) fn is_empty(&self) -> bool {
        fs::read_dir(&self.root).unwrap().next().is_none()
    }

    pub(crate) fn put(&self, path: &str, content: &[u8]) -> PathBuf {
        let path = self.root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }
}

pub(crate) fn at(path: &str) -> WorkspacePath {
    WorkspacePath::parse(path).unwrap()
}

pub(crate) fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

pub(crate) fn is_root() -> bool {
    fs::metadata("/proc/self").map(|meta| meta.uid() == 0).unwrap_or(false)
}

pub(crate) fn mkfifo(path: &Path) {
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    mknodat(CWD, path, FileType::Fifo, Mode::from_raw_mode(0o644), 0).unwrap();
}
