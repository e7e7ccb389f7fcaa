use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::time::Duration;

use bytes::Bytes;
use chrono::{TimeDelta, Utc};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use sandbox::{Error, Workspace};
use tokio::task::JoinSet;

use crate::scene::{Scene, at};

#[tokio::test]
async fn an_upload_is_seen_when_it_is_committed_and_not_before() {
    let scene = Scene::new();
    let mut upload = scene.workspace.upload(&at("new/dir/file.bin")).await.unwrap();
    let content: Vec<u8> = (0..5_000_000u32).map(|n| (n / 7) as u8).collect();
    for chunk in content.chunks(70_001) {
        upload.write(Bytes::copy_from_slice(chunk)).await.unwrap();
    }
    assert_eq!(scene.paths("", None).await, ["new", "new/dir"]);
    assert!(matches!(scene.read("new/dir/file.bin").await, Err(Error::NotFound(_))));
    let uploaded = upload.commit().await.unwrap();
    assert_eq!((uploaded.size, uploaded.created), (5_000_000, true));
    assert!(scene.read("new/dir/file.bin").await.unwrap() == content);
    let mode = fs::metadata(scene.root.join("new/dir/file.bin")).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o644);
}

#[tokio::test]
async fn an_existing_file_keeps_its_mode_and_a_link_its_place() {
    let scene = Scene::new();
    let script = scene.put("bin/run", b"old");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o751)).unwrap();
    symlink("bin/run", scene.root.join("run")).unwrap();
    scene.write("run", b"new").await.unwrap();
    assert_eq!(fs::read(&script).unwrap(), b"new");
    assert_eq!(fs::metadata(&script).unwrap().permissions().mode() & 0o7777, 0o751);
    assert!(scene.root.join("run").is_symlink());
    let upload = scene.workspace.upload(&at("run")).await.unwrap();
    assert!(!upload.commit().await.unwrap().created);
    assert_eq!(fs::read(&script).unwrap(), b"");
}

#[tokio::test]
async fn a_directory_is_not_replaced_by_a_file() {
    let scene = Scene::new();
    scene.put("dir/file", b"");
    scene.put("file", b"");
    assert!(matches!(scene.write("dir", b"").await, Err(Error::IsDirectory(_))));
    assert!(matches!(scene.write("", b"").await, Err(Error::IsDirectory(_))));
    assert!(matches!(scene.write("file/below", b"").await, Err(Error::NotADirectory(_))));
    let upload = scene.workspace.upload(&at("later")).await.unwrap();
    fs::create_dir(scene.root.join("later")).unwrap();
    assert!(matches!(upload.commit().await, Err(Error::IsDirectory(_))));
    let upload = scene.workspace.upload(&at("dir/x")).await.unwrap();
    fs::remove_dir_all(scene.root.join("dir")).unwrap();
    assert!(matches!(upload.commit().await, Err(Error::NotFound(_))));
    assert_eq!(scene.paths("", None).await, ["file", "later"]);
    assert_eq!(fs::read_dir(&scene.root).unwrap().count(), 2, "no hidden file is left");
}

#[tokio::test]
async fn an_upload_cut_off_leaves_nothing() {
    let scene = Scene::new();
    scene.put("file", b"old");
    let mut upload = scene.workspace.upload(&at("file")).await.unwrap();
    for _ in 0..40 {
        upload.write(Bytes::from(vec![1; 100_000])).await.unwrap();
    }
    drop(upload);
    assert_eq!(fs::read_dir(&scene.root).unwrap().count(), 1);
    assert_eq!(scene.read("file").await.unwrap(), b"old");
}

