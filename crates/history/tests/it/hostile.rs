//! A workspace in the hands of somebody who means harm.

use std::{
    fs,
    os::unix::fs::symlink,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use history::{Scope, Why};

use crate::place::Place;

/// Ends the other thread also when an assertion fails.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn nothing_outside_is_read_or_written_while_links_are_swapped() {
    let place = Place::new();
    let outside = place.beside("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("secret"), "canary").unwrap();
    place.write("dir/secret", "inside");
    place.write("file", "inside");
    let first = place.snapshot();
    place.write("dir/secret", "changed");
    place.write("dir/more", "to be removed");
    place.write("file", "changed");

    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (dir, aside, file) = (place.path("dir"), place.path("aside"), place.path("file"));
            while !stop.load(Ordering::Relaxed) {
                let _ = fs::rename(&dir, &aside);
                let _ = symlink(&outside, &dir);
                let _ = fs::remove_file(&file);
                let _ = symlink(outside.join("secret"), &file);
                std::thread::yield_now();
                let _ = fs::remove_file(&dir);
                let _ = fs::rename(&aside, &dir);
                let _ = fs::remove_file(&file);
                let _ = fs::write(&file, "changed");
            }
        });
        let _stop = Stop(&stop);
        let until = Instant::now() + Duration::from_secs(3);
        let mut rounds = 0;
        while Instant::now() < until {
            let restored = place.history.restore(&place.workspace, &first, Scope::All);
            let Ok(restored) = restored else { continue };
            rounds += 1;
            for snapshot in [restored.before.id, restored.after.id] {
                for entry in place.history.list(&snapshot, b"", 1000).unwrap().entries {
                    let Ok(content) = place.history.read(&snapshot, &entry.path) else { continue };
                    let content: Vec<u8> = content.flat_map(Result::unwrap).collect();
                    assert_ne!(content, b"canary", "{:?}", String::from_utf8_lossy(&entry.path));
                }
            }
        }
        assert!(rounds > 10, "{rounds} rounds");
    });
    let left: Vec<_> = fs::read_dir(&outside).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["secret"]);
    assert_eq!(fs::read(outside.join("secret")).unwrap(), b"canary");
}

#[test]
fn a_bottomless_directory_is_told_and_not_entered() {
    let place = Place::new();
    let mut dir = place.workspace.clone();
    for _ in 0..300 {
        dir.push("d");
        fs::create_dir(&dir).unwrap();
    }
    let snapshot = place.history.snapshot(&place.workspace).unwrap();
    assert_eq!(snapshot.stats.left, 1);
    assert_eq!(snapshot.stats.left_paths[0].1, Why::TooDeep);
    place.write("d/file", "");
    let restored = place.history.restore(&place.workspace, &snapshot.id, Scope::All).unwrap();
    assert_eq!((restored.changes.removed, restored.after.id), (1, snapshot.id));
    assert!(dir.exists());
}

#[test]
fn a_file_that_is_written_all_the_time_is_in_the_snapshot() {
    let place = Place::new();
    place.write("log", "");
    place.write("calm", "1");
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            use std::io::Write;
            let mut file = fs::OpenOptions::new().append(true).open(place.path("log")).unwrap();
            while !stop.load(Ordering::Relaxed) {
                file.write_all(&[b'x'; 1000]).unwrap();
                std::thread::sleep(Duration::from_micros(100));
            }
        });
        let _stop = Stop(&stop);
        for _ in 0..20 {
            let snapshot = place.history.snapshot(&place.workspace).unwrap();
            assert_eq!((snapshot.stats.files, snapshot.stats.left), (2, 0));
            let content = place.history.read(&snapshot.id, b"log").unwrap();
            let (size, mut length) = (content.size, 0);
            for part in content {
                let part = part.unwrap();
                assert!(part.iter().all(|byte| *byte == b'x'));
                length += part.len() as u64;
            }
            assert_eq!(length, size);
        }
    });
}
