use std::collections::BTreeSet;
use std::fs;
use std::io::{Cursor, Read};
use std::os::unix::fs::symlink;

use domain::WorkspacePath;
use futures::TryStreamExt;
use sandbox::Error;

use crate::scene::{SECRET, Scene, at, contains};

/// Paths that somebody who wants out would try, as they come in a URL.
fn corpus(scene: &Scene) -> BTreeSet<String> {
    let outside = scene.outside.to_str().unwrap();
    let ups = [
        "..",
        "%2e%2e",
        "%2E.",
        "..%00",
        "%252e%252e",
        "..%c0%af",
        "%c0%ae%c0%ae",
        "....",
        "..;",
        "..\\",
        "%5c..",
        ".. ",
        "..%20",
        "..%0a",
        "\u{2025}",
        "\u{ff0e}\u{ff0e}",
        "..%2f",
        "%2f..",
        ".%2e",
        "..%5c",
        "..//",
        "./..",
        "..%0d",
        "...",
        ". .",
        "..%ef%bb%bf",
    ];
    let separators = ["/", "%2f", "/./", "%5c", "%252f", "\u{2215}"];
    let targets = ["outside/canary.txt", "canary.txt", "workspace-evil/canary.txt", "outside", "outside/new.txt", ""];
    let starts = ["", "/", "src/", "/workspace/", "src/deep/", "nowhere/", "plain.txt/", "out/", "up/"];
    let mut paths = BTreeSet::new();
    for up in ups {
        for separator in separators {
            for (number, target) in targets.iter().enumerate() {
                let start = starts[(paths.len() + number) % starts.len()];
                for times in [1, 4] {
                    paths.insert(format!("{start}{}{target}", format!("{up}{separator}").repeat(times)));
                }
            }
        }
    }
    let links = [
        "slash",
        "up",
        "out",
        "absolute",
        "secret",
        "twice",
        "proc",
        "cwd",
        "evil",
        "sneaky",
        "src/over",
        "loop",
        "ping",
        "dangling",
        "dangling-out",
    ];
    for link in links {
        let below =
            ["", "/", "/canary.txt", "/outside/canary.txt", "/sub", "/new.txt", "/new/dir/x", "/.", "/..", "%00", "/ "];
        for below in below {
            for start in ["", "/", "/workspace/", "./", "up/workspace/", "%2f"] {
                paths.insert(format!("{start}{link}{below}"));
            }
        }
        // All the way round, to our own files only.
        paths.insert(format!("{link}{outside}/canary.txt"));
        paths.insert(format!("{link}{outside}/new.txt"));
    }
    for start in ["", "/", "//", "file://", "\\\\?\\", "C:", "~", "/proc/self/root", "/proc/1/root", "/dev/fd/3/.."] {
        paths.insert(format!("{start}{outside}/canary.txt"));
        paths.insert(format!("{start}{outside}/new.txt"));
    }
    for path in [
        "/workspace-evil/canary.txt",
        "/workspace-evil",
        "/workspacecanary.txt",
        "/workspace/../outside/canary.txt",
        "/workspace%00/canary.txt",
        "plain.txt%00.png",
        "%00",
        "src%00/../../canary.txt",
        "/proc/self/environ",
        "/etc/passwd",
        "CON",
        "nul.txt",
        "trailing.",
        "trailing ",
        "a/ /b",
        "a/./b",
        "%ff%fe",
        "%",
        "%zz",
        "\u{202e}txt.exe",
        "a\u{0301}",
        "e\u{301}/\u{e9}",
        "\u{feff}src",
        "-rf",
        "--",
        "*",
        "$(id)",
        "`id`",
        "{a,b}",
        "src/app.py/",
        ".",
        "./",
        "",
    ] {
        paths.insert(path.to_owned());
    }
    for length in [254, 255, 256, 257, 1023, 1024, 1025, 4095, 4096, 100_000] {
        paths.insert("x".repeat(length));
        paths.insert("x/".repeat(length / 2));
        paths.insert("../".repeat(length / 3) + "canary.txt");
        paths.insert("src/../".repeat(length / 7) + "up/canary.txt");
        paths.insert("\u{e9}".repeat(length / 2));
    }
    paths
}

