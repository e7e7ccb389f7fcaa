//! One long run, cut at each of its commits and continued: what comes out is what comes out without a cut.
//!
//! It reads, writes and asks; its window gets full, and its budget does, so that it is continued by a second run. The
//! reference is played once. Then, for each commit, it is played again and its server ends there: either at the commit
//! (all that was to be written by it is done, nothing of it is known) or right after it (nothing more is done).

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use domain::{
    MicroUsd, RunId,
    limits::Limits,
    permission::{Decision, Request},
    run::{Outcome, RunOptions, RunStatus},
};
use rand::{RngExt, SeedableRng, rngs::StdRng, seq::SliceRandom};
use scripted_claude::{Asked, Block, Reply, ReplyUsage, Script};
use serde_json::{Value, json};
use store::permissions::Wish;
use testing::{Report, Tries, times};
use tokio::time::{Instant, sleep};

use crate::{
    cut::Cut,
    world::{Server, World},
};

const STEPS: usize = 22;
/// After this step the window is full.
const FULL_AFTER: usize = 6;
/// Replies that the first run's budget pays for.
const PAID: usize = 14;
const FULL_TOKENS: u64 = 900_000;
const USUAL_TOKENS: u64 = 10_000;
const SUMMARY_TOKENS: u64 = 1_000;
const OUTPUT_TOKENS: u64 = 100;
const DONE: &str = "all steps are done";

/// The steps whose calls somebody must allow, with what is said to it.
fn wish(step: usize) -> Wish {
    let (decision, reason, updated_input) = match step % 5 {
        0 => (Decision::Deny, Some("not this one".to_owned()), None),
        1 => (Decision::Allow, None, Some(format!("edited{step}"))),
        _ => (Decision::Allow, None, None),
    };
    Wish { decision, reason, updated_input }
}

/// What the first replies cost, the summary included.
fn budget() -> MicroUsd {
    let catalogue = claude::Catalogue::builtin();
    let model = catalogue.find(&executor::Options::default().default_model).expect("the default model is known");
    let prices = model.prices.expect("it has a price");
    let cost = |tokens: u64| (tokens * prices.cache_read + OUTPUT_TOKENS * prices.output) / 1_000_000;
    let usual = cost(USUAL_TOKENS) * (PAID as u64 - 1);
    MicroUsd((usual + cost(FULL_TOKENS) + cost(SUMMARY_TOKENS)) as i64)
}

/// One job, in a directory of its own.
struct Job {
    directory: String,
    /// Where the budget was at its end, as the second run's model would see it in the conversation.
    second_run_begins_at: Arc<AtomicUsize>,
}

impl Job {
    fn append(&self, line: &str, mark: &str) -> Value {
        json!({"command": format!("echo {line} >> {}/lines{mark}", self.directory)})
    }

    /// The calls of a step. Their ids say which step they belong to, however the conversation went.
    fn calls(&self, step: usize) -> Vec<Block> {
        let lines = format!("{}/lines", self.directory);
        let calls = match step % 6 {
            0 => vec![("Bash", self.append(&format!("free{step}"), ""))],
            1 => vec![(
                "Write",
                json!({"file_path": format!("{}/file{step}", self.directory), "content": format!("written {step}\n")}),
            )],
            2 => vec![
                ("Read", json!({"file_path": lines})),
                ("Grep", json!({"pattern": "free", "path": lines, "output_mode": "count"})),
            ],
            3 => vec![("Bash", self.append(&format!("asked{step}"), " && true asked"))],
            4 => vec![
                ("Bash", self.append(&format!("free{step}"), "")),
                ("Bash", self.append(&format!("asked{step}"), " && true asked")),
            ],
            _ => vec![("Read", json!({"file_path": lines}))],
        };
        let block = |(n, (name, input)): (usize, (&str, Value))| Block::ToolUse {
            name: name.to_owned(),
            input,
            id: Some(format!("toolu_{step}_{n}")),
            input_text: None,
        };
        calls.into_iter().enumerate().map(block).collect()
    }

