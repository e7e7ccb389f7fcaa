//! What lies between snapshots.

use std::{fs, os::unix::fs::symlink, process::Command};

use history::{Change, ChangeKind, Id};

use crate::place::{Place, contents, set_mode};

fn told(changes: &[Change]) -> Vec<String> {
    let tell = |change: &Change| {
        let kind = match change.kind() {
            ChangeKind::Created => "+",
            ChangeKind::Modified => "~",
            ChangeKind::Deleted => "-",
        };
        let slash = if change.is_directory() { "/" } else { "" };
        let from = change.previous_path.as_ref().map(|path| format!(" from {}", String::from_utf8_lossy(path)));
        format!("{kind}{}{slash}{}", String::from_utf8_lossy(&change.path), from.unwrap_or_default())
    };
    changes.iter().map(tell).collect()
}

fn between(place: &Place, before: &Id, after: &Id) -> Vec<String> {
    told(&place.history.diff(Some(before), after).unwrap())
}

#[test]
fn every_kind_of_change_is_told_once() {
    let place = Place::new();
    for (path, content) in [("same", "1"), ("changed", "1"), ("gone", "1"), ("moved", "content"), ("mode", "x")] {
        place.write(path, content);
    }
    place.write("file-to-directory", "");
    place.write("directory-to-file/inner", "");
    place.write("whole/deep/a", "");
    fs::create_dir_all(place.path("emptied")).unwrap();
    symlink("same", place.path("link")).unwrap();
    let before = place.snapshot();

    place.write("changed", "2");
    fs::remove_file(place.path("gone")).unwrap();
    fs::rename(place.path("moved"), place.path("moved-to")).unwrap();
    set_mode(&place.path("mode"), 0o700);
    fs::remove_file(place.path("file-to-directory")).unwrap();
    place.write("file-to-directory/new", "");
    fs::remove_dir_all(place.path("directory-to-file")).unwrap();
    place.write("directory-to-file", "now");
    fs::remove_dir_all(place.path("whole")).unwrap();
    fs::remove_dir(place.path("emptied")).unwrap();
    fs::create_dir_all(place.path("new/empty")).unwrap();
    fs::remove_file(place.path("link")).unwrap();
    symlink("changed", place.path("link")).unwrap();
    let after = place.snapshot();

    let expected = [
        "~changed",
        "+directory-to-file",
        "-directory-to-file/inner",
        "-emptied/",
        "-file-to-directory",
        "+file-to-directory/new",
        "-gone",
        "~link",
        "~mode",
        "-moved",
        "+moved-to from moved",
        "+new/empty/",
        "-whole/deep/a",
    ];
    assert_eq!(between(&place, &before, &after), expected);
    assert_eq!(between(&place, &after, &after), [] as [&str; 0]);
    assert_eq!(told(&place.history.diff(None, &before).unwrap()).len(), 10);
}

#[test]
fn git_can_apply_what_we_say_changed() {
    let place = Place::new();
    place.write("edited", "one\ntwo\nthree\nfour\nfive\nsix\nseven\n");
    place.write("no-newline", "a\nb");
    place.write("gone", "bye\n");
    place.write("tool", "#!/bin/sh\n");
    place.write("binary", b"\x00\x01");
    let before = place.snapshot();
    let copy = place.beside("copy");
    place
        .history
        .fork(&before, place.beside("fork"), {
            fs::create_dir(&copy).unwrap();
            &copy
        })
        .unwrap();

    place.write("edited", "one\n2\nthree\nfour\nfive\nsix\nseven\neight\n");
    place.write("no-newline", "a\nc");
    fs::remove_file(place.path("gone")).unwrap();
    place.write("dir/new", "hello\n");
    set_mode(&place.path("tool"), 0o755);
    symlink("edited", place.path("link")).unwrap();
    let after = place.snapshot();
    let changes = place.history.diff(Some(&before), &after).unwrap();
    let diffs = place.history.texts(&changes).unwrap();
    assert_eq!(
        (diffs.iter().map(|diff| diff.additions).sum::<u64>(), diffs.iter().map(|diff| diff.deletions).sum()),
        (5, 3)
    );
    let patch: String = diffs.iter().map(|diff| diff.text.as_str()).collect();
    fs::write(place.beside("patch"), patch).unwrap();
    let git = Command::new("git").args(["apply", "--verbose", "../patch"]).current_dir(&copy).output().unwrap();
    assert!(git.status.success(), "{}", String::from_utf8_lossy(&git.stderr));
    assert_eq!(contents(&copy), place.contents());

    place.write("binary", b"\x00\x02");
    let binary = place.snapshot();
    let changes = place.history.diff(Some(&after), &binary).unwrap();
    let [diff] = &place.history.texts(&changes).unwrap()[..] else { panic!("one change") };
    assert!(diff.is_opaque);
    assert_eq!(diff.text, "diff --git a/binary b/binary\nBinary files a/binary and b/binary differ\n");
}

#[test]
fn changes_of_two_writers_are_told_apart_by_their_paths() {
    let place = Place::new();
    place.write("shared/a", "1");
    place.write("shared/b", "1");
    place.write("gone/only", "1");
    let before = place.snapshot();
    place.write("shared/a", "2");
    place.write("shared/b", "2");
    place.write("new/deep/file", "3");
    fs::remove_dir_all(place.path("gone")).unwrap();
    let after = place.snapshot();

    let theirs = [b"shared/a".to_vec(), b"new/deep/file".to_vec(), b"gone/only".to_vec()];
    let middle = place.history.pick(&before, &after, &theirs).unwrap();
    assert_eq!(between(&place, &before, &middle), ["-gone/only", "+new/deep/file", "~shared/a"]);
    assert_eq!(between(&place, &middle, &after), ["~shared/b"]);
    assert_eq!(
        place.history.pick(&before, &after, &[b"shared".to_vec(), b"new".to_vec(), b"gone".to_vec()]).unwrap(),
        after
    );
    assert_eq!(place.history.pick(&before, &after, &[b"never/was".to_vec()]).unwrap(), before);
}

#[test]
fn a_single_path_is_remembered_without_the_rest() {
    let place = Place::new();
    place.write("a", "1");
    place.write("dir/b", "1");
    let before = place.snapshot();
    place.write("a", "not yet");
    place.write("dir/b", "2");
    place.write("other/c", "3");
    let paths = [b"dir/b".to_vec(), b"other/c".to_vec()];
    let after = place.history.update(&before, &place.workspace, &paths).unwrap().expect("no links here");
    assert_eq!(between(&place, &before, &after), ["~dir/b", "+other/c"]);
    assert_eq!(between(&place, &after, &place.snapshot()), ["~a"]);

    fs::remove_dir_all(place.path("other")).unwrap();
    let gone = place.history.update(&after, &place.workspace, &[b"other".to_vec()]).unwrap().unwrap();
    assert_eq!(between(&place, &after, &gone), ["-other/c"]);
    symlink("dir", place.path("way")).unwrap();
    assert_eq!(place.history.update(&after, &place.workspace, &[b"way/b".to_vec()]).unwrap(), None);
    assert_eq!(place.history.update(&after, &place.workspace, &[Vec::new()]).unwrap(), None);
}
