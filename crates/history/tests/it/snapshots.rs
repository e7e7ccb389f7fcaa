//! What a snapshot holds and what it costs.

use std::{fs, os::unix::fs::symlink, time::Duration};

use history::{Options, Scope, Why};

use crate::place::{Place, odd_name, set_mode};

/// Longer than a file system's clock stands still: files are then known by their times.
pub(crate) fn settle() {
    std::thread::sleep(Duration::from_millis(150));
}

#[test]
fn everything_comes_back() {
    let place = Place::new();
    place.write("src/main.rs", "fn main() {}");
    place.write(".git/HEAD", "ref: refs/heads/main");
    place.write("vendor/nested/.git/objects/ab/cd", b"\x00\x01binary\xff");
    place.write("empty", "");
    place.write("exactly-a-part", vec![7; 1024 * 1024]);
    place.write("large", (0..5_000_003_u32).map(|n| (n ^ (n >> 9)) as u8).collect::<Vec<_>>());
    fs::create_dir_all(place.path("empty-directory/inner")).unwrap();
    fs::write(place.path("src").join(odd_name()), "odd").unwrap();
    symlink("main.rs", place.path("src/link")).unwrap();
    symlink("/nowhere/at/all", place.path("dangling")).unwrap();
    symlink("src", place.path("to-directory")).unwrap();
    set_mode(&place.path("src/main.rs"), 0o755);
    set_mode(&place.path("empty"), 0o400);
    set_mode(&place.path("empty-directory"), 0o1777);
    let sparse = fs::File::create(place.path("sparse")).unwrap();
    sparse.set_len(40 * 1024 * 1024).unwrap();

    let before = place.contents();
    let snapshot = place.history.snapshot(&place.workspace).unwrap();
    assert_eq!((snapshot.stats.files, snapshot.stats.links, snapshot.stats.left), (8, 3, 0));
    for entry in fs::read_dir(&place.workspace).unwrap() {
        let path = entry.unwrap().path();
        if path.symlink_metadata().unwrap().is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }
            .unwrap();
    }
    let restored = place.history.restore(&place.workspace, &snapshot.id, Scope::All).unwrap();
    assert_eq!(restored.changes.left, []);
    assert_eq!(place.contents(), before);
    assert_eq!(restored.after.id, snapshot.id);
    use std::os::unix::fs::MetadataExt;
    assert!(fs::metadata(place.path("sparse")).unwrap().blocks() * 512 < 1024 * 1024, "a hole stays a hole");
}

#[test]
fn only_what_changed_is_read_again() {
    let place = Place::new();
    for n in 0..500 {
        place.write(&format!("dir-{}/file-{n}", n % 20), format!("content {n}"));
    }
    settle();
    let first = place.history.snapshot(&place.workspace).unwrap();
    assert_eq!((first.stats.files, first.stats.files_read), (500, 500));
    let packs = place.packs();

    let same = place.history.snapshot(&place.workspace).unwrap();
    assert_eq!((same.id, same.stats.files_read), (first.id, 0));
    assert_eq!(place.packs(), packs, "nothing new, no pack");

    for n in 0..10 {
        place.write(&format!("dir-{n}/file-{n}"), "changed");
    }
    settle();
    let changed = place.history.snapshot(&place.workspace).unwrap();
    assert_eq!((changed.stats.files, changed.stats.files_read), (500, 10));
    assert_eq!(place.history.diff(Some(&first.id), &changed.id).unwrap().len(), 10);
    let again = place.history.snapshot(&place.workspace).unwrap();
    assert_eq!((again.id, again.stats.files_read), (changed.id, 0));
}

#[test]
fn a_change_of_the_same_size_at_the_same_time_is_seen() {
    let place = Place::new();
    let path = place.path("file");
    let time = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
    for n in 0..50 {
        fs::write(&path, format!("{n:08}")).unwrap();
        // As a program would do that wants the change to go unseen.
        fs::File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
        let snapshot = place.snapshot();
        let content: Vec<u8> = place.history.read(&snapshot, b"file").unwrap().flat_map(Result::unwrap).collect();
        assert_eq!(content, format!("{n:08}").into_bytes());
    }
}