    fn reply(&self, asked: &Asked) -> Reply {
        let usage = |tokens| ReplyUsage {
            input_tokens: Some(0),
            output_tokens: Some(OUTPUT_TOKENS),
            cache_read_input_tokens: Some(tokens),
            cache_creation_input_tokens: Some(0),
            ..ReplyUsage::default()
        };
        if asked.tools.is_empty() {
            return Reply { usage: usage(SUMMARY_TOKENS), ..Reply::text("SUMMARY: the first steps are done.") };
        }
        let begun_at = match asked.user_message.as_str() {
            text if text.contains("Go on from where it stood") => self.second_run_begins_at.load(Ordering::Relaxed),
            text if text.contains("SUMMARY:") => FULL_AFTER + 1,
            _ => 0,
        };
        let step = begun_at + asked.round;
        if step >= STEPS {
            return Reply { usage: usage(USUAL_TOKENS), ..Reply::text(DONE) };
        }
        let said = Block::text(format!("Step {step}."));
        let blocks = std::iter::once(said).chain(self.calls(step)).collect();
        Reply { blocks, usage: usage(if step == FULL_AFTER { FULL_TOKENS } else { USUAL_TOKENS }), ..Reply::default() }
    }
}

/// What a job has left.
struct Played {
    /// Role and blocks, without the name of the job's directory; results that came side by side in the order of their calls.
    transcript: Vec<(String, String)>,
    files: BTreeMap<String, String>,
    commits: i64,
    steps_of_first_run: usize,
}

/// Where a job is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Moment {
    At(i64),
    After(i64),
}

struct Stage {
    world: World,
    pool: sqlx::PgPool,
    cut: Cut,
    server: Option<Server>,
    second_run_begins_at: Arc<AtomicUsize>,
    jobs: usize,
}

impl Stage {
    async fn new() -> Self {
        let world = World::new(|_| Reply::default()).await;
        world.warm_up().await;
        let cut = Cut::new(&world.database.private.connect_options()).await;
        let server = Some(world.server("node_a").await);
        let pool = world.database.pool().await;
        Self { world, pool, cut, server, second_run_begins_at: Arc::default(), jobs: 0 }
    }

    /// Plays the job in a new thread; at `moment` the server ends, and another goes on.
    async fn play(&mut self, moment: Option<Moment>) -> Played {
        let name = format!("job{:04}", self.jobs);
        self.jobs += 1;
        std::fs::create_dir(self.world.path(&name)).expect("the directory is made");
        let job =
            Job { directory: format!("/workspace/{name}"), second_run_begins_at: self.second_run_begins_at.clone() };
        self.world.claude.set_script(Script::from_fn("job", move |asked| job.reply(asked)));
        self.world.thread = self.world.new_thread().await;
        let mut moment = moment;
        if let Some(Moment::At(number)) = moment {
            self.cut.arm(&self.world.thread, number).await;
        }
        let stored = [("permissionSet".to_owned(), json!({"rules": {"ask": ["Bash(* asked)"]}}))];
        let options = RunOptions {
            limits: Limits { max_cost: Some(budget()), ..Limits::default() },
            stored: stored.into_iter().collect(),
            ..RunOptions::default()
        };
        let first = self.world.send_with("do all steps", options).await.run_id;
        let outcome = self.until_over(&first, &name, &mut moment).await;
        assert_eq!(outcome.reason(), "budget", "{moment:?}: {outcome:?}");
        let steps_of_first_run = self.steps().await;
        self.second_run_begins_at.store(steps_of_first_run, Ordering::Relaxed);
        let (store, project) = (self.world.store(), &self.world.database.project);
        let second = store.continue_thread(project, &self.world.thread).await.expect("goes on").run_id;
        let outcome = self.until_over(&second, &name, &mut moment).await;
        assert_eq!(outcome, Outcome::Completed { content: DONE.into() }, "{moment:?}");
        assert_eq!(moment, None, "the server was ended");
        Played {
            transcript: self.transcript(&name).await,
            files: files(&self.world.path(&name)),
            commits: self.cut.seen(&self.world.thread).await,
            steps_of_first_run,
        }
    }

