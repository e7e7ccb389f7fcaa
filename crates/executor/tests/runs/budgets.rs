//! Budgets of a project, a key and an agent: hard, whoever spends, and exact.

use domain::{
    AgentId, ApiKeyId, MicroUsd, ThreadId,
    agent::AgentSettings,
    budget::{Cap, Period, Subject},
    event::Event,
    run::{Outcome, RunOptions},
};
use scripted_claude::Reply;
use store::{agents::NewAgent, costs::Range, runs::NewRun};

use crate::world::{World, bash};

/// Runs at once.
const RUNS: usize = 6;

async fn set(world: &World, subject: Subject, id: &str, limit: Option<i64>) {
    let limit = limit.map(MicroUsd);
    let cap = Cap { subject, subject_id: id.to_owned(), period: Period::Day, limit };
    world.store().set_budgets(&world.database.project, &[cap]).await.expect("sets");
}

/// What all ends of runs in these threads say they cost, together.
async fn told(world: &World, threads: &[ThreadId]) -> i64 {
    let mut sum = 0;
    for thread in threads {
        let events = world.store().list_events(thread, 0, None, 10_000).await.expect("reads");
        sum += events
            .iter()
            .map(|event| match &event.event {
                Event::RunFinished { spent, .. } => spent.cost.0,
                _ => 0,
            })
            .sum::<i64>();
    }
    sum
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_at_once_are_over_a_budget_by_one_call_each_at_most_and_every_sum_is_the_same() {
    let world = World::new(|_| bash("true")).await;
    world.warm_up().await;
    let (store, project) = (world.store(), world.database.project.clone());
    let pool = world.database.pool().await;
    let server = world.server("node_a").await;
    // What a call costs: the first that there is.
    set(&world, Subject::Project, "", Some(1)).await;
    assert_eq!(world.ask("go").await.reason(), "budget");
    let first = store.sum_costs(&project, Range::default()).await.expect("sums");
    assert_eq!(first.calls, 1);
    let cap = first.spent.cost.0 * 20;
    set(&world, Subject::Project, "", Some(cap)).await;

    let mut threads = vec![world.thread.clone()];
    for _ in 0..RUNS {
        threads.push(world.new_thread().await);
    }
    for thread in &threads[1..] {
        let new = NewRun { messages: vec!["go".into()], ..NewRun::default() };
        store.start_run(&project, thread, new).await.expect("a run");
    }
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(90);
    loop {
        let under_way: i64 = sqlx::query_scalar("select count(*) from runs where completed_at is null")
            .fetch_one(&pool)
            .await
            .expect("counts");
        if under_way == 0 {
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "{under_way} runs are still under way");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let codes: Vec<String> = sqlx::query_scalar("select outcome ->> 'code' from runs order by queued_at")
        .fetch_all(&pool)
        .await
        .expect("reads");
    assert_eq!(codes, vec!["budget"; RUNS + 1]);

    let sums = store.sum_costs(&project, Range::default()).await.expect("sums");
    let dearest: i64 =
        sqlx::query_scalar("select max(cost_micro_usd) from charges").fetch_one(&pool).await.expect("reads");
    let over = sums.spent.cost.0 - cap;
    assert!((0..RUNS as i64 * dearest).contains(&over), "{over} micro-dollars over {cap}, a call is at most {dearest}");
    assert_eq!(sums.calls as usize, world.claude.requests().len(), "each call is a charge");
    println!("budget {cap}, runs at once {RUNS}, calls {}, over by {over} (a call: up to {dearest})", sums.calls);

    for (what, query) in [
        ("runs", "select sum(cost_micro_usd)::bigint from runs"),
        ("turns", "select sum(cost_micro_usd)::bigint from turns"),
        ("threads", "select sum(cost_micro_usd)::bigint from threads"),
        ("days", "select sum(cost_micro_usd)::bigint from spending where subject = 'project'"),
    ] {
        let sum: i64 = sqlx::query_scalar(query).fetch_one(&pool).await.expect("sums");
        assert_eq!(sum, sums.spent.cost.0, "{what}");
    }
    assert_eq!(told(&world, &threads).await, sums.spent.cost.0, "events");

    // Not a single call is made any more, until there is money again.
    let calls = world.claude.requests().len();
    assert_eq!(world.ask("go on").await.reason(), "budget");
    assert_eq!(world.claude.requests().len(), calls);
    let budgets = store.list_budgets(&project).await.expect("reads");
    assert!(budgets[0].is_exhausted() && budgets[0].remaining() == MicroUsd(0), "{budgets:?}");
    drop(pool);
    server.stop_soft().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_budget_of_a_key_or_an_agent_holds_for_what_they_do_and_nothing_else() {
    let world = World::new(|_| Reply::text("done")).await;
    let (store, project) = (world.store(), &world.database.project);
    let server = world.server("node_a").await;
    let (key, _) = store.create_key(project, "k", None).await.expect("a key");
    let new = NewAgent {
        id: Some("dear".parse().expect("an id")),
        name: "a".into(),
        model: "claude-haiku-5-5".into(),
        settings: AgentSettings::default(),
        is_default: false,
        is_system: false,
    };
    let agent: AgentId = store.create_agent(project, new).await.expect("an agent").id;
    set(&world, Subject::Key, key.id.as_str(), Some(1)).await;
    let by = |key: &ApiKeyId| RunOptions { key_id: Some(key.clone()), ..RunOptions::default() };
    let done = Outcome::Completed { content: "done".into() };
    for (options, expected) in [
        (by(&key.id), "completed"),
        (by(&key.id), "budget"),
        (RunOptions::default(), "completed"),
        (by(&ApiKeyId::generate()), "completed"),
    ] {
        let started = world.send_with("go", options).await;
        assert_eq!(world.outcome(&started.run_id).await.reason(), expected);
    }
    set(&world, Subject::Key, key.id.as_str(), None).await;

    let set_agent = |thread: &mut domain::thread::Thread| thread.agent_id = Some(agent.clone());
    store.update_thread(project, &world.thread, set_agent).await.expect("changes");
    set(&world, Subject::Agent, agent.as_str(), Some(1)).await;
    assert_eq!(world.ask("go").await, done);
    let refused = world.ask("go").await;
    assert!(
        matches!(&refused, Outcome::Failed { message, .. } if message.contains("of the agent for today is used up")),
        "{refused:?}"
    );
    let without = |thread: &mut domain::thread::Thread| thread.agent_id = None;
    store.update_thread(project, &world.thread, without).await.expect("changes");
    assert_eq!(world.ask("go").await, done);
    server.stop_soft().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn side_questions_are_charged_and_refused_as_runs_are() {
    let world = World::new(|_| Reply::text("done")).await;
    let (store, project) = (world.store(), &world.database.project);
    let server = world.server("node_a").await;
    world.ask("go").await;
    let before = store.sum_costs(project, Range::default()).await.expect("sums");
    let ask = async || {
        let question = store.ask_side_question(project, &world.thread, "And?", None).await.expect("asks");
        let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(60);
        loop {
            if let Some((answer, spent)) = store.find_answer(&question).await.expect("reads") {
                return (answer, spent);
            }
            assert!(tokio::time::Instant::now() < deadline, "not answered within a minute");
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    let (_, spent) = ask().await;
    let after = store.sum_costs(project, Range::default()).await.expect("sums");
    assert_eq!(after.spent.cost.0, before.spent.cost.0 + spent.cost.0);
    assert!(spent.cost.0 > 0);
    set(&world, Subject::Project, "", Some(after.spent.cost.0)).await;
    let calls = world.claude.requests().len();
    let (answer, spent) = ask().await;
    assert!(matches!(&answer, store::side_questions::Answer::Failed { code, .. } if code == "budget"), "{answer:?}");
    assert_eq!((spent.cost.0, world.claude.requests().len()), (0, calls));
    server.stop_soft().await;
    world.end().await;
}
