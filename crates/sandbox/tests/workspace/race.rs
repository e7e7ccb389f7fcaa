use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use sandbox::Error;

use crate::scene::{SECRET, Scene, at, contains};

const DURATION: Duration = Duration::from_secs(2);

/// Somebody in the container who rearranges the tree until dropped.
struct Attacker {
    stop: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<u64>>,
}

impl Attacker {
    fn start(mut attack: impl FnMut() + Send + 'static) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let mut rounds = 0;
            while !seen.load(Ordering::Relaxed) {
                attack();
                rounds += 1;
            }
            rounds
        });
        Self { stop, thread: Some(thread) }
    }

    fn stop(mut self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Drop for Attacker {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

#[derive(Default)]
struct Tally(BTreeMap<String, u64>);

impl Tally {
    fn count<T>(&mut self, what: &str, result: &Result<T, Error>) {
        let how = match result {
            Ok(_) => "ok",
            Err(Error::Outside(_)) => "outside",
            Err(_) => "other",
        };
        *self.0.entry(format!("{what} {how}")).or_default() += 1;
    }

    fn total(&self, how: &str) -> u64 {
        self.0.iter().filter(|(key, _)| key.ends_with(how)).map(|(_, count)| count).sum()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_swapped_with_a_link_to_the_outside_lets_nobody_out() {
    let scene = Scene::new();
    scene.put("victim/canary.txt", b"inside");
    scene.put("victim/sub/canary.txt", b"inside");
    symlink("../outside", scene.root.join("trap")).unwrap();
    symlink("victim/sub/../canary.txt", scene.root.join("winding")).unwrap();
    let (victim, trap) = (scene.root.join("victim"), scene.root.join("trap"));
    let attacker = Attacker::start(move || {
        renameat_with(CWD, &victim, CWD, &trap, RenameFlags::EXCHANGE).unwrap();
    });

    let mut tally = Tally::default();
    let workspace = &scene.workspace;
    let start = Instant::now();
    while start.elapsed() < DURATION {
        for path in ["victim/canary.txt", "victim/sub/canary.txt", "winding"] {
            let content = scene.read(path).await;
            if let Ok(content) = &content {
                assert!(!contains(content, SECRET), "{path} was read outside");
            }
            tally.count("read", &content);
        }
        let listing = workspace.list(&at("victim"), None).await;
        tally.count("list", &listing);
        let whole = workspace.list(&at(""), None).await.unwrap();
        for entry in listing.iter().chain([&whole]).flat_map(|listing| &listing.entries) {
            let is_canary = entry.name == "canary.txt";
            assert!(!is_canary || entry.size == 6, "{entry:?} was seen outside");
        }
        tally.count("write", &scene.write("victim/new.txt", b"new").await);
        tally.count("write", &scene.write("victim/canary.txt", b"inside").await);
        tally.count("mkdir", &workspace.make_dir_all(&at("victim/made/deep")).await);
        tally.count("rename", &workspace.rename(&at("victim/new.txt"), &at("victim/made/moved.txt")).await);
        tally.count("rename", &workspace.rename(&at("victim/canary.txt"), &at("taken.txt")).await);
        tally.count("rename", &workspace.rename(&at("taken.txt"), &at("victim/canary.txt")).await);
        tally.count("remove", &workspace.remove(&at("victim/made")).await);
        tally.count("remove", &workspace.remove(&at("victim/new.txt")).await);
        let archive = crate::zip::archive(&scene, "victim").await;
        tally.count("zip", &archive);
        assert!(!archive.is_ok_and(|bytes| contains(&bytes, SECRET)));
        tally.count("stats", &workspace.stats().await);
    }
    let swaps = attacker.stop();
    println!("{swaps} swaps, {:?}", tally.0);
    scene.assert_outside_is_untouched("the race");
    assert!(swaps > 100 && tally.total("ok") > 10 && tally.total("outside") > 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tree_swapped_while_it_is_removed_takes_nothing_else_with_it() {
    let scene = Scene::new();
    symlink("../../outside", scene.root.join("trap")).unwrap();
    let (below, trap) = (scene.root.join("victim/below"), scene.root.join("trap"));
    let attacker = Attacker::start(move || {
        let _ = renameat_with(CWD, &below, CWD, &trap, RenameFlags::EXCHANGE);
    });
    let start = Instant::now();
    let mut removed = 0;
    // On a machine that does other things as well it takes longer until there were enough.
    while start.elapsed() < DURATION || removed <= 10 && start.elapsed() < 20 * DURATION {
        for number in 0..20 {
            let _ = fs::create_dir_all(scene.root.join(format!("victim/below/sub{number}")));
            let _ = fs::write(scene.root.join(format!("victim/sub{number}")), "x");
        }
        // Either of the two may be in the way of the other's next round; what counts is what is left outside.
        removed += u32::from(scene.workspace.remove(&at("victim")).await.is_ok());
        if !scene.root.join("trap").is_symlink() {
            let _ = scene.workspace.remove(&at("trap")).await;
            let _ = symlink("../../outside", scene.root.join("trap"));
        }
        for created in 0..20 {
            let _ = fs::remove_dir(scene.outside.join(format!("sub{created}")));
        }
    }
    println!("{} swaps, {removed} removals", attacker.stop());
    assert!(removed > 10);
    for file in ["canary.txt", "sub/canary.txt"] {
        assert_eq!(fs::read_to_string(scene.outside.join(file)).unwrap(), SECRET, "{file}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_moved_up_during_a_walk_does_not_lift_the_walk_out() {
    let scene = Scene::new();
    scene.put("canary.txt", b"inside");
    fs::create_dir_all(scene.root.join("a/b/c/d")).unwrap();
    // From where it is, this is the workspace's own file; from two levels higher, it would be the one outside.
    symlink("../../../../canary.txt", scene.root.join("a/b/c/d/up")).unwrap();
    let (low, high) = (scene.root.join("a/b/c"), scene.root.join("c"));
    let attacker = Attacker::start(move || {
        fs::rename(&low, &high).unwrap();
        fs::rename(&high, &low).unwrap();
    });
    let mut tally = Tally::default();
    let start = Instant::now();
    while start.elapsed() < DURATION {
        for path in ["a/b/c/d/up", "c/d/up"] {
            let content = scene.read(path).await;
            assert!(!content.as_ref().is_ok_and(|content| contains(content, SECRET)), "{path} was read outside");
            tally.count(path, &content);
        }
    }
    println!("{} moves, {:?}", attacker.stop(), tally.0);
    scene.assert_outside_is_untouched("the race");
    assert!(tally.total("ok") > 10 && tally.total("outside") > 0);
}
