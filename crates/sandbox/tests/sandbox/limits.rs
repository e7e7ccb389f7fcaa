//! Limits hold, and the daemon outlives whoever runs into them.

use std::time::{Duration, Instant};

use sandbox::{Exit, Limits, Spec};

use crate::world::{World, bash, finish, run};

#[tokio::test]
async fn a_memory_bomb_is_ended_as_such_and_the_sandbox_goes_on() {
    let world = World::new().await;
    let limits = Some(Limits { memory_bytes: 128 * 1024 * 1024, cpus: 1.0, pids: 64, ..Limits::default() });
    let sandbox = world.sandboxes.open(&Spec { limits, ..world.spec() }).await.expect("opens");
    let mut sleeper = sandbox.spawn(bash("sleep 2; echo unharmed")).await.expect("starts");
    let (_, exit) = run(&sandbox, "exec python3 -c 'x = bytearray(10**9)'").await;
    assert_eq!(exit, Exit::OutOfMemory);
    let (_, exit) = run(&sandbox, "python3 -c 'x = bytearray(10**9)'; exit $?").await;
    assert_eq!(exit, Exit::OutOfMemory);
    assert_eq!(run(&sandbox, "echo alive").await, ("alive\n".to_owned(), Exit::Code(0)));
    assert_eq!(finish(&mut sleeper).await.0, "unharmed\n");
}

#[tokio::test]
async fn a_fork_bomb_stays_in_its_box_and_is_killed_whole() {
    let world = World::new().await;
    let limits = Some(Limits { memory_bytes: 512 * 1024 * 1024, cpus: 1.0, pids: 200, ..Limits::default() });
    let sandbox = world.sandboxes.open(&Spec { limits, ..world.spec() }).await.expect("opens");
    let bomb = sandbox.spawn(bash("b() { b | b & }; b; sleep 1000")).await.expect("starts");
    // Until the box is full: nothing can be started any more.
    let full = Instant::now();
    loop {
        let processes = world.sandboxes.status(&world.environment).await.expect("known").processes;
        if processes.is_some_and(|count| count >= 195) {
            break;
        }
        assert!(full.elapsed() < Duration::from_secs(20), "{processes:?}");
    }
    let started = Instant::now();
    assert_eq!(bomb.kill().await.expect("killed"), Exit::Killed);
    println!("fork bomb killed in {:?}", started.elapsed());
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    assert_eq!(run(&sandbox, "pgrep -c bash").await.0, "0\n");
}

#[tokio::test]
async fn more_cores_than_there_are_is_all_there_are() {
    let world = World::new().await;
    let limits = Some(Limits { cpus: 4096.0, ..Limits::default() });
    let sandbox = world.sandboxes.open(&Spec { limits, ..world.spec() }).await.expect("opens");
    assert_eq!(run(&sandbox, "echo fine").await.0, "fine\n");
}

#[tokio::test]
async fn dangerous_system_calls_and_rights_are_refused() {
    let world = World::new().await;
    let sandbox = world.open().await;
    // io_uring_setup, keyctl, bpf, unshare, userfaultfd, perf_event_open: by number, the same on both architectures from 425 on.
    let script = r#"python3 - <<'E'
import ctypes, errno, platform, socket
libc = ctypes.CDLL(None, use_errno=True)
x86 = platform.machine() == 'x86_64'
calls = {'io_uring_setup': 425, 'keyctl': 250 if x86 else 219, 'bpf': 321 if x86 else 280,
         'unshare': 272 if x86 else 97, 'userfaultfd': 323 if x86 else 282, 'perf_event_open': 298 if x86 else 241,
         'mount': 165 if x86 else 40, 'open_tree': 428}
for name, number in calls.items():
    result = libc.syscall(number, 0, 0, 0, 0, 0)
    print(name, result, errno.errorcode[ctypes.get_errno()])
for family in (40, 38, 17):
    try: print(family, socket.socket(family, socket.SOCK_STREAM))
    except OSError as err: print(family, err.errno)
E"#;
    let (output, _) = run(&sandbox, script).await;
    assert_eq!(output.matches(" -1 EPERM\n").count(), 8, "{output}");
    assert!(output.ends_with("40 1\n38 1\n17 1\n"), "{output}");
    let (status, _) =
        run(&sandbox, "grep -E 'NoNewPrivs|Seccomp:|CapBnd' /proc/self/status; ulimit -c; ulimit -n").await;
    assert!(status.contains("NoNewPrivs:\t1") && status.contains("Seccomp:\t2"), "{status}");
    // CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID, SETUID.
    let capabilities =
        if world.options.user.starts_with("0:") { "CapBnd:\t00000000000000fb" } else { "CapBnd:\t0000000000000000" };
    assert!(status.contains(capabilities), "{status}");
    let (_, limits) = status.split_once("\n0\n").expect("no core files");
    assert!((1000..=65536).contains(&limits.trim().parse::<u32>().expect("a number")), "{status}");
}

#[tokio::test]
async fn ordinary_programs_are_not_hindered() {
    let world = World::new().await;
    let sandbox = world.open().await;
    let (output, exit) = run(
        &sandbox,
        "set -e; python3 -c 'import threading, subprocess, multiprocessing as m
p = m.Process(target=print, args=(1,)); p.start(); p.join()
t = threading.Thread(target=lambda: subprocess.run([\"true\"], check=True)); t.start(); t.join()'
         node -e 'require(\"fs\").readFileSync(\"/etc/passwd\"); console.log(2)'
         git init -q repo && cd repo && git -c user.name=a -c user.email=a@b commit -q --allow-empty -m x
         echo 'int main(void) { return 0; }' > a.c && gcc a.c && ./a.out && echo 3",
    )
    .await;
    assert_eq!((output.as_str(), exit), ("1\n2\n3\n", Exit::Code(0)));
}
