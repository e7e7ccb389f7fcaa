//! Cancelling, many times and at random moments, commands that do what they can to live on.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use rand::RngExt;
use scripted_claude::Reply;
use serde_json::json;
use system_tests::{World, eventually, processes_holding};
use testing::{Report, Tries};
use tokio::{sync::Mutex, time::sleep};

const LANES: usize = 4;
/// What is promised. On a machine that does something else at the same time a kill may take longer; that it does not in
/// general, the percentiles show.
const LIMIT: Duration = Duration::from_secs(2);

/// A way to outlive a naive kill; all that it starts has `mark` in its command line.
fn command(kind: u64, mark: u64) -> String {
    let sleep = format!("sleep {mark}");
    match kind {
        0 => format!("nohup {sleep} >/dev/null 2>&1 & {sleep}"),
        1 => format!("setsid -f {sleep} </dev/null >/dev/null 2>&1; setsid --wait {sleep}"),
        2 => format!("( ( {sleep} & ) & ); ( ( setsid {sleep} & ) & ); {sleep}"),
        3 => format!("trap '' TERM INT HUP QUIT; while :; do {sleep}; done"),
        4 => format!("for n in 1 2 3 4; do (trap '' TERM; while :; do {sleep} & wait; done) & done; wait"),
        _ => format!(
            "python3 -c 'import os,time\nif os.fork()==0:\n os.setsid()\n if os.fork()==0:\n  time.sleep({mark})\n os._exit(0)\ntime.sleep({mark})'"
        ),
    }
}

/// `ATELIER_TEST_CANCELS` sets how many.
#[tokio::test(flavor = "multi_thread")]
async fn of_cancelled_runs_no_process_is_left_within_two_seconds() {
    let world = World::start().await;
    let environment = world.environment(false).await;
    let report = Mutex::new(Report::new("cancels"));
    let tries = Mutex::new(Tries::new("ATELIER_TEST_CANCELS", 200));
    let next = AtomicU64::new(0);
    let first_mark: u64 = rand::rng().random_range(100_000_000..900_000_000);
    let mut threads = Vec::new();
    for _ in 0..LANES {
        threads.push(world.thread(&environment).await);
    }
    world.bash(&threads[0], "true").await;
    let lane = async |thread: String| {
        while tries.lock().await.once_more() {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let mark = first_mark + number;
            let replies =
                [Reply::tool("Bash", json!({ "command": command(number % 6, mark) })), Reply::text("went on")];
            let word = mark.to_string();
            let mut stream = world.send(&thread, &replies).await;
            eventually("the command runs", Duration::from_secs(30), async || !processes_holding(&word).is_empty())
                .await;
            // Also while it still starts its processes.
            sleep(Duration::from_millis(rand::rng().random_range(0..60))).await;
            let asked_at = Instant::now();
            let cancelled = world.post(&format!("/v1/threads/{thread}/cancel"), json!({})).await;
            assert_eq!(cancelled["cancelled"], true, "{cancelled}");
            while !processes_holding(&word).is_empty() && asked_at.elapsed() < LIMIT * 5 {
                sleep(Duration::from_millis(5)).await;
            }
            let took = asked_at.elapsed();
            let frames = stream.rest().await;
            let last = frames.last().expect("the stream ends");
            assert_eq!((last.event.as_str(), &last.data["run"]["status"]), ("stream.completed", &json!("cancelled")));
            // Nothing comes back.
            let left = processes_holding(&word);
            let mut report = report.lock().await;
            report.n += 1;
            report.sample(took);
            report.stuck += usize::from(!left.is_empty());
            assert!(left.is_empty(), "{} left these: {left:#?}", command(number % 6, mark));
        }
    };
    futures::future::join_all(threads.iter().cloned().map(lane)).await;
    for thread in &threads {
        // Each goes on.
        assert_eq!(world.bash(thread, "echo here").await, ("here".to_owned(), false));
    }
    let report = report.into_inner();
    assert!(report.percentile_ms(95) <= LIMIT.as_millis() as u64, "it took {} ms", report.percentile_ms(95));
    report.finish();
    world.finish().await;
}
