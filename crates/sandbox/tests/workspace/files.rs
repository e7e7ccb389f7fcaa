use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

use chrono::{TimeDelta, Utc};
use sandbox::workspace::{Kind, Stats};
use sandbox::{Error, Workspace};
use tokio::time::timeout;

use crate::scene::{Scene, at, is_root, mkfifo};

#[tokio::test]
async fn a_listing_is_sorted_whole_and_limited_by_depth() {
    let scene = Scene::new();
    for path in ["src/app.py", "src/deep/a.txt", "src-old/x", ".hidden", "z.txt"] {
        scene.put(path, b"12345");
    }
    fs::create_dir(scene.root.join("empty")).unwrap();

    let all = [".hidden", "empty", "src", "src-old", "src-old/x", "src/app.py", "src/deep", "src/deep/a.txt", "z.txt"];
    assert_eq!(scene.paths("", None).await, all);
    assert_eq!(scene.paths("/", Some(1)).await, [".hidden", "empty", "src", "src-old", "z.txt"]);
    assert_eq!(scene.paths("src", Some(1)).await, ["src/app.py", "src/deep"]);
    assert_eq!(scene.paths("src", Some(2)).await, ["src/app.py", "src/deep", "src/deep/a.txt"]);
    assert_eq!(scene.paths("", Some(0)).await, [""; 0]);

    for depth in [Some(1), None] {
        let listing = scene.workspace.list(&at(""), depth).await.unwrap();
        assert!(!listing.truncated);
        let find = |path: &str| listing.entries.iter().find(|entry| entry.path == path).unwrap();
        assert_eq!((find("src").kind, find("src").has_children, find("src").size), (Kind::Directory, true, 0));
        assert_eq!((find("empty").kind, find("empty").has_children), (Kind::Directory, false));
        assert_eq!((find("z.txt").kind, find("z.txt").size, find("z.txt").name.as_str()), (Kind::File, 5, "z.txt"));
        assert!((Utc::now() - find("z.txt").modified).abs() < TimeDelta::minutes(1));
    }
}

#[tokio::test]
async fn a_listing_of_what_is_no_directory_says_so() {
    let scene = Scene::new();
    scene.put("file", b"");
    assert!(matches!(scene.workspace.list(&at("file"), None).await, Err(Error::NotADirectory(path)) if path == "file"));
    assert!(matches!(scene.workspace.list(&at("file/x"), None).await, Err(Error::NotADirectory(_))));
    assert!(matches!(scene.workspace.list(&at("nothing"), None).await, Err(Error::NotFound(_))));
}

#[tokio::test]
async fn links_are_shown_as_what_they_point_to_and_not_entered() {
    let scene = Scene::new();
    scene.put("dir/file", b"123");
    symlink("dir", scene.root.join("to-dir")).unwrap();
    symlink("/workspace/dir/file", scene.root.join("as-in-container")).unwrap();
    symlink("../dir/../dir/file", scene.root.join("dir/winding")).unwrap();
    symlink("/etc/passwd", scene.root.join("outside")).unwrap();
    symlink("..", scene.root.join("dir/back")).unwrap();

    let listing = scene.workspace.list(&at(""), None).await.unwrap();
    let seen: Vec<_> = listing
        .entries
        .iter()
        .map(|entry| (entry.path.as_str(), entry.kind, entry.is_symlink, entry.size, entry.has_children))
        .collect();
    assert_eq!(
        seen,
        [
            ("as-in-container", Kind::File, true, 3, false),
            ("dir", Kind::Directory, false, 0, true),
            ("dir/back", Kind::Directory, true, 0, true),
            ("dir/file", Kind::File, false, 3, false),
            ("dir/winding", Kind::File, true, 3, false),
            ("outside", Kind::File, true, 0, false),
            ("to-dir", Kind::Directory, true, 0, true),
        ]
    );
    for path in ["as-in-container", "dir/winding", "to-dir/file", "dir/back/dir/back/to-dir/file"] {
        assert_eq!(scene.read(path).await.unwrap(), b"123", "{path}");
    }
    assert_eq!(scene.paths("to-dir", Some(1)).await, ["to-dir/back", "to-dir/file", "to-dir/winding"]);
}