#[test]
fn equal_workspaces_are_equal_snapshots_whatever_their_times() {
    let (a, b) = (Place::new(), Place::new());
    for place in [&b, &a] {
        place.write("x/y", "same");
        place.write("z", "same");
        settle();
    }
    assert_eq!(a.snapshot(), b.snapshot());
}

#[test]
fn what_is_not_kept_is_told() {
    let options = Options { max_file_bytes: 1000, exclude: vec!["__pycache__".to_owned()], ..Options::default() };
    let place = Place::with(options);
    place.write("small", [1; 1000]);
    place.write("dir/large", [1; 1001]);
    place.write("pkg/__pycache__/x.pyc", "made again");
    place.write(".atelier-upload-0123456789abcdef0123456789abcdef", "half");
    let fifo = std::process::Command::new("mkfifo").arg(place.path("pipe")).status().unwrap();
    assert!(fifo.success());
    let _socket = std::os::unix::net::UnixListener::bind(place.path("socket")).unwrap();

    let snapshot = place.history.snapshot(&place.workspace).unwrap();
    let stats = &snapshot.stats;
    assert_eq!((stats.files, stats.left, stats.special), (1, 1, 2));
    assert_eq!(stats.left_paths, [(b"dir/large".to_vec(), Why::TooLarge)]);
    let listing = place.history.list(&snapshot.id, b"", 100).unwrap();
    let paths: Vec<_> = listing.entries.iter().map(|entry| String::from_utf8_lossy(&entry.path).into_owned()).collect();
    assert_eq!(paths, ["dir", "dir/large", "pkg", "small"]);
    let err = place.history.read(&snapshot.id, b"dir/large").map(|_| ()).unwrap_err();
    assert_eq!(err.to_string(), "'dir/large' was not kept: it was too large, or could not be read");
}

#[test]
fn a_workspace_with_too_many_files_is_refused_as_a_whole() {
    let place = Place::with(Options { max_entries: 100, ..Options::default() });
    for n in 0..101 {
        place.write(&format!("{n}"), "");
    }
    let err = place.history.snapshot(&place.workspace).unwrap_err();
    assert_eq!(err.to_string(), "the workspace holds more than 100 files");
    assert_eq!(place.packs().len(), 0);
}

#[test]
fn ten_thousand_files_are_remembered() {
    let place = Place::new();
    for d in 0..50 {
        let dir = place.path(&format!("d{d}"));
        fs::create_dir(&dir).unwrap();
        for f in 0..200 {
            fs::write(dir.join(f.to_string()), [d as u8, f as u8]).unwrap();
        }
    }
    let snapshot = place.history.snapshot(&place.workspace).unwrap();
    assert_eq!((snapshot.stats.files, snapshot.stats.directories), (10_000, 50));
    fs::remove_dir_all(place.path("d7")).unwrap();
    fs::write(place.path("d8/0"), "other").unwrap();
    let changed = place.snapshot();
    assert_eq!(place.history.diff(Some(&snapshot.id), &changed).unwrap().len(), 201);
    let restored = place.history.restore(&place.workspace, &snapshot.id, Scope::All).unwrap();
    assert_eq!((restored.after.id, restored.changes.left), (snapshot.id, vec![]));
}

#[test]
fn many_snapshots_stay_a_few_packs() {
    let place = Place::new();
    let mut all = Vec::new();
    for n in 0..120 {
        place.write(&format!("file-{}", n % 7), format!("{n}"));
        all.push(place.snapshot());
    }
    assert!(place.packs().len() < 30, "{} packs", place.packs().len());
    for (n, snapshot) in all.iter().enumerate() {
        let path = format!("file-{}", n % 7);
        let content: Vec<u8> =
            place.history.read(snapshot, path.as_bytes()).unwrap().flat_map(Result::unwrap).collect();
        assert_eq!(content, n.to_string().into_bytes());
    }
}

#[test]
fn snapshots_at_once_wait_for_each_other() {
    let place = Place::new();
    for n in 0..50 {
        place.write(&format!("f{n}"), format!("{n}"));
    }
    let ids = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| place.snapshot())).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    assert!(ids.windows(2).all(|pair| pair[0] == pair[1]));
    assert_eq!(place.packs().len(), 1);
}