#[tokio::test]
async fn what_a_killed_server_left_is_hidden_and_swept() {
    let scene = Scene::new();
    scene.put("dir/file", b"old");
    scene.put(".atelier-upload-notes", b"somebody's own file");
    let mut upload = scene.workspace.upload(&at("dir/file")).await.unwrap();
    upload.write(Bytes::from(vec![1; 3_000_000])).await.unwrap();
    // As kill -9 does: nothing of ours runs any more.
    std::mem::forget(upload);

    let workspace = Workspace::open(scene.root.clone()).unwrap();
    assert_eq!(scene.read("dir/file").await.unwrap(), b"old");
    assert_eq!(scene.paths("", None).await, [".atelier-upload-notes", "dir", "dir/file"]);
    assert_eq!(crate::zip::names(&scene, "dir").await, ["file"]);
    assert_eq!(fs::read_dir(scene.root.join("dir")).unwrap().count(), 2);
    assert_eq!(workspace.sweep(Utc::now() - TimeDelta::days(1)).await.unwrap(), 0, "it may still be under way");
    assert_eq!(workspace.sweep(Utc::now() + TimeDelta::days(1)).await.unwrap(), 1);
    assert_eq!(fs::read_dir(scene.root.join("dir")).unwrap().count(), 1);
    assert_eq!(scene.paths("", None).await.len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_uploads_at_once_the_last_commit_wins_and_no_reader_sees_a_mixture() {
    const SIZE: usize = 2_500_000;
    let scene = Scene::new();
    scene.write("file", &vec![0; SIZE]).await.unwrap();
    let mut writers = JoinSet::new();
    for byte in 1..=8u8 {
        let workspace = scene.workspace.clone();
        writers.spawn(async move {
            for _ in 0..3 {
                let mut upload = workspace.upload(&at("file")).await.unwrap();
                for _ in 0..25 {
                    upload.write(Bytes::from(vec![byte; SIZE / 25])).await.unwrap();
                }
                upload.commit().await.unwrap();
            }
        });
    }
    let mut reads = 0;
    while !writers.is_empty() || reads < 10 {
        let content = scene.read("file").await.unwrap();
        assert!(content.len() == SIZE && content.iter().all(|byte| *byte == content[0]), "torn");
        reads += 1;
        while let Some(done) = writers.try_join_next() {
            done.unwrap();
        }
    }

    let mut first = scene.workspace.upload(&at("file")).await.unwrap();
    let mut second = scene.workspace.upload(&at("file")).await.unwrap();
    second.write(Bytes::from_static(b"second")).await.unwrap();
    first.write(Bytes::from_static(b"first")).await.unwrap();
    second.commit().await.unwrap();
    first.commit().await.unwrap();
    assert_eq!(scene.read("file").await.unwrap(), b"first");
    assert_eq!(fs::read_dir(&scene.root).unwrap().count(), 1, "no hidden file is left");
}

#[tokio::test]
async fn a_full_disk_is_told_and_leaves_no_part() {
    let scene = Scene::new();
    let small = scene.root.join("small");
    fs::create_dir(&small).unwrap();
    // Where we may not mount, there is no small disk to fill.
    let Ok(()) = mount("none", &small, "tmpfs", MountFlags::empty(), Some(c"size=4m")) else { return };
    let result = fill(&scene).await;
    let left = fs::read_dir(&small).unwrap().count();
    unmount(&small, UnmountFlags::DETACH).unwrap();
    assert!(matches!(result, Err(Error::DiskFull)), "{result:?}");
    assert_eq!(left, 0);
}

async fn fill(scene: &Scene) -> Result<(), Error> {
    let mut upload = scene.workspace.upload(&at("small/file")).await?;
    let mut first = None;
    for _ in 0..100 {
        if let Err(err) = upload.write(Bytes::from(vec![1; 100_000])).await {
            first.get_or_insert(err);
        }
    }
    assert!(upload.commit().await.is_err(), "what is not whole cannot be committed");
    first.map_or(Ok(()), Err)
}

#[tokio::test]
async fn an_upload_nobody_waits_for_is_either_done_or_gone() {
    let scene = Scene::new();
    for _ in 0..20 {
        let mut upload = scene.workspace.upload(&at("file")).await.unwrap();
        upload.write(Bytes::from(vec![7; 1_500_000])).await.unwrap();
        let _ = tokio::time::timeout(Duration::from_micros(300), upload.commit()).await;
    }
    // Commits that were under way end by themselves.
    let ended = async {
        while fs::read_dir(&scene.root).unwrap().any(|entry| entry.unwrap().file_name() != "file") {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), ended).await.expect("no hidden file is left");
    if scene.root.join("file").exists() {
        assert_eq!(scene.read("file").await.unwrap().len(), 1_500_000);
    }
}
