//! Thousands of random operations with random undo and fork, against a model that is a map in memory (R22).

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use history::{History, Id, Options, Scope};
use rand::{RngExt, SeedableRng, rngs::StdRng};

use crate::place::{Contents, Place, contents, set_mode};

const OPERATIONS: usize = 2_000;
const NAMES: [&str; 8] = ["a", "b", "ü", "c d", "e", "f", "g", "h"];

/// A state that was remembered, and what was in the workspace then.
struct Remembered {
    id: Id,
    contents: Contents,
}

struct World {
    place: Place,
    rng: StdRng,
    workspace: PathBuf,
    history: History,
    remembered: Vec<Remembered>,
    counts: BTreeMap<&'static str, usize>,
}

#[test]
fn undo_and_fork_give_back_what_was_there_after_any_operations() {
    let seed = rand::random();
    println!("seed {seed}");
    let place = Place::with(Options::default());
    let mut world = World {
        rng: StdRng::seed_from_u64(seed),
        workspace: place.workspace.clone(),
        history: place.history.clone(),
        place,
        remembered: Vec::new(),
        counts: BTreeMap::new(),
    };
    world.remember();
    for n in 0..OPERATIONS {
        world.operate(n);
    }
    println!("{:?}", world.counts);
    // At the end every state that was ever remembered is still there, whole.
    let root = world.place.beside("check");
    fs::create_dir(&root).unwrap();
    let ids: Vec<Id> = world.remembered.iter().map(|remembered| remembered.id).collect();
    world.history.collect(&ids).unwrap();
    for (n, remembered) in world.remembered.iter().enumerate().rev().step_by(7) {
        world.history.restore(&root, &remembered.id, Scope::All).unwrap();
        assert_eq!(contents(&root), remembered.contents, "state {n}, seed {seed}");
    }
}

impl World {
    fn operate(&mut self, n: usize) {
        let what = match self.rng.random_range(0..1000) {
            0..300 => self.write(n),
            300..400 => self.edit(n),
            400..500 => self.remove(),
            500..600 => self.rename(),
            600..660 => self.link(),
            660..740 => self.chmod(),
            740..800 => self.make_directory(),
            800..960 => "nothing",
            960..985 => self.remember(),
            985..995 => self.undo(),
            995..998 => self.undo_paths(),
            998..999 => self.forget_nothing(),
            _ => self.fork(n),
        };
        *self.counts.entry(what).or_default() += 1;
    }

    fn any_path(&mut self) -> PathBuf {
        let depth = self.rng.random_range(1..5);
        (0..depth).map(|_| NAMES[self.rng.random_range(0..NAMES.len())]).collect()
    }

    /// A path at which something is, if there is anything.
    fn existing(&mut self) -> Option<PathBuf> {
        let mut dir = self.workspace.clone();
        let mut chosen = None;
        while self.rng.random_bool(0.8) || chosen.is_none() {
            let mut paths: Vec<_> = fs::read_dir(&dir).ok()?.map(|entry| entry.unwrap().path()).collect();
            paths.sort();
            if paths.is_empty() {
                break;
            }
            let path = paths.swap_remove(self.rng.random_range(0..paths.len()));
            let is_directory = path.symlink_metadata().unwrap().is_dir();
            chosen = Some(path.clone());
            if !is_directory {
                break;
            }
            dir = path;
        }
        chosen
    }

    fn parents(&mut self, path: &Path) -> bool {
        // Not through links: the model would be another.
        let mut at = self.workspace.clone();
        for name in path.parent().into_iter().flat_map(Path::iter) {
            at.push(name);
            match at.symlink_metadata() {
                Ok(found) if !found.is_dir() => return false,
                Ok(_) => {}
                Err(_) => fs::create_dir(&at).unwrap(),
            }
        }
        true
    }