#[tokio::test]
async fn a_chain_of_fifty_links_and_a_loop_end() {
    let scene = Scene::new();
    scene.put("link0", b"end");
    for number in 1..=50 {
        symlink(format!("link{}", number - 1), scene.root.join(format!("link{number}"))).unwrap();
    }
    symlink("loop", scene.root.join("loop")).unwrap();
    assert_eq!(scene.read("link40").await.unwrap(), b"end");
    for path in ["link50", "loop", "loop/x"] {
        assert!(matches!(scene.read(path).await, Err(Error::Refused { .. })), "{path}");
    }
    assert_eq!(scene.paths("", None).await.len(), 52);
}

#[tokio::test]
async fn odd_names_are_listed_and_reachable() {
    let scene = Scene::new();
    for name in
        ["new\nline", "\"quotes\" 'n' `ticks`", " blank ", "trailing. .", "back\\slash", "ünï-日本-🦀", "-rf", "*"]
    {
        scene.write(name, name.as_bytes()).await.unwrap();
        assert_eq!(scene.read(name).await.unwrap(), name.as_bytes());
        assert_eq!(scene.paths("", None).await, [name]);
        scene.workspace.remove(&at(name)).await.unwrap();
    }
    assert!(scene.is_empty());
}

#[tokio::test]
async fn a_name_that_is_not_utf8_is_shown_lossily_and_goes_with_its_directory() {
    let scene = Scene::new();
    fs::create_dir_all(scene.root.join("dir").join(OsStr::from_bytes(b"d\xff"))).unwrap();
    fs::write(scene.root.join("dir").join(OsStr::from_bytes(b"d\xff/f\xfe.txt")), "x").unwrap();
    assert_eq!(scene.paths("", None).await, ["dir", "dir/d\u{fffd}", "dir/d\u{fffd}/f\u{fffd}.txt"]);
    assert!(matches!(scene.read("dir/d\u{fffd}/f\u{fffd}.txt").await, Err(Error::NotFound(_))));
    scene.workspace.remove(&at("dir")).await.unwrap();
    assert!(scene.is_empty());
}

#[tokio::test]
async fn special_files_hang_nothing() {
    let scene = Scene::new();
    mkfifo(&scene.root.join("dir-pipe"));
    let _listener = UnixListener::bind(scene.root.join("socket")).unwrap();
    let mut special = vec!["dir-pipe", "socket"];
    if is_root() {
        use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
        let mode = Mode::from_raw_mode(0o666);
        // The number of /dev/zero, which would never end.
        let made = mknodat(CWD, scene.root.join("zero"), FileType::CharacterDevice, mode, makedev(1, 5));
        special.extend(made.is_ok().then_some("zero"));
    }
    let work = async {
        for path in &special {
            assert!(matches!(scene.read(path).await, Err(Error::Refused { .. })), "{path}");
            assert!(matches!(scene.write(path, b"x").await, Err(Error::Refused { .. })), "{path}");
            assert!(matches!(scene.workspace.list(&at(path), None).await, Err(Error::NotADirectory(_))), "{path}");
        }
        let listing = scene.workspace.list(&at(""), None).await.unwrap();
        assert!(listing.entries.iter().all(|entry| entry.kind == Kind::File && entry.size == 0));
        assert_eq!(listing.entries.len(), special.len());
        assert_eq!(crate::zip::names(&scene, "").await, [""; 0]);
        assert_eq!(scene.workspace.stats().await.unwrap().bytes, 0);
        for path in &special {
            scene.workspace.remove(&at(path)).await.unwrap();
        }
    };
    timeout(Duration::from_secs(20), work).await.expect("no operation waits for a special file");
    assert!(scene.is_empty());
}

#[tokio::test]
async fn a_file_tells_its_size_time_and_type() {
    let scene = Scene::new();
    scene.put("src/app.py", b"print()");
    scene.put("data", b"");
    let file = scene.workspace.open_file(&at("src/app.py")).await.unwrap();
    assert_eq!((file.size, file.mime.as_str()), (7, "text/plain"));
    assert_eq!(scene.workspace.open_file(&at("data")).await.unwrap().mime, "application/octet-stream");
    assert!(matches!(scene.workspace.open_file(&at("src")).await, Err(Error::IsDirectory(_))));
    assert!(matches!(scene.workspace.open_file(&at("")).await, Err(Error::IsDirectory(_))));
    assert!(matches!(scene.workspace.open_file(&at("data/x")).await, Err(Error::NotADirectory(_))));
    assert!(matches!(scene.workspace.open_file(&at("no")).await, Err(Error::NotFound(_))));
}