    /// Waits for the end of a run: decides what it asks, and ends the server when its moment has come.
    async fn until_over(&mut self, run: &RunId, name: &str, moment: &mut Option<Moment>) -> Outcome {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let has_come = match *moment {
                Some(Moment::At(_)) => self.cut.holds().await,
                Some(Moment::After(number)) => self.cut.seen(&self.world.thread).await >= number,
                None => false,
            };
            if has_come {
                self.server.take().expect("runs").kill();
                if matches!(moment, Some(Moment::At(_))) {
                    self.cut.refuse().await;
                }
                *moment = None;
                self.server = Some(self.world.server("node_a").await);
            }
            let store = self.world.store();
            let status = store.find_run_status(run).await.expect("reads").expect("is there");
            if status.is_over() {
                return self.world.outcome(run).await;
            }
            if status == RunStatus::Waiting {
                for request in
                    store.list_open_requests(&self.world.database.project, &self.world.thread).await.expect("reads")
                {
                    self.decide(&request, name).await;
                }
            }
            assert!(Instant::now() < deadline, "not within a minute, {moment:?}: {:#?}", self.world.events().await);
            sleep(Duration::from_millis(3)).await;
        }
    }

    async fn decide(&self, request: &Request, name: &str) {
        let mut wish = wish(step_of(&request.call_id));
        wish.updated_input = wish
            .updated_input
            .map(|line| json!({"command": format!("echo {line} >> /workspace/{name}/lines")}).to_string());
        let (store, world) = (self.world.store(), &self.world);
        store.decide_request(&world.database.project, &world.thread, &request.id, &wish).await.expect("decides");
    }

    /// Counts the steps whose calls the transcript holds.
    async fn steps(&self) -> usize {
        let calls = self.world.finished_calls().await;
        calls.iter().map(|call| step_of(&call.id)).collect::<BTreeSet<_>>().len()
    }

    async fn transcript(&self, name: &str) -> Vec<(String, String)> {
        // All of it, also what was replaced by the summary.
        let entries = sqlx::query_as("select role, blocks from transcript where thread_id = $1 order by position");
        let mut entries: Vec<(String, String)> =
            entries.bind(self.world.thread.as_str()).fetch_all(&self.pool).await.expect("reads");
        entries.iter_mut().for_each(|(_, blocks)| *blocks = blocks.replace(name, "JOB"));
        for group in entries.chunk_by_mut(|a, b| result_of(&a.1).is_some() && result_of(&b.1).is_some()) {
            group.sort_by_key(|(_, blocks)| result_of(blocks));
        }
        entries
    }
}

fn step_of(call_id: &str) -> usize {
    call_id.split('_').nth(1).and_then(|step| step.parse().ok()).expect("toolu_STEP_N")
}

/// Gives the call that an entry answers.
fn result_of(blocks: &str) -> Option<String> {
    let blocks: Value = serde_json::from_str(blocks).expect("is JSON");
    blocks[0]["tool_use_id"].as_str().map(str::to_owned)
}

fn files(directory: &std::path::Path) -> BTreeMap<String, String> {
    let entries = std::fs::read_dir(directory).expect("is there").map(|entry| entry.expect("reads"));
    entries
        .map(|entry| {
            let text = std::fs::read_to_string(entry.path()).expect("reads");
            (entry.file_name().to_string_lossy().into_owned(), text)
        })
        .collect()
}

/// What a cut job has more or less often than the reference.
#[derive(Debug, Default, PartialEq, Eq)]
struct Difference {
    lost: usize,
    doubled: usize,
    told: usize,
}

