//! Disk, memory, processes, processor, output: what uses up one of them is told so, and nobody else notices.

use std::time::{Duration, Instant};

use reqwest::Method;
use scripted_claude::Reply;
use serde_json::json;
use system_tests::{Job, World, assert_complete, eventually};
use testing::{Report, times};
use tokio::time::sleep;

const MB: u64 = 1_000_000;

/// `ATELIER_TEST_FULL_DISKS` sets how often. Database, files of environments and their history are on the disk.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_told_and_loses_nothing_and_the_work_goes_on_when_there_is_room() {
    let Some(world) = World::on_small_disk(400, &[("SANDBOX__DISK_RESERVE", "1")]).await else {
        println!("only root may mount a disk: not tried");
        return;
    };
    let environment = world.environment(false).await;
    let thread = world.thread(&environment).await;
    assert_eq!(world.bash(&thread, "echo kept > kept; echo made").await, ("made".to_owned(), false));
    let mut report = Report::new("full_disks");
    for number in 0..times("ATELIER_TEST_FULL_DISKS", 2) {
        let mut jobs = Vec::new();
        for name in ["a", "b"] {
            let name = format!("job-{number}-{name}");
            let job = Job::new(&world, &environment, &name, 10).await.after("sleep 0.1; ");
            drop(world.try_send(&job.thread, &job.message()).await.expect("the message is accepted"));
            // What it appends from now on needs no more room.
            eventually("the job has begun", Duration::from_secs(30), async || {
                world.file(&environment, &name).await.is_some_and(|written| !written.is_empty())
            })
            .await;
            jobs.push(job);
        }
        let filler = world.fill_disk();
        eventually("a file that has no room is refused", Duration::from_secs(20), async || {
            let answer = world.upload(&environment, "kept", &"x".repeat(100_000)).await;
            assert!(matches!(answer.status, 200 | 503 | 507), "{answer:?}");
            answer.status == 507 && answer.json()["code"] == "disk_full"
        })
        .await;
        // Whether the database needs room for a row just now is its own affair.
        let until = Instant::now() + Duration::from_secs(3);
        while Instant::now() < until {
            let answer = world.call(Method::POST, "/v1/threads", Some(json!({ "environmentId": environment }))).await;
            assert!(matches!(answer.status, 201 | 503 | 507), "{answer:?}");
            assert!(matches!(world.call(Method::GET, "/health", None).await.status, 200 | 503));
            sleep(Duration::from_millis(50)).await;
        }
        drop(filler);
        let began = Instant::now();
        eventually("there is room again", Duration::from_secs(60), async || {
            world.upload(&environment, &format!("after-{number}"), &"x".repeat(100_000)).await.status < 300
                && world.call(Method::GET, "/v1/threads", None).await.status == 200
        })
        .await;
        report.sample(began.elapsed());
        report.n += 1;
        for job in &jobs {
            world.settled(&job.thread, Duration::from_secs(60)).await;
            let counted = job.count(&world).await;
            report.lost += counted.lost;
            report.doubled += counted.doubled;
            report.stuck += counted.stuck;
        }
        // As it was before, or as a whole: never a part of what was to be written.
        let kept = world.file(&environment, "kept").await.expect("it is there");
        report.lost += usize::from(kept != "kept\n" && kept.len() != 100_000);
        assert_eq!(world.upload(&environment, "kept", "kept\n").await.status / 100, 2);
    }
    assert_eq!(world.bash(&thread, "ls -A | grep -c upload").await.0.lines().last(), Some("0"), "nothing half is left");
    report.finish();
    world.finish().await;
}

/// What a command does to use up everything, within how many seconds, and the words that the model is told.
const BOMBS: [(&str, &str, u64, &str); 5] = [
    ("memory", "tail /dev/zero", 60, "ran out of memory"),
    ("processes", "b() { b | b & }; b; sleep 100", 4, "timed out"),
    ("processor", "for n in $(seq 16); do (while :; do :; done) & done; wait", 4, "timed out"),
    ("a file of 100 GB", "truncate -s 100G sparse; stat -c %s sparse; rm sparse", 10, "107374182400"),
    ("many files", "mkdir many && cd many && seq FILES | xargs touch && ls | wc -l; rm -r ../many", 600, "FILES"),
];

