//! Going back never destroys what no snapshot holds.

use std::{fs, os::unix::fs::MetadataExt, process::Command};

use history::{Left, Options, Scope};

use crate::place::{Place, Thing, contents, set_mode};

#[test]
fn going_back_remembers_what_was_there() {
    let place = Place::new();
    place.write("a", "1");
    let first = place.snapshot();
    // Nobody takes a snapshot of this.
    place.write("a", "precious");
    place.write("dir/b", "precious too");
    let precious = place.contents();

    let restored = place.history.restore(&place.workspace, &first, Scope::All).unwrap();
    assert_eq!(place.contents().len(), 1);
    assert_eq!((restored.changes.written, restored.changes.removed), (1, 2));
    place.history.restore(&place.workspace, &restored.before.id, Scope::All).unwrap();
    assert_eq!(place.contents(), precious);
}

#[test]
fn what_no_snapshot_holds_is_left_alone() {
    let place =
        Place::with(Options { max_file_bytes: 100, exclude: vec!["__pycache__".to_owned()], ..Options::default() });
    place.write("wanted", "here");
    place.write("was-file", "small");
    place.write("in-the-way", "small");
    let first = place.snapshot();

    fs::remove_file(place.path("wanted")).unwrap();
    assert!(Command::new("mkfifo").arg(place.path("wanted")).status().unwrap().success());
    place.write("was-file", [1; 101]);
    place.write("new/large", [2; 101]);
    place.write("new/small", "goes");
    place.write("pkg/__pycache__/x", "stays");
    fs::remove_file(place.path("in-the-way")).unwrap();
    place.write("in-the-way/large", [3; 101]);
    let restored = place.history.restore(&place.workspace, &first, Scope::All).unwrap();

    let mut left = restored.changes.left.clone();
    left.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    let expected = [
        ("in-the-way", Left::Unknown),
        ("in-the-way/large", Left::Unknown),
        ("new", Left::Unknown),
        ("new/large", Left::Unknown),
        ("pkg", Left::Unknown),
        ("wanted", Left::Unknown),
        ("was-file", Left::Unknown),
    ];
    assert_eq!(left, expected.map(|(path, why)| (path.as_bytes().to_vec(), why)));
    let contents = place.contents();
    let at = |path: &str| &contents[std::path::Path::new(path)];
    assert_eq!(at("wanted"), &Thing::Other);
    assert!(matches!(at("was-file"), Thing::File(_, content) if content == &[1; 101]));
    assert!(matches!(at("new/large"), Thing::File(_, content) if content == &[2; 101]));
    assert!(matches!(at("in-the-way/large"), Thing::File(_, content) if content == &[3; 101]));
    assert!(matches!(at("pkg/__pycache__/x"), Thing::File(_, content) if content == b"stays"));
    assert!(!contents.contains_key(std::path::Path::new("new/small")));
}

#[test]
fn a_large_file_of_the_snapshot_is_not_made_up() {
    let place = Place::with(Options { max_file_bytes: 100, ..Options::default() });
    place.write("large", [1; 101]);
    let first = place.snapshot();
    fs::remove_file(place.path("large")).unwrap();
    let restored = place.history.restore(&place.workspace, &first, Scope::All).unwrap();
    assert_eq!(restored.changes.left, [(b"large".to_vec(), Left::NotKept)]);
    assert!(!place.path("large").exists());
}

#[test]
fn single_paths_come_back_and_the_rest_stays() {
    let place = Place::new();
    place.write("dir/a", "1");
    place.write("dir/b", "1");
    let first = place.snapshot();
    fs::remove_dir_all(place.path("dir")).unwrap();
    place.write("other", "2");
    place.write("new", "3");
    let paths = [b"dir/a".to_vec(), b"new".to_vec()];
    place.history.restore(&place.workspace, &first, Scope::Paths(&paths)).unwrap();
    let found: Vec<_> = place.contents().into_keys().map(|path| path.display().to_string()).collect();
    assert_eq!(found, ["dir", "dir/a", "other"]);
}

