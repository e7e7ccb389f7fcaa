//! Output of any size and kind: bounded here, whole in a file there.

use std::time::Instant;

use serde_json::json;

use crate::world::World;

/// The most memory this process may take on top, in KiB.
const MAX_GROWTH: u64 = 64 * 1024;

#[tokio::test]
async fn a_hundred_megabytes_take_little_memory() {
    let world = World::new().await;
    for (name, command) in [
        ("zeros as text", "head -c 104857600 /dev/zero | tr '\\0' x"),
        ("lines", "yes 'a line of output, not too long' | head -c 104857600"),
        ("random bytes", "head -c 104857600 /dev/urandom"),
        ("escapes", "yes $'\\e[31mred\\e[0m\\r' | head -c 104857600"),
    ] {
        world.shown.lock().unwrap().clear();
        world.bash("true").await;
        let (before, started) = (peak_after_reset(), Instant::now());
        let text = world.bash(command).await;
        let grown = peak().saturating_sub(before);
        println!("{name}: 100 MiB in {:?}, {grown} KiB more", started.elapsed());
        assert!(grown < MAX_GROWTH, "{name}: {grown} KiB");
        assert!(text.chars().count() < 12_000, "{name}: {}", text.chars().count());
        assert!(text.contains("Its first 64.0 MiB of 100.0 MiB are in /tmp/atelier-output/"), "{name}: {text}");
        let pieces = world.shown.lock().unwrap();
        assert!(!pieces.is_empty() || name == "escapes", "{name}");
        assert!(pieces.len() <= 200 && pieces.iter().all(|piece| piece.len() <= 8192), "{name}: {}", pieces.len());
    }
}

#[tokio::test]
async fn a_million_lines_are_given_as_head_and_tail_and_searchable_as_a_whole() {
    let world = World::new().await;
    let text = world.bash("seq 1000000").await;
    assert!(text.starts_with("1\n2\n3\n"), "{}", &text[..20]);
    assert!(text.ends_with("\n999999\n1000000"));
    assert!(text.contains("characters left out here") && text.contains("(1000000 lines)"));
    let path = file_named(&text);
    let read = world.said("Read", json!({"file_path": path, "offset": 500_000, "limit": 2})).await;
    assert!(read.starts_with("500000\t500000\n500001\t500001\n[The file goes on."), "{read}");
    let found = world.said("Grep", json!({"pattern": "^777777$", "path": path, "output_mode": "content"})).await;
    assert_eq!(found, "777777:777777");
    assert_eq!(world.bash(&format!("seq 1000000 | cmp - {path} && echo same")).await, "same");
}

#[tokio::test]
async fn output_up_to_30000_characters_is_given_whole() {
    let world = World::new().await;
    assert_eq!(world.bash("head -c 30000 /dev/zero | tr '\\0' x").await, "x".repeat(30_000));
    let text = world.bash("head -c 30001 /dev/zero | tr '\\0' x").await;
    assert!(
        text.contains("[20001 characters left out here, more than 30000 came (0 lines). The whole output (29.3 KiB)"),
        "{text}"
    );
    let text = world.bash("seq 20000; exit 9").await;
    assert!(text.starts_with("Exit code 9\n1\n2\n") && text.ends_with("\n20000"));
    assert_eq!(world.bash(&format!("wc -l < {}", file_named(&text))).await, "20000");
}

#[tokio::test]
async fn a_full_disk_loses_the_file_and_not_the_call() {
    let world = World::new().await;
    let text = world.bash("rm -rf /tmp/atelier-output; touch /tmp/atelier-output; seq 20000").await;
    assert!(text.contains("The whole output could not be kept: mkdir:"), "{text}");
    assert!(text.starts_with("1\n2\n") && text.ends_with("\n20000"));
}

#[tokio::test]
async fn output_is_shown_while_it_comes() {
    let world = World::new().await;
    world.bash("for i in 1 2 3; do echo line $i; sleep 0.15; done").await;
    let shown = world.shown.lock().unwrap();
    assert_eq!(shown.concat(), "line 1\nline 2\nline 3\n");
    assert!(shown.len() >= 2, "{shown:?}");
}

fn file_named(text: &str) -> &str {
    let start = text.find("/tmp/atelier-output/").expect("the file is named");
    &text[start..start + text[start..].find(".txt").expect("its end") + 4]
}

/// Makes the kernel count this process's peak anew, and gives its memory now, in KiB.
fn peak_after_reset() -> u64 {
    std::fs::write("/proc/self/clear_refs", "5").expect("the counter is ours");
    peak()
}

fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("readable");
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("there");
    line.split_ascii_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("a number")
}
