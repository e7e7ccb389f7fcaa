//! Many seeded scripts of what goes wrong with a model: each run ends as it must, nothing is counted or done twice.
//!
//! What must come out is worked out from the script alone, by the rules of the retries: failures before the first finished
//! block are repeated by the client, later ones by the run, both a few times only, and some failures at once.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use domain::{
    RunId, ThreadId,
    event::{Event, Item, LogLevel},
    run::{Outcome, RunOptions},
};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use scripted_claude::{Asked, Block, Fault, Reply, ReplyUsage, Script};
use serde_json::json;
use store::runs::NewRun;
use testing::{Report, times};
use tokio::time::Instant;

use crate::world::World;

/// Calls before the last reply.
const CALLS: usize = 2;
const MAX_RETRIES: u32 = 3;
/// How often a run asks again after a reply that broke off when something of it was finished.
const MAX_BROKEN: u32 = 2;
const SILENCE_LIMIT: Duration = Duration::from_secs(5);

/// What goes wrong with one request.
#[derive(Debug, Clone)]
enum Trouble {
    /// Before a block is finished, or before there is a stream at all.
    Early(Fault),
    /// After one.
    Late(Fault),
    /// Odd, and no reason to ask again.
    Harmless(Fault),
    /// Not to be tried again.
    Fatal(Fault, &'static str),
}

/// What goes wrong in one run: for each of its replies the troubles of the requests for it, in turn.
#[derive(Debug, Clone)]
struct Plan {
    troubles: Vec<Vec<Trouble>>,
    /// The call whose input is no JSON, if any.
    garbled_call: Option<usize>,
}

/// What must come of a plan.
#[derive(Debug, Default, PartialEq, Eq)]
struct Expected {
    reason: String,
    replies: usize,
    requests: usize,
    /// How often it was said that the model is asked again.
    warnings: usize,
    input_tokens: i64,
    output_tokens: i64,
}

fn trouble(random: &mut StdRng) -> Trouble {
    let fault = Fault::default;
    // The first block of every reply is finished with the fifth frame.
    let frames = |random: &mut StdRng, is_early: bool| {
        if is_early { random.random_range(0..5) } else { random.random_range(5..8) }
    };
    let status = |status| Fault { status: Some(status), ..Fault::default() };
    match random.random_range(0..100) {
        0..18 => {
            let headers = [("retry-after-ms".to_owned(), "5".to_owned())].into();
            Trouble::Early(Fault { headers, ..status(429) })
        }
        18..32 => Trouble::Early(status(529)),
        32..44 => Trouble::Early(status([500, 502, 503, 504][random.random_range(0..4)])),
        44..78 => {
            let is_early = random.random();
            let after = frames(random, is_early);
            let fault = match random.random_range(0..5) {
                0 => Fault { truncate_after: Some(after), ..fault() },
                1 => Fault { end_after: Some(after), ..fault() },
                2 => Fault { error_after: Some(after), ..fault() },
                3 => Fault { error_after: Some(after), error_type: Some("api_error".into()), ..fault() },
                // Before the first frame it would be an event of a message that has not begun.
                _ => Fault { invalid_json_after: Some(after.max(2)), ..fault() },
            };
            if is_early { Trouble::Early(fault) } else { Trouble::Late(fault) }
        }
        78..80 => {
            let is_early = random.random();
            let fault = Fault { silence_after: Some(frames(random, is_early)), ..fault() };
            if is_early { Trouble::Early(fault) } else { Trouble::Late(fault) }
        }
        80..86 => Trouble::Harmless(Fault { duplicate_frames: true, ..fault() }),
        86..92 => Trouble::Harmless(Fault { unknown_frames: true, ..fault() }),
        92..95 => Trouble::Harmless(Fault { delta_delay_ms: 3, ..fault() }),
        95..98 => Trouble::Fatal(status([400, 401, 403][random.random_range(0..3)]), "model_error"),
        _ => {
            let error_code = Some("enforced_spend_limit_reached".into());
            Trouble::Fatal(Fault { error_code, ..status(429) }, "spend_limit")
        }
    }
}

impl Plan {
    fn new(random: &mut StdRng) -> Self {
        let troubles = (0..=CALLS)
            .map(|_| {
                let count = [0, 0, 1, 1, 2, 3, 4, 6][random.random_range(0..8)];
                (0..count).map(|_| trouble(random)).collect()
            })
            .collect();
        let garbled_call = random.random_bool(0.2).then(|| random.random_range(0..CALLS));
        Self { troubles, garbled_call }
    }