    fn write(&mut self, n: usize) -> &'static str {
        let path = self.any_path();
        if !self.parents(&path) {
            return "nothing";
        }
        let path = self.workspace.join(path);
        if path.is_symlink() || path.is_dir() {
            return "nothing";
        }
        let size = if self.rng.random_bool(0.005) { self.rng.random_range(0..1_500_000) } else { n % 300 };
        let _ = fs::remove_file(&path);
        fs::write(path, n.to_le_bytes().repeat(size / 8 + 1)).unwrap();
        "write"
    }

    fn edit(&mut self, n: usize) -> &'static str {
        use std::io::{Seek, SeekFrom, Write};
        match self.existing() {
            Some(path) if path.symlink_metadata().unwrap().is_file() => {
                let mut file = fs::OpenOptions::new().write(true).open(path).unwrap();
                file.seek(SeekFrom::Start((n % 5) as u64)).unwrap();
                file.write_all(&[n as u8]).unwrap();
                "edit"
            }
            _ => "nothing",
        }
    }

    fn remove(&mut self) -> &'static str {
        let Some(path) = self.existing() else { return "nothing" };
        if path.symlink_metadata().unwrap().is_dir() {
            fs::remove_dir_all(path).unwrap();
        } else {
            fs::remove_file(path).unwrap();
        }
        "remove"
    }

    fn rename(&mut self) -> &'static str {
        let (Some(from), to) = (self.existing(), self.any_path()) else { return "nothing" };
        if self.parents(&to) && fs::rename(from, self.workspace.join(to)).is_ok() { "rename" } else { "nothing" }
    }

    fn link(&mut self) -> &'static str {
        let (path, target) = (self.any_path(), self.any_path());
        if self.parents(&path) && symlink(target, self.workspace.join(path)).is_ok() { "link" } else { "nothing" }
    }

    fn chmod(&mut self) -> &'static str {
        match self.existing() {
            Some(path) if !path.is_symlink() => {
                let mode = 0o700 | self.rng.random_range(0..0o100);
                set_mode(&path, mode);
                "chmod"
            }
            _ => "nothing",
        }
    }

    fn make_directory(&mut self) -> &'static str {
        let path = self.any_path().join("x");
        if self.parents(&path) { "make directory" } else { "nothing" }
    }

    fn remember(&mut self) -> &'static str {
        let id = self.history.snapshot(&self.workspace).unwrap().id;
        self.remembered.push(Remembered { id, contents: contents(&self.workspace) });
        "remember"
    }

    fn undo(&mut self) -> &'static str {
        let unsaved = contents(&self.workspace);
        let n = self.rng.random_range(0..self.remembered.len());
        let restored = self.history.restore(&self.workspace, &self.remembered[n].id, Scope::All).unwrap();
        assert_eq!(restored.changes.left, []);
        assert_eq!(contents(&self.workspace), self.remembered[n].contents);
        assert_eq!(restored.after.id, self.remembered[n].id);
        // What nobody had remembered can be had back.
        self.remembered.push(Remembered { id: restored.before.id, contents: unsaved });
        "undo"
    }

    fn undo_paths(&mut self) -> &'static str {
        let n = self.rng.random_range(0..self.remembered.len());
        let Some(path) = self.remembered[n].contents.keys().nth(self.rng.random_range(0..20)).cloned() else {
            return "nothing";
        };
        let bytes = path.as_os_str().as_encoded_bytes().to_vec();
        self.history.restore(&self.workspace, &self.remembered[n].id, Scope::Paths(&[bytes])).unwrap();
        let below = |contents: &Contents| -> Contents {
            contents
                .iter()
                .filter(|(at, _)| at.starts_with(&path))
                .map(|(at, thing)| (at.clone(), thing.clone()))
                .collect()
        };
        assert_eq!(below(&contents(&self.workspace)), below(&self.remembered[n].contents));
        "undo paths"
    }

    fn forget_nothing(&mut self) -> &'static str {
        let ids: Vec<Id> = self.remembered.iter().map(|remembered| remembered.id).collect();
        self.history.collect(&ids).unwrap();
        "collect"
    }

    /// Goes on in a fork.
    fn fork(&mut self, n: usize) -> &'static str {
        let chosen = self.rng.random_range(0..self.remembered.len());
        let (store, workspace) =
            (self.place.beside(&format!("history-{n}")), self.place.beside(&format!("workspace-{n}")));
        fs::create_dir(&workspace).unwrap();
        let (history, applied) = self.history.fork(&self.remembered[chosen].id, store, &workspace).unwrap();
        assert_eq!(applied.left, []);
        assert_eq!(contents(&workspace), self.remembered[chosen].contents);
        (self.history, self.workspace) = (history, workspace);
        "fork"
    }
}
