//! What a crash or a bad disk leaves behind.

use std::{fs, io::Write};

use history::{Error, Scope};

use crate::place::Place;

#[test]
fn what_a_crash_left_unfinished_is_swept_and_a_torn_pack_ignored() {
    let place = Place::new();
    place.write("a", "1");
    let first = place.snapshot();
    fs::write(place.store.join("unfinished-xyz"), "half a pack").unwrap();
    fs::write(place.store.join("0000.pack"), "atelier1 torn").unwrap();
    place.write("b", "2");
    let second = place.snapshot();
    assert!(!place.store.join("unfinished-xyz").exists());
    assert_eq!(place.history.diff(Some(&first), &second).unwrap().len(), 1);
}

#[test]
fn a_lost_pack_is_told_and_its_content_read_again() {
    let place = Place::new();
    place.write("a", "the only copy is in the workspace");
    let first = place.snapshot();
    for pack in place.packs() {
        fs::OpenOptions::new().write(true).open(pack).unwrap().set_len(20).unwrap();
    }
    let err = place.history.read(&first, b"a").map(|_| ()).unwrap_err();
    assert!(matches!(err, Error::Damaged(id) if id == first));
    assert_eq!(place.snapshot(), first, "the same content has the same name");
    let content: Vec<u8> = place.history.read(&first, b"a").unwrap().flat_map(Result::unwrap).collect();
    assert_eq!(content, b"the only copy is in the workspace");
}

#[test]
fn a_torn_or_foreign_index_is_none() {
    let place = Place::new();
    place.write("a/b", "1");
    let first = place.snapshot();
    let index = fs::read(place.store.join("index")).unwrap();
    for length in [0, 7, 8, 20, 40, index.len() - 1] {
        fs::write(place.store.join("index"), &index[..length]).unwrap();
        let again = place.history.snapshot(&place.workspace).unwrap();
        assert_eq!((again.id, again.stats.files_read), (first, 1));
    }
}

#[test]
fn damaged_content_is_never_put_into_a_workspace() {
    let place = Place::new();
    place.write("a", "x".repeat(40));
    let first = place.snapshot();
    place.write("a", "newer");
    place.snapshot();
    for pack in place.packs() {
        let mut bytes = fs::read(&pack).unwrap();
        if let Some(at) = bytes.windows(40).position(|window| window == [b'x'; 40]) {
            bytes[at + 3] = b'y';
            fs::File::create(&pack).unwrap().write_all(&bytes).unwrap();
        }
    }
    let err = place.history.restore(&place.workspace, &first, Scope::All).unwrap_err();
    assert!(matches!(err, Error::Damaged(_)), "{err}");
    assert_eq!(fs::read(place.path("a")).unwrap(), b"newer");
    assert_eq!(place.contents().len(), 1, "nothing half written is left");
}