    fn expected(&self, number: usize) -> Expected {
        let mut expected = Expected::default();
        for (round, troubles) in self.troubles.iter().enumerate() {
            let (mut early, mut broken) = (0, 0);
            for trouble in troubles {
                expected.requests += 1;
                let failed = match trouble {
                    Trouble::Harmless(_) => break,
                    Trouble::Fatal(_, code) => Some(*code),
                    Trouble::Early(_) => {
                        early += 1;
                        (early > MAX_RETRIES).then_some("model_error")
                    }
                    Trouble::Late(_) => {
                        (early, broken) = (0, broken + 1);
                        (broken > MAX_BROKEN).then_some("model_error")
                    }
                };
                if let Some(code) = failed {
                    expected.reason = code.to_owned();
                    return expected;
                }
                expected.warnings += 1;
            }
            if !troubles.iter().any(|trouble| matches!(trouble, Trouble::Harmless(_))) {
                expected.requests += 1;
            }
            let usage = usage(number, round);
            expected.replies += 1;
            expected.input_tokens += usage.input_tokens.unwrap_or_default() as i64;
            expected.output_tokens += usage.output_tokens.unwrap_or_default() as i64;
        }
        expected.reason = "completed".to_owned();
        expected
    }

    /// The `attempt`-th answer to the request for this run's next reply.
    fn reply(&self, number: usize, round: usize, attempt: usize) -> Reply {
        let line = json!({"command": format!("echo {number}-{round} >> /workspace/lines")});
        let input_text = (self.garbled_call == Some(round)).then(|| r#"{"command": "ec"#.to_owned());
        let call = Block::ToolUse { name: "Bash".into(), input: line, id: None, input_text };
        let second = if round < CALLS { call } else { Block::text("That is the end of this script, and of its run.") };
        let reply = Reply { usage: usage(number, round), ..Reply::text("Here.").and(second) };
        match self.troubles[round].get(attempt) {
            Some(
                Trouble::Early(fault) | Trouble::Late(fault) | Trouble::Harmless(fault) | Trouble::Fatal(fault, _),
            ) => reply.with_fault(fault.clone()),
            None => reply,
        }
    }
}

/// Differs for each reply, so that a sum tells which were counted.
fn usage(number: usize, round: usize) -> ReplyUsage {
    ReplyUsage {
        input_tokens: Some(1_000 + number as u64),
        output_tokens: Some(10 + 7_u64.pow(round as u32)),
        cache_read_input_tokens: Some(0),
        cache_creation_input_tokens: Some(0),
        ..ReplyUsage::default()
    }
}

/// Which of all plans a request belongs to.
fn number_of(asked: &Asked) -> usize {
    asked.user_text.strip_prefix("script ").and_then(|number| number.parse().ok()).expect("names its script")
}

/// Gives what each run's replies have used: how many, and their tokens.
async fn turns(pool: &sqlx::PgPool) -> HashMap<String, (i64, i64, i64)> {
    let query =
        "select run_id, count(*), sum(input_tokens)::bigint, sum(output_tokens)::bigint from turns group by run_id";
    let rows: Vec<(String, i64, i64, i64)> = sqlx::query_as(query).fetch_all(pool).await.expect("reads");
    rows.into_iter().map(|(run, replies, input, output)| (run, (replies, input, output))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_goes_wrong_with_the_model_each_run_ends_as_it_must_and_counts_once() {
    let seed = times("ATELIER_TEST_SEED", rand::rng().random_range(0..1_000_000)) as u64;
    let mut random = StdRng::seed_from_u64(seed);
    let plans: Arc<Vec<Plan>> =
        Arc::new((0..times("ATELIER_TEST_SCRIPTS", 500)).map(|_| Plan::new(&mut random)).collect());
    let attempts: Arc<Mutex<HashMap<(usize, usize), usize>>> = Arc::default();
    let world = World::new(|_| Reply::default()).await;
    let (scripts, counts) = (plans.clone(), attempts.clone());
    world.claude.set_script(Script::from_fn("plans", move |asked| {
        let number = number_of(asked);
        let mut counts = counts.lock().expect("nothing panics while holding the lock");
        let attempt = counts.entry((number, asked.round)).or_default();
        *attempt += 1;
        scripts[number].reply(number, asked.round, *attempt - 1)
    }));
    world.warm_up().await;
    let server = world
        .server_asking(
            "node_a",
            |options| options.concurrent_runs = 24,
            |model| {
                model.max_retries = MAX_RETRIES;
                model.silence_limit = SILENCE_LIMIT;
            },
        )
        .await;

    let began = Instant::now();
    let mut runs: Vec<(ThreadId, RunId)> = Vec::new();
    for number in 0..plans.len() {
        let thread = world.new_thread().await;
        let new = NewRun {
            messages: vec![format!("script {number}").as_str().into()],
            options: RunOptions::default(),
            ..NewRun::default()
        };
        let run = world.store().start_run(&world.database.project, &thread, new).await.expect("a run").run_id;
        runs.push((thread, run));
    }
    let pool = world.database.pool().await;
    let mut under_way = i64::MAX;
    let patience = Duration::from_secs(150 + plans.len() as u64 / 5);
    while under_way > 0 && began.elapsed() < patience {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let query = "select count(*) from runs where status not in ('completed', 'failed', 'cancelled')";
        under_way = sqlx::query_scalar(query).fetch_one(&pool).await.expect("counts");
    }

    let mut report = Report::new("model_faults");
    (report.n, report.stuck) = (plans.len(), under_way as usize);
    let mut lines = Vec::new();
    let turns = turns(&pool).await;
    for (number, ((thread, run), plan)) in runs.iter().zip(plans.iter()).enumerate() {
        let expected = plan.expected(number);
        let events = world.store().list_events(thread, 0, None, 1_000).await.expect("reads");
        let (mut found, mut calls, mut started_at) = (Expected::default(), 0, events[0].created_at);
        for event in &events {
            match &event.event {
                Event::RunStarted => started_at = event.created_at,
                Event::Log { level: LogLevel::Warning, .. } => found.warnings += 1,
                Event::ItemCompleted { item: Item::ToolCall(_) } => calls += 1,
                Event::RunFinished { outcome, spent } => {
                    found.reason = outcome.reason().to_owned();
                    (found.input_tokens, found.output_tokens) = (spent.input_tokens, spent.output_tokens);
                    let has_sentence = !matches!(outcome, Outcome::Failed { message, .. } if message.len() < 10);
                    assert!(has_sentence, "{outcome:?}");
                }
                _ => {}
            }
        }
        report.sample((events[events.len() - 1].created_at - started_at).to_std().unwrap_or_default());
        let of_run =
            (0..=CALLS).map(|round| attempts.lock().expect("is free").get(&(number, round)).copied().unwrap_or(0));
        found.requests = of_run.sum();
        // The three places where a reply is counted.
        let (replies, input, output) = turns.get(run.as_str()).copied().unwrap_or_default();
        found.replies = replies as usize;
        let thread =
            world.store().find_thread(&world.database.project, thread).await.expect("reads").expect("is there");
        let sums = [(input, output), (thread.spent.input_tokens, thread.spent.output_tokens)];
        let is_summed = sums == [(found.input_tokens, found.output_tokens); 2];
        if found != expected || !is_summed {
            println!("script {number}: {found:?}, not {expected:?}; {sums:?}; {plan:?}");
            let is_more = found.replies > expected.replies || found.input_tokens > expected.input_tokens || !is_summed;
            if is_more { report.doubled += 1 } else { report.lost += 1 }
        }
        let answered = expected.replies.min(CALLS);
        assert_eq!(calls, answered, "script {number}: each call has one result");
        lines.extend(
            (0..answered).filter(|round| plan.garbled_call != Some(*round)).map(|round| format!("{number}-{round}")),
        );
    }
    let file = world.file("lines").unwrap_or_default();
    let mut written: Vec<_> = file.lines().map(str::to_owned).collect();
    written.sort_unstable();
    lines.sort_unstable();
    assert_eq!(written, lines, "each call was made once (seed {seed})");
    println!(
        "seed {seed}, {} requests, in {:?}",
        attempts.lock().expect("is free").values().sum::<usize>(),
        began.elapsed()
    );
    report.finish();
    pool.close().await;
    server.stop_soft().await;
    // Requests that the script refuses are part of it.
    world.end_after_refusals().await;
}
