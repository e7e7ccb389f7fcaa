//! How full the window is, and making room in it.

use domain::run::Spent;
use store::{leases::Turn, side_questions::Answer};

use super::*;
use crate::app::redacted;

const SYSTEM: &str = r#"["You are kind."]"#;

impl App {
    /// Offers one model with a window of 1000 tokens, compacted at 800.
    fn offer_a_small_model(&self) {
        let model = api::Model {
            id: "claude-small".into(),
            context_tokens: Some(1_000),
            compact_at_tokens: Some(800),
            ..api::Model::default()
        };
        self.api.models.write().expect("no panic").entries = vec![model];
    }

    /// A thread in which a model has answered once: 360 tokens, 20 of them the answer.
    async fn thread_with_an_answer(&self) -> String {
        let thread = self.thread().await;
        drop(self.send_message(&thread, "Hello").await);
        let store = &self.database.store;
        let mut claimed = claim(store).await;
        let spent = Spent { input_tokens: 300, output_tokens: 20, cache_read_tokens: 40, ..Spent::default() };
        let turn = Turn {
            model: "claude-small-20270101".into(),
            request_id: None,
            stop_reason: "end_turn".into(),
            spent,
            duration: std::time::Duration::from_secs(1),
        };
        let checkpoint = Checkpoint {
            transcript: vec![
                ("system", SYSTEM.into()),
                ("user", r#"[{"type":"text","text":"Hello"}]"#.into()),
                ("assistant", r#"[{"type":"text","text":"Hi"}]"#.into()),
            ],
            turn: Some(turn),
            ..Checkpoint::default()
        };
        store.checkpoint(&mut claimed.lease, &checkpoint).await.expect("the lease is good");
        finish(store, &claimed, completed("Hi")).await;
        thread
    }
}

fn tokens(details: &Value) -> Vec<(String, i64)> {
    let categories = details["context"]["categories"].as_array().expect("a list").iter();
    categories
        .map(|part| (part["key"].as_str().expect("a key").into(), part["tokens"].as_i64().expect("a number")))
        .collect()
}

#[tokio::test]
async fn a_context_is_what_the_model_counted_and_its_parts_add_up() {
    let app = App::start().await;
    app.offer_a_small_model();
    let empty = app.thread().await;
    let shown = app.get(&format!("/threads/{empty}/context/details")).await.ok();
    assert_eq!(shown["context"]["usedTokens"], 0);
    assert_eq!(shown["availableActions"], json!({"compact": false, "clear": false, "btw": false, "fork": false}));

    let thread = app.thread_with_an_answer().await;
    let shown = redacted(app.get(&format!("/v1/threads/{thread}/context")).await.ok());
    assert_eq!(
        shown,
        json!({"context": {
            "threadId": "thread_[id]", "sessionId": null, "model": "claude-small-20270101", "maxTokens": 1000,
            "usedTokens": 360, "remainingTokens": 640, "remainingRatio": 0.64, "source": "usage", "exact": true,
            "messageCount": 2, "lastMessageAt": "[time]", "updatedAt": "[time]",
        }})
    );
    let details = app.get(&format!("/threads/{thread}/context/details")).await.ok();
    assert_eq!(details["context"]["estimate"]["usedTokens"], 360);
    assert_eq!(details["availableActions"], json!({"compact": true, "clear": true, "btw": true, "fork": true}));
    let parts = tokens(&details);
    let names: Vec<_> = parts.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["system_prompt", "messages", "other", "free_space", "autocompact_buffer"]);
    assert_eq!(parts.iter().map(|(_, tokens)| tokens).sum::<i64>(), 1000, "{parts:?}");
    assert_eq!((&parts[3].1, &parts[4].1), (&440, &200));
}

#[tokio::test]
async fn a_cleared_context_is_empty_and_nothing_people_see_is_lost() {
    let app = App::start().await;
    app.offer_a_small_model();
    let thread = app.thread_with_an_answer().await;
    let actions = format!("/threads/{thread}/context/actions");
    let done = app.post(&actions, json!({"action": "clear"})).await.ok();
    assert_eq!((&done["action"]["type"], &done["action"]["threadId"]), (&json!("clear"), &json!(thread)));
    assert_eq!(done["action"]["thread"]["id"], json!(thread));
    let shown = app.get(&format!("/threads/{thread}/context")).await.ok();
    assert_eq!((&shown["context"]["source"], &shown["context"]["exact"]), (&json!("estimate"), &json!(false)));
    assert!(shown["context"]["usedTokens"].as_i64() < Some(20), "{shown}");
    assert_eq!(app.get(&format!("/threads/{thread}/messages")).await.ok()["data"].as_array().map(Vec::len), Some(2));
    let text = app.follow(&thread, 0).await.rest().await;
    let compacted = data(&text).into_iter().find(|event| event["type"] == "context.compacted").expect("is told");
    assert_eq!(compacted["context"], json!({"trigger": "manual", "preTokens": 360, "postTokens": 0}));
    let runs = app.get(&format!("/threads/{thread}/runs")).await.ok();
    assert_eq!(runs["data"][0]["kind"], "clear");
    // It can be talked to.
    assert_eq!(app.send_message(&thread, "again").await.status, 200);
    let busy = app.post(&actions, json!({"action": "clear"})).await;
    assert!(busy.failed(409).contains("busy"));
}

#[tokio::test]
async fn a_fork_has_the_same_context_in_a_thread_of_its_own() {
    let app = App::start().await;
    app.offer_a_small_model();
    let thread = app.thread_with_an_answer().await;
    let actions = format!("/threads/{thread}/context/actions");
    let done = app.post(&actions, json!({"action": "fork", "title": "Another way"})).await.ok();
    let fork = &done["action"]["thread"];
    assert_eq!((&done["action"]["threadId"], &fork["title"]), (&json!(thread), &json!("Another way")));
    assert_ne!(fork["id"], json!(thread));
    let context = app.get(&format!("/threads/{}/context", fork["id"].as_str().expect("an id"))).await.ok();
    assert_eq!((&context["context"]["usedTokens"], &context["context"]["exact"]), (&json!(360), &json!(true)));
    drop(app.send_message(&thread, "go on").await);
    assert_eq!(app.post(&actions, json!({"action": "fork"})).await.status, 409);
}

#[tokio::test]
async fn a_compaction_is_a_run_that_is_waited_for() {
    let app = App::start().await;
    let thread = app.thread_with_an_answer().await;
    let actions = format!("/threads/{thread}/context/actions");
    let store = app.database.store.clone();
    let work = async {
        let mut claimed = loop {
            if let Some(claimed) = store.claim_runs(1, TTL).await.expect("claims").pop() {
                break claimed;
            }
            tokio::task::yield_now().await;
        };
        assert_eq!(claimed.run.options.kind, domain::run::RunKind::Compact);
        assert_eq!(claimed.run.options.execution_content.as_deref(), Some("mind the cats"));
        assert_eq!(app.post(&actions, json!({"action": "compact"})).await.status, 409);
        let event = Event::Compacted { trigger: domain::event::Trigger::Manual, pre_tokens: 360, post_tokens: 9 };
        record(&store, &mut claimed, vec![event]).await;
        finish(&store, &claimed, completed("")).await;
    };
    let asking = app.post(&actions, json!({"action": "compact", "prompt": "mind the cats"}));
    let (done, ()) = tokio::join!(asking, work);
    assert_eq!(done.ok()["action"]["type"], "compact");
    // Nobody said anything.
    assert_eq!(app.get(&format!("/threads/{thread}/messages")).await.ok()["total_count"], 2);
    let runs = format!("/threads/{thread}/runs");
    for (kind, count) in [("compact", 1), ("message", 1), ("clear", 0)] {
        let listed = app.get(&format!("{runs}?kind={kind}")).await.ok();
        assert_eq!((&listed["total_count"], listed["data"].as_array().map(Vec::len)), (&json!(count), Some(count)));
        assert!(listed["data"].as_array().is_some_and(|runs| runs.iter().all(|run| run["kind"] == kind)));
    }
    app.get(&format!("{runs}?kind=dream")).await.failed(400);
}

#[tokio::test]
async fn what_cannot_be_done_is_said() {
    let app = App::start().await;
    let thread = app.thread().await;
    let actions = format!("/threads/{thread}/context/actions");
    for action in ["compact", "clear"] {
        app.post(&actions, json!({"action": action})).await.failed(400);
    }
    app.post(&actions, json!({"action": "btw", "prompt": "?"})).await.failed(400);
    app.post(&actions, json!({"action": "btw", "prompt": " "})).await.failed(400);
    app.post(&actions, json!({"action": "explode"})).await.failed(400);
    app.post(&actions, json!({})).await.failed(400);
    app.post(&format!("{actions}/btw/stream"), json!({})).await.failed(400);
    let (_, other) = app.another_project().await;
    for path in [format!("/threads/{thread}/context"), format!("/threads/{thread}/context/details")] {
        app.call_with(&other, Method::GET, &path, Body::empty()).await.failed(404);
    }
    let with_answer = app.thread_with_an_answer().await;
    let path = format!("/threads/{with_answer}/context/actions/btw/stream");
    app.call_with(&other, Method::POST, &path, r#"{"prompt": "?"}"#).await.failed(404);
}

#[tokio::test]
async fn a_side_question_is_streamed_while_the_thread_is_busy() {
    let app = App::start().await;
    let thread = app.thread_with_an_answer().await;
    drop(app.send_message(&thread, "go on").await);
    let store = &app.database.store;
    let path = format!("/threads/{thread}/context/actions/btw/stream");
    let mut reader = app.open(Method::POST, &path, &[], json!({"prompt": "How far is it?"})).await;
    assert_eq!((reader.status.as_u16(), &reader.headers["content-type"]), (200, &"text/event-stream".parse().unwrap()));
    reader.until("response.started").await;
    let claimed = store.claim_side_questions(1, TTL).await.expect("claims").remove(0);
    assert_eq!(claimed.prompt, "How far is it?");
    store.send_answer(&claimed, "Half".into());
    reader.until("response.content_part.delta").await;
    store.answer_side_question(&claimed, &Answer::Given("Half way.".into()), Some("m"), SPENT).await.expect("writes");
    let text = reader.rest().await;
    assert_eq!(
        names(&text),
        [
            "response.started",
            "response.content_part.delta",
            "response.item.completed",
            "response.completed",
            "stream.completed"
        ]
    );
    let events = data(&text);
    assert_eq!(events[3]["response"]["content"], "Half way.");
    assert_eq!(events[4]["run"]["status"], "completed");
    assert!(app.get(&format!("/threads/{thread}")).await.ok()["thread"]["totalCost"].as_f64() >= Some(0.012_345));

    // The same without a stream, and one that fails.
    let work = async {
        let claimed = loop {
            if let Some(claimed) = store.claim_side_questions(1, TTL).await.expect("claims").pop() {
                break claimed;
            }
            tokio::task::yield_now().await;
        };
        let failed = Answer::Failed { code: "model_error".into(), message: "It did not want to.".into() };
        store.answer_side_question(&claimed, &failed, None, Spent::default()).await.expect("writes");
    };
    let body = json!({"action": "btw", "prompt": "And now?"});
    let actions = format!("/threads/{thread}/context/actions");
    let (failed, ()) = tokio::join!(app.post(&actions, body), work);
    assert_eq!(failed.failed(502), "It did not want to.");
}