/// `ATELIER_TEST_FILES` sets how many files, `ATELIER_TEST_API_P99_MS` how long the API may take beside all that.
#[tokio::test(flavor = "multi_thread")]
async fn a_computer_that_uses_up_what_it_has_is_ended_there_and_neither_its_neighbour_nor_the_api_notice() {
    let world = World::start().await;
    let made = world.post("/v1/environments", json!({ "name": "bombs", "computeProfile": "lite" })).await;
    let thread = world.thread(made["environment"]["id"].as_str().expect("an id")).await;
    world.bash(&thread, "true").await;
    let neighbour = world.environment(false).await;
    let job = Job::new(&world, &neighbour, "job", 40).await.after("sleep 0.1; ");
    drop(world.try_send(&job.thread, &job.message()).await.expect("the message is accepted"));
    let mut report = Report::new("bombs");
    let files = times("ATELIER_TEST_FILES", 20_000).to_string();
    for (name, command, seconds, words) in BOMBS {
        let (command, words) = (command.replace("FILES", &files), words.replace("FILES", &files));
        let call = Reply::tool("Bash", json!({ "command": command, "timeout": 1_000 * seconds }));
        let mut stream = world.send(&thread, &[call, Reply::text("It is over.")]).await;
        let over = stream.rest();
        tokio::pin!(over);
        let frames = loop {
            tokio::select! {
                frames = &mut over => break frames,
                () = sleep(Duration::from_millis(20)) => {
                    let began = Instant::now();
                    world.get("/v1/threads?limit=1").await;
                    report.sample(began.elapsed());
                }
            }
        };
        assert_eq!(frames.last().map(|frame| &frame.data["run"]["status"]), Some(&json!("completed")), "{name}");
        let requests = world.claude.requests();
        let asked = requests.iter().rev().filter_map(|request| request.asked.as_ref());
        let is_told = asked.flat_map(|asked| asked.last_results()).any(|result| result.text.contains(&words));
        assert!(is_told, "{name}: the model is told {words:?}: {frames:#?}");
        assert_eq!(world.bash(&thread, "echo here").await, ("here".to_owned(), false), "{name}");
        report.n += 1;
    }
    world.settled(&job.thread, Duration::from_secs(60)).await;
    let counted = job.count(&world).await;
    (report.lost, report.doubled, report.stuck) = (counted.lost, counted.doubled, counted.stuck);
    let (p99, bound) = (report.percentile_ms(99), times("ATELIER_TEST_API_P99_MS", 2_000) as u64);
    assert!(p99 <= bound, "the API took {p99} ms (99 of 100 within), {bound} ms are allowed");
    report.finish();
    world.finish().await;
}

/// Output that has broken others: without a line's end, in a million lines, no text at all, made to upset terminals.
const FLOODS: [(&str, &str); 5] = [
    ("100 MB in one line", "head -c 100000000 /dev/zero | tr '\\0' x"),
    ("a million lines", "seq 1000000"),
    ("binary", "head -c 50000000 /dev/urandom"),
    ("no UTF-8", "head -c 20000000 /dev/zero | tr '\\0' '\\377'"),
    ("terminal sequences", "yes $'\\e[2J\\e[31m\\e]0;title\\a\\e[6n' | head -c 20000000"),
];

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_output_is_cut_kept_in_a_file_and_takes_no_memory() {
    let world = World::start().await;
    let thread = world.thread(&world.environment(false).await).await;
    world.bash(&thread, "seq 100000").await;
    let before = world.memory().now;
    let mut report = Report::new("floods");
    let mut events = world.log_of(&thread).await.len();
    for (name, command) in FLOODS {
        let began = Instant::now();
        let (text, is_error) = world.bash(&thread, command).await;
        report.sample(began.elapsed());
        assert!(!is_error, "{name}: {}", &text[..text.len().min(2000)]);
        assert!(text.len() < 200_000, "{name}: {} bytes for the model", text.len());
        assert!(text.contains("/tmp/atelier-output/"), "{name}");
        let log = world.log_of(&thread).await;
        assert_complete(&log);
        assert!(log.len() - events <= 200, "{name}: {} events", log.len() - events);
        events = log.len();
        report.n += 1;
    }
    let grown = world.memory().peak.saturating_sub(before);
    assert!(grown <= 64 * MB, "the server has grown by {} MB", grown / MB);
    report.finish();
    world.finish().await;
}

/// `ATELIER_TEST_AT_ONCE` sets how many runs.
#[tokio::test(flavor = "multi_thread")]
async fn runs_at_once_take_about_a_megabyte_each_and_all_of_them_end() {
    let world = World::start().await;
    let environment = world.environment(false).await;
    let thread = world.thread(&environment).await;
    world.bash(&thread, "true").await;
    let mut report = Report::new("at_once");
    report.n = times("ATELIER_TEST_AT_ONCE", 100);
    let before = world.memory().now;
    let mut jobs = Vec::new();
    for number in 0..report.n {
        jobs.push(Job::new(&world, &environment, &format!("job-{number}"), 2).await);
    }
    let began = Instant::now();
    let messages =
        jobs.iter().map(async |job| drop(world.try_send(&job.thread, &job.message()).await.expect("accepted")));
    futures::future::join_all(messages).await;
    for job in &jobs {
        world.settled(&job.thread, Duration::from_secs(120)).await;
        report.sample(began.elapsed());
    }
    let peak = world.memory().peak;
    for job in &jobs {
        let counted = job.count(&world).await;
        report.lost += counted.lost;
        report.doubled += counted.doubled;
        report.stuck += counted.stuck;
    }
    println!("{} runs at once: {} MB before, {} MB at most", report.n, before / MB, peak / MB);
    assert!(peak <= 512 * MB, "{} MB", peak / MB);
    report.finish();
    world.finish().await;
}
