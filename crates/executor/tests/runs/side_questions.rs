//! A question beside the run: answered while the run is in the middle of a call, and no part of the thread.

use std::time::Duration;

use domain::run::{Outcome, Spent};
use scripted_claude::{Fault, Reply};
use store::{hub::Piece, side_questions::Answer};

use crate::world::{World, bash};

async fn wait_for_answer(world: &World, question: &domain::QuestionId) -> (Answer, Spent) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(found) = world.store().find_answer(question).await.expect("reads") {
            return found;
        }
        assert!(tokio::time::Instant::now() < deadline, "an answer comes");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_side_question_is_answered_while_a_call_runs_and_leaves_no_trace_in_the_thread() {
    let world = World::new(|asked| match () {
        () if asked.tools.is_empty() => Reply::text("It waits for a file."),
        () if asked.round == 0 => bash("until [ -e /workspace/go ]; do sleep 0.05; done; echo gone"),
        () => Reply::text(format!("saw {}", asked.last_result_text().trim())),
    })
    .await;
    let (store, project) = (world.store(), &world.database.project);
    let early = store.ask_side_question(project, &world.thread, "anything?", None).await;
    assert!(matches!(early, Err(store::Error::State(_))), "{early:?}");
    let server = world.server("node_a").await;
    let started = world.send("wait for the file").await;
    while world.file("x").is_none() && store.load_transcript(&world.thread).await.expect("reads").is_empty() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let before = store.load_transcript(&world.thread).await.expect("reads");
    let question = store.ask_side_question(project, &world.thread, "What does it wait for?", None).await.expect("asks");
    let (answer, spent) = wait_for_answer(&world, &question).await;
    assert_eq!(answer, Answer::Given("It waits for a file.".into()));
    assert!(spent.cost.0 > 0);
    let thread = store.find_thread(project, &world.thread).await.expect("reads").expect("is there");
    assert!(thread.spent.cost.0 >= spent.cost.0, "it counts for the thread");
    let asked = world.claude.requests().pop().expect("was asked").json();
    let text = asked["messages"].to_string();
    assert!(asked["tools"].is_null() && text.contains("What does it wait for?") && text.contains("wait for the file"));
    assert_eq!(store.load_transcript(&world.thread).await.expect("reads"), before);

    std::fs::write(world.path("go"), "").expect("writes");
    assert_eq!(world.outcome(&started.run_id).await, Outcome::Completed { content: "saw gone".into() });
    for request in world.claude.requests().iter().map(scripted_claude::Received::json) {
        assert!(request["tools"].is_null() || !request["messages"].to_string().contains("What does it wait for?"));
    }
    server.stop_soft().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_whose_server_goes_down_is_answered_by_another() {
    let world = World::new(|asked| match () {
        () if asked.tools.is_empty() => {
            Reply::text("here").with_fault(Fault { hold: Some("answer".into()), ..Fault::default() })
        }
        () => Reply::text("hello"),
    })
    .await;
    let server = world.server("node_a").await;
    world.ask("hello").await;
    let requests = world.claude.requests().len();
    let question = world
        .store()
        .ask_side_question(&world.database.project, &world.thread, "still there?", None)
        .await
        .expect("asks");
    while world.claude.requests().len() == requests {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    server.stop_soft().await;
    assert_eq!(world.store().find_answer(&question).await.expect("reads"), None);
    world.claude.release("answer");
    let server = world.server("node_b").await;
    assert_eq!(wait_for_answer(&world, &question).await.0, Answer::Given("here".into()));
    server.stop_soft().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pieces_of_an_answer_reach_who_waits_for_it_and_a_failure_is_told() {
    let world = World::new(|_| Reply::text("hello")).await;
    let server = world.server("node_a").await;
    world.ask("hello").await;
    server.stop_soft().await;
    let store = world.store();
    let question = store.ask_side_question(&world.database.project, &world.thread, "?", None).await.expect("asks");
    let mut pieces = store.watch_answer(&question);
    let claimed = store.claim_side_questions(5, Duration::from_secs(60)).await.expect("claims").remove(0);
    assert_eq!(claimed.id, question);
    assert!(store.claim_side_questions(5, Duration::from_secs(60)).await.expect("claims").is_empty());
    store.send_answer(&claimed, "be".into());
    assert_eq!(pieces.next().await, Piece::Text("be".into()));
    let failed = Answer::Failed { code: "model_error".into(), message: "No.".into() };
    store.answer_side_question(&claimed, &failed, None, Spent::default()).await.expect("writes");
    assert_eq!(pieces.next().await, Piece::End);
    let late = Answer::Given("late".into());
    store.answer_side_question(&claimed, &late, None, Spent::default()).await.expect("writes nothing");
    assert_eq!(store.find_answer(&question).await.expect("reads").expect("is there").0, failed);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn side_questions_count_for_the_threads_budget_and_end_with_it() {
    let world = World::new(|asked| match asked.tools.is_empty() {
        true => Reply::text("An answer."),
        false => Reply::text("done"),
    })
    .await;
    let (store, project) = (world.store(), &world.database.project);
    let server = world.server("node_a").await;
    world.ask("go").await;
    let of_runs = store.find_thread(project, &world.thread).await.expect("reads").expect("is there").spent;
    let question = store.ask_side_question(project, &world.thread, "And?", None).await.expect("asks");
    let (answer, spent) = wait_for_answer(&world, &question).await;
    assert_eq!(answer, Answer::Given("An answer.".into()));
    assert!(spent.cost.0 > 0);
    // More than the runs have cost, less than runs and question together.
    let limit = domain::MicroUsd(of_runs.cost.0 + 1);
    store.update_thread(project, &world.thread, |thread| thread.limits.max_cost = Some(limit)).await.expect("changes");
    let asked = world.claude.requests().len();
    let outcome = world.ask("more").await;
    assert_eq!(outcome.reason(), "budget", "{outcome:?}");
    let question = store.ask_side_question(project, &world.thread, "And now?", None).await.expect("asks");
    let (answer, _) = wait_for_answer(&world, &question).await;
    assert!(matches!(&answer, Answer::Failed { code, .. } if code == "budget"), "{answer:?}");
    assert_eq!(world.claude.requests().len(), asked, "no model was asked past the limit");
    server.stop_soft().await;
    world.end().await;
}