/// Compares a cut job with the reference. `At` a commit its calls were made, so only their results may differ; after one,
/// a call may not have been made, and then what is read later lacks what it would have written.
fn compare(reference: &Played, played: &Played, moment: Moment) -> Difference {
    let mut difference = Difference::default();
    let mut unknown = BTreeSet::new();
    assert_eq!(played.transcript.len(), reference.transcript.len(), "{moment:?}: {:#?}", played.transcript);
    for (was, is) in reference.transcript.iter().zip(&played.transcript) {
        if was == is {
            continue;
        }
        let call = result_of(&is.1).unwrap_or_else(|| panic!("{moment:?}: {was:?} became {is:?}"));
        assert_eq!(result_of(&was.1).as_ref(), Some(&call), "{moment:?}");
        if is.1.contains("This call was interrupted") {
            difference.told += 1;
            unknown.insert(call);
        } else {
            let reads = matches!(step_of(&call) % 6, 2 | 5);
            let may_lack = matches!(moment, Moment::After(_)) && !unknown.is_empty();
            assert!(reads && may_lack, "{moment:?}: {was:?} became {is:?}");
        }
    }
    // Calls of one reply may be under way together, those of two may not.
    let steps: BTreeSet<_> = unknown.iter().map(|call| step_of(call)).collect();
    assert!(steps.len() <= 1, "{moment:?}: one cut, and it is told of {unknown:?}");
    for (name, was) in &reference.files {
        let is = played.files.get(name).map_or("", String::as_str);
        for line in was.lines() {
            let times = is.lines().filter(|other| *other == line).count();
            let step = line.trim_start_matches(|c: char| !c.is_ascii_digit()).parse().expect("a line names its step");
            let is_unknown = matches!(moment, Moment::After(_)) && steps.contains(&step);
            difference.lost += usize::from(times == 0 && !is_unknown);
            difference.doubled += times.saturating_sub(1);
        }
        let known: BTreeSet<_> = was.lines().collect();
        difference.doubled += is.lines().filter(|line| !known.contains(line)).count();
    }
    difference
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_run_cut_at_any_of_its_commits_comes_out_as_if_it_had_not_been() {
    let mut stage = Stage::new().await;
    let reference = stage.play(None).await;
    let turns = reference.transcript.iter().filter(|(role, _)| role == "assistant").count();
    assert_eq!(turns, STEPS + 1, "{:#?}", reference.transcript);
    assert_eq!(reference.steps_of_first_run, PAID);
    assert_eq!(reference.transcript.iter().filter(|(role, _)| role == "compaction").count(), 1);
    let lines = &reference.files["lines"];
    let of = |word: &str| lines.matches(word).count();
    assert_eq!((of("free"), of("asked"), of("edited")), (7, 3, 2), "{lines}");

    let boundaries = reference.commits;
    let seed = times("ATELIER_TEST_SEED", rand::rng().random_range(0..1_000_000)) as u64;
    let mut moments: Vec<_> = (1..=boundaries).map(Moment::At).chain((1..boundaries).map(Moment::After)).collect();
    moments.shuffle(&mut StdRng::seed_from_u64(seed));
    let mut tries = Tries::new("ATELIER_TEST_BOUNDARIES", 24);
    let mut report = Report::new("every_boundary");
    let mut told = 0;
    for moment in moments {
        if !tries.once_more() {
            break;
        }
        let began = Instant::now();
        let played = stage.play(Some(moment)).await;
        let difference = compare(&reference, &played, moment);
        assert_eq!((difference.lost, difference.doubled), (0, 0), "{moment:?} (seed {seed}): {:?}", played.files);
        report.n += 1;
        report.lost += difference.lost;
        report.doubled += difference.doubled;
        told += difference.told;
        report.sample(began.elapsed());
    }
    println!("{boundaries} boundaries, {} cuts (seed {seed}), {told} calls told as interrupted", report.n);
    report.finish();
    stage.server.take().expect("runs").stop_soft().await;
    stage.pool.close().await;
    stage.world.end().await;
}