#[tokio::test]
async fn directories_are_made_with_their_parents_and_may_exist() {
    let scene = Scene::new();
    scene.put("file", b"");
    for _ in 0..2 {
        scene.workspace.make_dir_all(&at("a/b/c")).await.unwrap();
    }
    scene.workspace.make_dir_all(&at("/")).await.unwrap();
    let meta = fs::metadata(scene.root.join("a/b")).unwrap();
    assert_eq!(meta.permissions().mode() & 0o7777, 0o755);
    assert_eq!(meta.uid(), fs::metadata(&scene.root).unwrap().uid());
    assert!(matches!(scene.workspace.make_dir_all(&at("file")).await, Err(Error::NotADirectory(_))));
    assert!(matches!(scene.workspace.make_dir_all(&at("file/x")).await, Err(Error::NotADirectory(_))));
}

#[tokio::test]
async fn new_files_belong_to_the_owner_of_the_workspace() {
    if !is_root() {
        return;
    }
    let scene = Scene::new();
    std::os::unix::fs::chown(&scene.root, Some(1234), Some(2345)).unwrap();
    let workspace = Workspace::open(scene.root.clone()).unwrap();
    workspace.upload(&at("a/b/file")).await.unwrap().commit().await.unwrap();
    workspace.make_dir_all(&at("c/d")).await.unwrap();
    for path in ["a", "a/b", "a/b/file", "c", "c/d"] {
        let meta = fs::metadata(scene.root.join(path)).unwrap();
        assert_eq!((meta.uid(), meta.gid()), (1234, 2345), "{path}");
    }
}

#[tokio::test]
async fn a_move_replaces_what_it_may() {
    let scene = Scene::new();
    let rename = async |source: &str, dest: &str| scene.workspace.rename(&at(source), &at(dest)).await;
    scene.put("a.txt", b"a");
    scene.put("b.txt", b"b");
    scene.put("full/file", b"");
    fs::create_dir(scene.root.join("empty")).unwrap();

    rename("a.txt", "new/dir/a.txt").await.unwrap();
    assert_eq!(scene.read("new/dir/a.txt").await.unwrap(), b"a");
    rename("new/dir/a.txt", "b.txt").await.unwrap();
    assert_eq!(scene.read("b.txt").await.unwrap(), b"a");
    rename("full", "empty").await.unwrap();
    assert_eq!(scene.paths("empty", None).await, ["empty/file"]);
    rename("b.txt", "b.txt").await.unwrap();

    assert!(matches!(rename("new", "empty").await, Err(Error::Refused { path, .. }) if path == "empty"));
    assert!(matches!(rename("b.txt", "empty").await, Err(Error::IsDirectory(_))));
    assert!(matches!(rename("empty", "b.txt").await, Err(Error::NotADirectory(_))));
    assert!(matches!(rename("new", "new/dir/below/new").await, Err(Error::Refused { .. })));
    symlink("new/dir", scene.root.join("door")).unwrap();
    assert!(matches!(rename("new", "door/new").await, Err(Error::Refused { .. })));
    assert!(matches!(rename("", "x").await, Err(Error::Refused { .. })));
    assert!(matches!(rename("b.txt", "").await, Err(Error::Refused { .. })));
    assert!(matches!(rename("missing", "made/x").await, Err(Error::NotFound(path)) if path == "missing"));
    assert!(!scene.root.join("made").exists() && !scene.root.join("new/dir/below").exists());
}

#[tokio::test]
async fn removing_takes_the_link_and_not_what_it_points_to() {
    let scene = Scene::new();
    scene.put("dir/file", b"");
    symlink("dir", scene.root.join("link")).unwrap();
    symlink(&scene.outside, scene.root.join("dir/out")).unwrap();
    scene.workspace.remove(&at("link")).await.unwrap();
    assert_eq!(scene.paths("", Some(1)).await, ["dir"]);
    scene.workspace.remove(&at("dir")).await.unwrap();
    assert!(scene.is_empty());
    assert!(matches!(scene.workspace.remove(&at("dir")).await, Err(Error::NotFound(_))));
    assert!(matches!(scene.workspace.remove(&at("/workspace")).await, Err(Error::Refused { .. })));
    scene.assert_outside_is_untouched("remove");
}

