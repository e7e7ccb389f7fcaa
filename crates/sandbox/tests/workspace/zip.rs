use std::fs;
use std::io::{Cursor, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use sandbox::Error;
use zip::ZipArchive;

use crate::scene::{Scene, at};

/// The whole archive of a directory.
pub(crate) async fn archive(scene: &Scene, path: &str) -> Result<Vec<u8>, Error> {
    let chunks: Vec<Bytes> = scene.workspace.zip(&at(path)).await?.try_collect().await?;
    Ok(chunks.concat())
}

/// The names in the archive of a directory, sorted.
pub(crate) async fn names(scene: &Scene, path: &str) -> Vec<String> {
    let archive = ZipArchive::new(Cursor::new(archive(scene, path).await.unwrap())).unwrap();
    let mut names: Vec<String> = archive.file_names().map(|name| name.unwrap().into_owned()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn a_directory_becomes_an_archive_with_modes_and_links() {
    let scene = Scene::new();
    let big: Vec<u8> = (0..500_000u32).flat_map(|n| (n.wrapping_mul(2_654_435_761) >> 8).to_le_bytes()).collect();
    scene.put("src/app.py", b"print()");
    scene.put("src/deep/big.bin", &big);
    scene.put("src/run.sh", b"#!/bin/sh");
    scene.put("src/ünï 日本", b"");
    fs::set_permissions(scene.root.join("src/run.sh"), fs::Permissions::from_mode(0o750)).unwrap();
    fs::create_dir(scene.root.join("src/empty")).unwrap();
    symlink("app.py", scene.root.join("src/link")).unwrap();
    symlink("../../outside/canary.txt", scene.root.join("src/out")).unwrap();
    symlink("../../outside", scene.root.join("src/outdir")).unwrap();

    let bytes = archive(&scene, "src").await.unwrap();
    let mut archive = ZipArchive::new(Cursor::new(bytes)).unwrap();
    let mut seen = Vec::new();
    for index in 0..archive.len() {
        let mut file = archive.by_index(index).unwrap();
        let mut content = Vec::new();
        file.read_to_end(&mut content).unwrap();
        let is_big = content == big;
        let content = if is_big { "big".into() } else { String::from_utf8(content).unwrap() };
        seen.push((file.name().unwrap().into_owned(), file.unix_mode().unwrap(), content));
    }
    seen.sort();
    let expected = [
        ("app.py", 0o100_644, "print()"),
        ("deep/", 0o040_755, ""),
        ("deep/big.bin", 0o100_644, "big"),
        ("empty/", 0o040_755, ""),
        ("link", 0o120_777, "app.py"),
        ("out", 0o120_777, "../../outside/canary.txt"),
        ("outdir", 0o120_777, "../../outside"),
        ("run.sh", 0o100_750, "#!/bin/sh"),
        ("ünï 日本", 0o100_644, ""),
    ];
    let expected: Vec<_> =
        expected.map(|(name, mode, content): (&str, u32, &str)| (name.to_owned(), mode, content.to_owned())).into();
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn names_that_look_alike_are_all_kept() {
    let scene = Scene::new();
    for name in [&b"f\xff"[..], b"f\xfe", "f\u{fffd}".as_bytes()] {
        fs::write(scene.root.join(std::ffi::OsStr::from_bytes(name)), name).unwrap();
    }
    assert_eq!(names(&scene, "").await, ["f\u{fffd}", "f\u{fffd}~2", "f\u{fffd}~3"]);
}

#[tokio::test]
async fn an_archive_streams_in_small_pieces_and_may_be_left() {
    let scene = Scene::new();
    let noise: Vec<u8> = (0..1_000_000u32).flat_map(|n| (n.wrapping_mul(2_654_435_761) >> 7).to_le_bytes()).collect();
    scene.put("noise", &noise);
    let mut stream = Box::pin(scene.workspace.zip(&at("")).await.unwrap());
    let first = stream.next().await.unwrap().unwrap();
    assert!(first.len() < 1_000_000, "{}", first.len());
    drop(stream);
    assert!(matches!(archive(&scene, "noise").await, Err(Error::NotADirectory(_))));
    assert!(matches!(archive(&scene, "nothing").await, Err(Error::NotFound(_))));
    assert_eq!(names(&scene, "").await, ["noise"]);
}