#[test]
fn modes_come_back_without_the_content_being_written() {
    let place = Place::new();
    place.write("dir/tool", "x");
    set_mode(&place.path("dir/tool"), 0o755);
    set_mode(&place.path("dir"), 0o750);
    let first = place.snapshot();
    let inode = fs::metadata(place.path("dir/tool")).unwrap().ino();
    set_mode(&place.path("dir/tool"), 0o600);
    set_mode(&place.path("dir"), 0o700);
    place.history.restore(&place.workspace, &first, Scope::All).unwrap();
    let found = fs::metadata(place.path("dir/tool")).unwrap();
    assert_eq!((found.ino(), found.mode() & 0o777), (inode, 0o755));
    assert_eq!(fs::metadata(place.path("dir")).unwrap().mode() & 0o777, 0o750);
}

#[test]
fn a_fork_shares_content_and_outlives_its_origin() {
    let place = Place::new();
    place.write("a/b", "1");
    place.write("c", vec![5; 3_000_000]);
    let snapshot = place.snapshot();
    place.write("c", "later");
    place.snapshot();
    let (store, workspace) = (place.beside("forked-history"), place.beside("forked"));
    fs::create_dir(&workspace).unwrap();
    let (forked, applied) = place.history.fork(&snapshot, store.clone(), &workspace).unwrap();
    assert_eq!((applied.written, applied.left), (3, vec![]));
    let shared = place.packs().iter().filter(|pack| fs::metadata(pack).unwrap().nlink() == 2).count();
    assert_eq!(shared, place.packs().len());

    fs::remove_dir_all(&place.store).unwrap();
    let before = contents(&workspace);
    fs::write(workspace.join("c"), "own").unwrap();
    assert_ne!(forked.snapshot(&workspace).unwrap().id, snapshot);
    forked.restore(&workspace, &snapshot, Scope::All).unwrap();
    assert_eq!(contents(&workspace), before);
}

#[test]
fn what_no_snapshot_needs_is_forgotten_and_the_rest_stays() {
    let place = Place::new();
    place.write("kept", "kept");
    place.write("dropped", rand::random_iter().take(200_000).collect::<Vec<u8>>());
    let dropped = place.snapshot();
    fs::remove_file(place.path("dropped")).unwrap();
    let kept = place.snapshot();
    let collected = place.history.collect(&[kept]).unwrap();
    assert_eq!(collected.objects, 2, "a file and the directory it was in");
    assert!(collected.bytes > 100_000);
    assert!(place.history.list(&dropped, b"", 10).is_err());
    assert_eq!(place.history.list(&kept, b"", 10).unwrap().entries.len(), 1);
    assert_eq!(place.history.collect(&[kept]).unwrap().objects, 0);
    assert_eq!(place.snapshot(), kept);
}

#[test]
fn a_file_that_reads_like_a_directory_hides_nothing_from_the_collector() {
    let place = Place::new();
    place.write("dir/inner", "content of the inner file");
    let first = place.snapshot();
    // The same bytes as the object of `dir`: what its name is.
    let packs = place.packs();
    let bytes = fs::read(&packs[0]).unwrap();
    let at = bytes.windows(5).position(|window| window == b"inner").unwrap();
    let object = &bytes[at - 2..at + 5 + 1 + 32 + 1 + 2];
    for (name, from, to) in [("a", 0, 0), ("b", 0, 1), ("c", 1, 0)] {
        fs::write(place.path(name), &object[from..object.len() - to]).unwrap();
    }
    let second = place.snapshot();
    place.write("more", "so that something can be forgotten");
    place.snapshot();
    fs::remove_file(place.path("more")).unwrap();
    place.snapshot();
    place.history.collect(&[first, second]).unwrap();
    let content: Vec<u8> = place.history.read(&second, b"dir/inner").unwrap().flat_map(Result::unwrap).collect();
    assert_eq!(content, b"content of the inner file");
}
