//! Many clients that leave at any point and come back: each has read the log, and the server keeps nothing of them.

use std::{fs, sync::Arc, time::Duration};

use futures::StreamExt;
use rand::RngExt;
use system_tests::{Follower, Job, World, eventually};
use testing::{Report, times};
use tokio::time::Instant;

const THREADS: usize = 12;
const AT_ONCE: usize = 100;

fn open_files(world: &World) -> usize {
    fs::read_dir(format!("/proc/{}/fd", world.pid())).expect("the server runs").count()
}

/// `ATELIER_TEST_STREAMS` sets how many clients.
#[tokio::test(flavor = "multi_thread")]
async fn streams_dropped_at_any_point_and_resumed_are_the_log() {
    let streams = times("ATELIER_TEST_STREAMS", 1_000);
    let world = World::start().await;
    let environment = world.environment(false).await;
    let mut jobs = Vec::new();
    for number in 0..THREADS {
        // Long enough that many clients watch it happen; the others read what has happened.
        let job = Job::new(&world, &environment, &format!("lines-{number}"), 12).await.after("sleep 0.2; ");
        drop(world.try_send(&job.thread, &job.message()).await.expect("the message is accepted"));
        jobs.push(job);
    }
    let before = open_files(&world);
    let threads: Arc<Vec<String>> = Arc::new(jobs.iter().map(|job| job.thread.clone()).collect());
    let clients = futures::stream::iter(0..streams).map(|_| {
        let (reader, threads) = (world.reader(), threads.clone());
        async move {
            let began = Instant::now();
            let of = rand::rng().random_range(0..threads.len());
            let mut follower = Follower::new(reader, &threads[of]);
            let mut cuts = 0;
            while !follower.is_over && began.elapsed() < Duration::from_secs(100) {
                let most = rand::rng().random_range(1..20);
                follower.read(most).await.expect("the server answers");
                cuts += usize::from(!follower.is_over);
            }
            (of, follower, cuts, began.elapsed())
        }
    });
    let read: Vec<_> = clients.buffer_unordered(AT_ONCE).collect().await;

    let mut report = Report::new("streams_resumed");
    let mut logs = Vec::new();
    for job in &jobs {
        world.settled(&job.thread, Duration::from_secs(60)).await;
        logs.push(world.log_of(&job.thread).await.iter().map(|frame| frame.raw.as_str()).collect::<String>());
        let counted = job.count(&world).await;
        assert_eq!((counted.lost, counted.doubled, counted.stuck, counted.told), (0, 0, 0, 0));
    }
    let mut all_cuts = 0;
    for (of, follower, cuts, took) in &read {
        report.n += 1;
        report.stuck += usize::from(!follower.is_over);
        if follower.kept != logs[*of] {
            // What was read twice is longer than what is there.
            let is_more = follower.kept.len() > logs[*of].len();
            if is_more { report.doubled += 1 } else { report.lost += 1 }
        }
        report.sample(*took);
        all_cuts += cuts;
    }
    println!("{all_cuts} times left and resumed");
    assert!(all_cuts >= streams, "they were cut: {all_cuts}");
    // The pool of connections to the database may have grown meanwhile, to what it may have at most.
    let allowance = 20;
    eventually("the server has closed what it served", Duration::from_secs(60), async || {
        open_files(&world) <= before + allowance
    })
    .await;
    println!("open files: {before} before, {} after", open_files(&world));
    report.finish();
    world.finish().await;
}
