//! What the server stands on goes away for a while and comes back: the database, the container engine.

use std::{process::Command, time::Duration};

use reqwest::Method;
use system_tests::{Job, PrivateEngine, World, eventually};
use testing::{Report, times};
use tokio::time::{Instant, sleep};

/// Runs of many short calls, all under way.
async fn jobs(world: &World, environment: &str, name: &str, count: usize) -> Vec<Job> {
    let mut jobs = Vec::new();
    for number in 0..count {
        let job = Job::new(world, environment, &format!("{name}-{number}"), 10).await.after("sleep 0.1; ");
        drop(world.try_send(&job.thread, &job.message()).await.expect("the message is accepted"));
        jobs.push(job);
    }
    jobs
}

/// Waits for the jobs' ends and adds up what became of them. Gives how many calls were told as interrupted.
async fn settle(world: &World, jobs: &[Job], report: &mut Report) -> usize {
    let mut told = 0;
    for job in jobs {
        world.settled(&job.thread, Duration::from_secs(60)).await;
        let counted = job.count(world).await;
        report.lost += counted.lost;
        report.doubled += counted.doubled;
        report.stuck += counted.stuck;
        told += counted.told;
    }
    told
}

/// `ATELIER_TEST_OUTAGES` sets how often.
#[tokio::test(flavor = "multi_thread")]
async fn runs_go_on_over_restarts_of_postgres_and_nothing_is_lost_or_done_twice() {
    let world = World::start().await;
    let environment = world.environment(false).await;
    let thread = world.thread(&environment).await;
    world.bash(&thread, "true").await;
    let mut report = Report::new("postgres_restarts");
    for number in 0..times("ATELIER_TEST_OUTAGES", 4) {
        let jobs = jobs(&world, &environment, &format!("outage-{number}"), 4).await;
        sleep(Duration::from_millis(300)).await;
        let processes = world.processes();
        let postmaster = processes.iter().find(|process| process.contains("-D")).expect("a postmaster");
        let pid = postmaster.split(' ').next().expect("a pid");
        // As an operator restarts it (connections are cut), or as a crash does.
        let signal = if number % 2 == 0 { "-INT" } else { "-KILL" };
        assert!(Command::new("kill").args([signal, pid]).status().expect("runs").success());
        let began = Instant::now();
        eventually("the database is back", Duration::from_secs(30), async || {
            let answer = world.call(Method::GET, "/v1/threads", None).await;
            assert!(matches!(answer.status, 200 | 503), "{answer:?}");
            answer.status == 200
        })
        .await;
        report.sample(began.elapsed());
        report.n += 1;
        let told = settle(&world, &jobs, &mut report).await;
        assert_eq!(told, 0, "the server has lived, so it knows what became of every call");
    }
    report.finish();
    world.finish().await;
}

/// `ATELIER_TEST_ENGINES` sets how often. The engine is the test's own: others' containers are on the machine's.
#[tokio::test(flavor = "multi_thread")]
async fn runs_go_on_over_restarts_of_the_container_engine() {
    let Some(mut engine) = PrivateEngine::start().await else {
        println!("only root may start an engine: not tried");
        return;
    };
    let settings = [("SANDBOX__DOCKER_SOCKET", engine.socket()), ("SANDBOX__IMAGE", PrivateEngine::IMAGE)];
    let world = World::with(&settings).await;
    let environment = world.environment(false).await;
    let thread = world.thread(&environment).await;
    assert_eq!(world.bash(&thread, "echo kept > kept; echo made").await, ("made".to_owned(), false));
    let mut report = Report::new("engine_restarts");
    for number in 0..times("ATELIER_TEST_ENGINES", 1) {
        let jobs = jobs(&world, &environment, &format!("engine-{number}"), 3).await;
        sleep(Duration::from_millis(400)).await;
        let began = Instant::now();
        // Without live-restore the containers end with it, in the middle of their calls.
        engine.restart().await;
        report.n += 1;
        for job in &jobs {
            world.settled(&job.thread, Duration::from_secs(60)).await;
            report.stuck += usize::from(world.status(&job.thread).await != "completed");
        }
        report.sample(began.elapsed());
        assert_eq!(world.bash(&thread, "cat kept").await, ("kept".to_owned(), false), "the files are as they were");
    }
    report.finish();
    world.finish().await;
}
