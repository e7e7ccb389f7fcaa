//! kill -9 of the server at random moments, while several runs are under way and messages come in.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};

use rand::RngExt;
use system_tests::{Follower, Job, World};
use testing::{Report, Tries};
use tokio::{task::JoinHandle, time::sleep};

/// How long a started server may take, in general, until what it finds has got on by a turn.
const RESUME_LIMIT: Duration = Duration::from_secs(5);
/// After so long it is not slow but stuck.
const PATIENCE: Duration = Duration::from_secs(40);
/// A claim and the answer to a call that was cut off are no work yet; the next reply is.
const WORK: i64 = 3;
const AT_ONCE: usize = 5;
const CALLS: usize = 8;

/// A job with a client that follows it over every crash.
struct Followed {
    job: Job,
    last: Arc<AtomicI64>,
    is_over: Arc<AtomicBool>,
    following: JoinHandle<Follower>,
    /// What it was worth when somebody last looked.
    seen: i64,
}

impl Followed {
    fn new(world: &World, job: Job) -> Self {
        let (last, is_over) = (Arc::new(AtomicI64::new(0)), Arc::new(AtomicBool::new(false)));
        let mut follower = Follower::new(world.reader(), &job.thread);
        let shown = (last.clone(), is_over.clone());
        let following = tokio::spawn(async move {
            while !follower.is_over {
                // A few at a time, so that progress shows; without a server there is nothing to read now.
                if follower.read(3).await.is_err() {
                    sleep(Duration::from_millis(20)).await;
                }
                shown.0.store(follower.last, Ordering::Relaxed);
            }
            shown.1.store(true, Ordering::Relaxed);
            follower
        });
        Self { job, last, is_over, following, seen: 0 }
    }

    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    fn has_moved(&self) -> bool {
        self.is_over() || self.last.load(Ordering::Relaxed) >= self.seen + WORK
    }
}

/// `ATELIER_TEST_KILLS` sets how many times.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_killed_at_random_moments_loses_and_repeats_nothing() {
    let mut world = World::start().await;
    let environment = world.environment(false).await;
    // The first container takes longer than a run.
    let thread = world.thread(&environment).await;
    world.bash(&thread, "true").await;
    let mut report = Report::new("kill_minus_nine");
    let (mut jobs, mut unanswered): (Vec<Followed>, Vec<Job>) = (Vec::new(), Vec::new());
    let (mut made, mut tries) = (0, Tries::new("ATELIER_TEST_KILLS", 50));
    while tries.once_more() {
        while jobs.iter().filter(|job| !job.is_over()).count() < AT_ONCE {
            let job = Job::new(&world, &environment, &format!("lines-{made}"), CALLS).await;
            made += 1;
            drop(world.try_send(&job.thread, &job.message()).await.expect("the message is accepted"));
            jobs.push(Followed::new(&world, job));
        }
        // One more comes in while the server dies: nobody knows whether it was accepted.
        let late = Job::new(&world, &environment, &format!("lines-{made}"), CALLS).await;
        made += 1;
        let moment = Duration::from_millis(rand::rng().random_range(0..350));
        sleep(moment).await;
        let content = late.message();
        let patience = Duration::from_millis(rand::rng().random_range(0..12));
        let sent = tokio::time::timeout(patience, world.try_send(&late.thread, &content)).await;
        world.kill();
        match sent {
            Ok(stream) => {
                drop(stream.expect("the server lived"));
                jobs.push(Followed::new(&world, late));
            }
            Err(_) => unanswered.push(late),
        }
        sleep(Duration::from_millis(20)).await;
        jobs.iter_mut().for_each(|job| job.seen = job.last.load(Ordering::Relaxed));
        world.start_again().await;
        let ready = Instant::now();
        while !jobs.iter().all(Followed::has_moved) && ready.elapsed() < PATIENCE {
            sleep(Duration::from_millis(5)).await;
        }
        report.stuck += jobs.iter().filter(|job| !job.has_moved()).count();
        report.sample(ready.elapsed());
        report.n += 1;
        assert_eq!(report.stuck, 0, "after kill {} (at {moment:?}) a run does not go on", report.n);
    }

    for job in unanswered {
        // A thread that never got a message is as it was made.
        if world.status(&job.thread).await != "active" {
            jobs.push(Followed::new(&world, job));
        }
    }
    let (all, mut told) = (jobs.len(), 0);
    for followed in jobs {
        let follower = tokio::time::timeout(Duration::from_secs(60), followed.following).await;
        let follower = follower.expect("every run ends").expect("its stream can be followed");
        let counted = followed.job.count(&world).await;
        let log: String = world.log_of(&followed.job.thread).await.iter().map(|frame| frame.raw.as_str()).collect();
        assert_eq!(follower.kept, log, "who follows over the crashes reads the log and nothing else");
        report.lost += counted.lost;
        report.doubled += counted.doubled;
        report.stuck += counted.stuck;
        told += counted.told;
    }
    println!("{all} runs of {CALLS} calls, {told} of them told as interrupted");
    assert!(report.percentile_ms(50) <= RESUME_LIMIT.as_millis() as u64, "it took {} ms", report.percentile_ms(50));
    report.finish();
    world.finish().await;
}