#[tokio::test]
async fn a_tree_wider_than_a_batch_and_deeper_than_any_path_is_listed_and_removed() {
    let scene = Scene::new();
    for number in 0..1500 {
        fs::create_dir_all(scene.root.join(format!("wide/a-rather-long-directory-name-{number}/x"))).unwrap();
    }
    // Made as a process inside can: from where it stands, again and again.
    let mut dir = rustix::fs::open(&scene.root, rustix::fs::OFlags::PATH, rustix::fs::Mode::empty()).unwrap();
    for _ in 0..5000 {
        rustix::fs::mkdirat(&dir, "deep", rustix::fs::Mode::from_raw_mode(0o755)).unwrap();
        dir = rustix::fs::openat(&dir, "deep", rustix::fs::OFlags::PATH, rustix::fs::Mode::empty()).unwrap();
    }
    let listing = scene.workspace.list(&at(""), None).await.unwrap();
    assert!(listing.truncated, "what lies too deep to be named is left out, and that is told");
    assert!(listing.entries.len() > 3000);
    assert!(scene.workspace.stats().await.unwrap().is_incomplete);
    scene.workspace.remove(&at("wide")).await.unwrap();
    scene.workspace.remove(&at("deep")).await.unwrap();
    assert!(scene.is_empty());
    Workspace::delete(scene.root.clone()).await.unwrap();
    assert!(!scene.root.exists());
    Workspace::delete(scene.root.clone()).await.unwrap();
}

#[tokio::test]
async fn statistics_count_a_file_of_two_names_once() {
    let scene = Scene::new();
    let first = scene.put("dir/a", &[1; 10_000]);
    fs::hard_link(first, scene.root.join("dir/b")).unwrap();
    scene.put("c", b"12345");
    let Stats { disk_bytes, .. } = scene.workspace.stats().await.unwrap();
    assert!(disk_bytes >= 10_000);
    assert_eq!(
        scene.workspace.stats().await.unwrap(),
        Stats { files: 3, directories: 1, bytes: 10_005, disk_bytes, is_incomplete: false }
    );
}

#[tokio::test]
async fn five_thousand_entries_are_listed_quickly() {
    let scene = Scene::new();
    for dir in 0..50 {
        for file in 0..99 {
            scene.put(&format!("dir{dir}/file{file}.txt"), b"x");
        }
    }
    for depth in [None, Some(1)] {
        let mut times = Vec::new();
        for _ in 0..9 {
            let start = Instant::now();
            let listing = scene.workspace.list(&at(""), depth).await.unwrap();
            times.push(start.elapsed());
            assert_eq!(listing.entries.len(), if depth.is_none() { 5000 } else { 50 });
        }
        times.sort();
        println!("list depth {depth:?}: median {:?}, slowest {:?}", times[4], times[8]);
    }
}

#[tokio::test]
async fn a_copy_replaces_files_fills_directories_and_follows_nothing() {
    let (from, to) = (Scene::new(), Scene::new());
    from.set_traps();
    from.put("src/new.txt", b"new");
    to.set_traps();
    to.put("src/mine.txt", b"mine");
    to.put("src/new.txt", b"a longer one");
    let copied = from.workspace.copy_to(&at("src"), &to.workspace).await.unwrap();
    assert_eq!((copied.files, copied.skipped), (4, 0));
    assert_eq!(to.read("src/new.txt").await.unwrap(), b"new");
    assert_eq!(to.read("src/mine.txt").await.unwrap(), b"mine");
    assert_eq!(to.read("src/deep/a.txt").await.unwrap(), b"a");
    // The whole workspace, links to everywhere included, over one that is full of them.
    from.workspace.copy_to(&at(""), &to.workspace).await.unwrap();
    for path in ["out", "slash/etc", "secret", "up", "proc"] {
        assert!(from.workspace.copy_to(&at(path), &to.workspace).await.is_err(), "{path}");
    }
    // Where a link leads out of the other workspace, nothing is put.
    fs::create_dir(from.root.join("real")).unwrap();
    from.put("real/x.txt", b"x");
    symlink("../outside", to.root.join("real")).unwrap();
    assert!(from.workspace.copy_to(&at("real"), &to.workspace).await.is_err());
    from.assert_outside_is_untouched("a copy");
    to.assert_outside_is_untouched("a copy");
}