fn percent_decoded(path: &str) -> String {
    let bytes = path.as_bytes();
    let mut decoded = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let hex = path.get(at + 1..at + 3).filter(|_| bytes[at] == b'%');
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                decoded.push(byte);
                at += 3;
            }
            None => {
                decoded.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

#[tokio::test]
async fn no_path_leads_any_operation_out() {
    let scene = Scene::new();
    let mut paths = corpus(&scene);
    paths.extend(paths.iter().map(|path| percent_decoded(path)).collect::<Vec<_>>());
    paths.extend(paths.iter().map(|path| percent_decoded(path)).collect::<Vec<_>>());
    assert!(paths.len() >= 2000, "{}", paths.len());
    let (mut refused, mut tried, mut stopped) = (0, 0, 0);
    for text in &paths {
        let Ok(path) = WorkspacePath::parse(text) else {
            refused += 1;
            continue;
        };
        tried += 1;
        scene.set_traps();
        stopped += every_operation(&scene, &path).await;
        scene.assert_outside_is_untouched(text);
    }
    println!("{} paths: {refused} refused as text, {tried} tried, {stopped} operations found to lead out", paths.len());
    assert!(refused > 400 && tried > 1000 && stopped > 1000);
}

/// Does everything there is to do with a path; gives how often that was found to lead out.
async fn every_operation(scene: &Scene, path: &WorkspacePath) -> usize {
    let workspace = &scene.workspace;
    let mut outcomes = Vec::new();
    let listing = workspace.list(path, Some(3)).await;
    if let Ok(listing) = &listing {
        assert!(listing.entries.iter().all(|entry| entry.name != "canary.txt"), "{path:?}");
    }
    outcomes.push(listing.err());
    let content = scene.read(path.as_str()).await;
    if let Ok(content) = &content {
        assert!(!contains(content, SECRET), "{path:?}");
    }
    outcomes.push(content.err());
    outcomes.push(no_secret_in_archive(scene, path).await.err());
    outcomes.push(scene.write(path.as_str(), b"EVIL").await.err());
    outcomes.push(match path.join("below/new.txt") {
        Ok(below) => scene.write(below.as_str(), b"EVIL").await.err(),
        Err(_) => None,
    });
    outcomes.push(workspace.make_dir_all(path).await.err());
    outcomes.push(workspace.rename(path, &at("moved/away")).await.err());
    outcomes.push(workspace.rename(&at("plain.txt"), path).await.err());
    outcomes.push(workspace.remove(path).await.err());
    let _ = workspace.remove(&at("moved")).await;
    outcomes.iter().flatten().filter(|err| matches!(err, Error::Outside(_))).count()
}

async fn no_secret_in_archive(scene: &Scene, path: &WorkspacePath) -> Result<(), Error> {
    let chunks: Vec<bytes::Bytes> = scene.workspace.zip(path).await?.try_collect().await?;
    let mut archive = zip::ZipArchive::new(Cursor::new(chunks.concat())).unwrap();
    for index in 0..archive.len() {
        let mut content = Vec::new();
        archive.by_index(index).unwrap().read_to_end(&mut content).unwrap();
        assert!(!contains(&content, SECRET), "{path:?}");
    }
    Ok(())
}

#[tokio::test]
async fn links_out_of_the_workspace_are_named_as_such() {
    let scene = Scene::new();
    scene.set_traps();
    for path in
        ["slash", "up", "out/canary.txt", "absolute/canary.txt", "secret", "twice/canary.txt", "proc", "evil", "sneaky"]
    {
        assert!(matches!(scene.read(path).await, Err(Error::Outside(named)) if named == path), "{path}");
    }
    assert!(matches!(scene.write("dangling-out", b"").await, Err(Error::Outside(_))));
    scene.write("dangling", b"made where the link points").await.unwrap();
    assert!(scene.root.join("nowhere").is_file());
    scene.assert_outside_is_untouched("writing to links");
}

#[tokio::test]
async fn replacing_the_path_of_the_workspace_changes_nothing_for_us() {
    let scene = Scene::new();
    scene.put("file", b"mine");
    let moved = scene.root.with_file_name("elsewhere");
    fs::rename(&scene.root, &moved).unwrap();
    symlink(&scene.outside, &scene.root).unwrap();
    assert_eq!(scene.read("file").await.unwrap(), b"mine");
    assert!(matches!(scene.read("canary.txt").await, Err(Error::NotFound(_))));
    scene.write("new.txt", b"x").await.unwrap();
    assert!(moved.join("new.txt").exists() && !scene.outside.join("new.txt").exists());
}
