//! Files as the container sees them.

use sandbox::{Error, Exit};

use crate::world::{World, run};

#[tokio::test]
async fn files_are_written_whole_and_read_in_parts() {
    let world = World::new().await;
    let sandbox = world.open().await;
    let content: Vec<u8> = (0..300_000u32).map(|n| n as u8).collect();
    assert!(sandbox.write_file("/workspace/a/b/c.bin", &content).await.expect("writes").created);
    let file = sandbox.read_file("/workspace/a/b/c.bin", 0, u64::MAX).await.expect("reads");
    assert_eq!((file.bytes, file.size), (content.clone().into(), 300_000));
    let part = sandbox.read_file("/workspace/a/b/c.bin", 70_000, 100_000).await.expect("reads");
    assert_eq!(part.bytes, content[70_000..170_000]);
    assert_eq!(sandbox.read_file("/workspace/a/b/c.bin", 300_000, 10).await.expect("reads").bytes, "");
    // It is the workspace on the host.
    let path = domain::WorkspacePath::parse("a/b/c.bin").expect("valid");
    assert_eq!(world.sandboxes.workspace(&world.environment).expect("opens").stats().await.expect("counts").files, 1);
    world.sandboxes.workspace(&world.environment).expect("opens").remove(&path).await.expect("removes");
    assert!(matches!(sandbox.read_file("/workspace/a/b/c.bin", 0, 1).await, Err(Error::NotFound(_))));
    assert!(sandbox.write_file("/workspace/empty", b"").await.expect("writes").created);
    assert_eq!(run(&sandbox, "ls -A /workspace /workspace/a/b").await.0, "/workspace:\na\nempty\n\n/workspace/a/b:\n");
}

#[tokio::test]
async fn a_replaced_file_keeps_its_mode_and_a_link_stays_a_link() {
    let world = World::new().await;
    let sandbox = world.open().await;
    run(&sandbox, "echo old > run.sh; chmod 754 run.sh; ln -s run.sh link").await;
    assert!(!sandbox.write_file("/workspace/link", b"echo new\n").await.expect("writes").created);
    let (output, _) = run(&sandbox, "stat -c %a run.sh; ./run.sh; readlink link; ls -A").await;
    assert_eq!(output, "754\nnew\nrun.sh\nlink\nrun.sh\n");
    // Mounted into every container by the engine: it cannot be replaced, only overwritten.
    sandbox.write_file("/etc/hosts", b"127.0.0.1 localhost\n").await.expect("writes");
    assert_eq!(run(&sandbox, "cat /etc/hosts; ls -A /etc | grep atelier").await.0, "127.0.0.1 localhost\n");
}

#[tokio::test]
async fn what_is_no_file_is_told_apart() {
    let world = World::new().await;
    let sandbox = world.open().await;
    run(&sandbox, "mkfifo pipe; echo x > file; mkdir dir").await;
    assert!(
        matches!(sandbox.read_file("/workspace/dir", 0, 1).await, Err(Error::IsDirectory(path)) if path == "/workspace/dir")
    );
    assert!(matches!(sandbox.read_file("/workspace/no", 0, 1).await, Err(Error::NotFound(_))));
    assert!(matches!(sandbox.read_file("/workspace/file/x", 0, 1).await, Err(Error::NotADirectory(_))));
    assert!(matches!(sandbox.read_file("/workspace/pipe", 0, 1).await, Err(Error::Other { .. })));
    assert!(matches!(sandbox.write_file("/workspace/dir", b"").await, Err(Error::IsDirectory(_))));
    assert!(matches!(sandbox.write_file("/workspace/file/x", b"").await, Err(Error::NotADirectory(_))));
    assert!(matches!(sandbox.write_file("/workspace/pipe", &[0; 200_000]).await, Err(Error::Other { .. })));
    assert!(matches!(
        sandbox.write_file("/.atelier/guestd", b"").await,
        Err(Error::PermissionDenied(_) | Error::Other { .. })
    ));
    assert_eq!(run(&sandbox, "test -x /.atelier/guestd && cat file").await, ("x\n".to_owned(), Exit::Code(0)));
}
