//! Agents that a run has called, as clients see them: beside the run, and on their own.

use domain::{run::RunOptions, subagent::Task};
use store::subagents::{NewSubagent, Taken};

use super::*;

/// Has the run call an agent, as the executor does.
async fn call_agent(store: &Store, claimed: &Claimed, call_id: &str) -> Claimed {
    let task = Task {
        name: "counter".into(),
        description: "count files".into(),
        prompt: "Count the files.".into(),
        ..Task::default()
    };
    let options = RunOptions { subagent: Some(task), ..RunOptions::default() };
    let new = NewSubagent { call_id: call_id.into(), options, is_background: false };
    let lease = claimed.lease.renewal();
    let run = store.call_subagent(&lease, &claimed.run, &new).await.expect("calls");
    // Whoever asks again finds the same.
    assert_eq!(store.call_subagent(&lease, &claimed.run, &new).await.expect("calls"), run);
    match store.take_subagent(&lease, &run, TTL).await.expect("takes") {
        Taken::Claimed(agent) => *agent,
        other => panic!("it is there to take: {other:?}"),
    }
}

#[tokio::test]
async fn an_agent_is_told_of_in_the_run_and_can_be_read_on_its_own() {
    let app = App::start().await;
    let thread = app.thread().await;
    let reader = app.send_message(&thread, "Count").await;
    let store = &app.database.store;
    let claimed = claim(store).await;
    let mut agent = call_agent(store, &claimed, "toolu_7").await;
    record(store, &mut agent, vec![said("There are three.")]).await;
    finish(store, &agent, completed("There are three.")).await;
    assert_eq!(app.get(&format!("/threads/{thread}")).await.ok()["thread"]["status"], "running");
    finish(store, &claimed, completed("Three.")).await;

    let text = reader.rest().await;
    let (run, own) = (claimed.run.id.as_str(), agent.run.id.as_str());
    let nested: Vec<_> = data(&text).into_iter().filter(|event| event["parentToolUseId"] == "toolu_7").collect();
    let kinds: Vec<_> = nested.iter().map(|event| event["type"].as_str().expect("a type")).collect();
    assert_eq!(kinds, ["log", "log", "response.item.completed", "log"]);
    assert_eq!(nested[0]["log"]["eventType"], "subagent_invocation");
    assert_eq!(nested[0]["log"]["message"], "counter (count files): was called");
    let subagent = json!({"runId": own, "parentRunId": run, "name": "counter", "description": "count files"});
    assert!(nested.iter().all(|event| event["subagent"] == subagent && event["runId"] == run), "{nested:#?}");
    // The run's own end is the only one.
    assert_eq!(names(&text).iter().filter(|name| *name == "response.completed").count(), 1);
    assert_eq!(names(&text).last().map(String::as_str), Some("stream.completed"));

    let runs = app.get(&format!("/threads/{thread}/runs")).await.ok();
    assert_eq!((&runs["total_count"], &runs["runs"][0]["id"]), (&json!(1), &json!(run)));
    let called = app.get(&format!("/threads/{thread}/runs?parentRunId={run}")).await.ok();
    assert_eq!((&called["total_count"], &called["runs"][0]["id"]), (&json!(1), &json!(own)));
    assert_eq!(called["runs"][0]["parentRunId"], run);

    let page = app.get(&format!("/threads/{thread}/events?runId={own}")).await.ok();
    let sequences: Vec<_> = page["data"].as_array().expect("a list").iter().map(|event| &event["sequence"]).collect();
    let expected: Vec<_> = nested.iter().map(|event| &event["sequence"]).collect();
    assert_eq!(sequences, expected);
    let part = app.get(&format!("/threads/{thread}/events?runId={own}&limit=3")).await.ok();
    assert_eq!((&part["has_more"], &part["nextCursor"]), (&json!(true), &json!(expected[2].to_string())));
    let path = format!("/threads/{thread}/events?stream=true&runId={own}");
    let streamed = app.open(Method::GET, &path, &[], Value::Null).await.rest().await;
    assert_eq!(data(&streamed)[1..], nested);

    let logs = app.get(&format!("/threads/{thread}/logs")).await.ok();
    assert_eq!(logs["subagentActivity"][0]["eventCount"], 4);
    let lines = logs["logs"].as_array().expect("a list");
    let own_lines = lines.iter().filter(|line| line["metadata"]["subagentInvocation"]["runId"] == own).count();
    assert_eq!(own_lines, 4);
    // No message of the thread is the agent's.
    assert_eq!(app.get(&format!("/threads/{thread}/messages")).await.ok()["data"].as_array().map(Vec::len), Some(2));
}

#[tokio::test]
async fn one_agent_is_cancelled_and_nothing_else_is_done_to_it() {
    let app = App::start().await;
    let thread = app.thread().await;
    app.post(&format!("/threads/{thread}/messages"), json!({"content": "x", "stream": false})).await.ok();
    let store = &app.database.store;
    let claimed = claim(store).await;
    let agent = call_agent(store, &claimed, "toolu_7").await;
    let path = format!("/threads/{thread}/runs/{}/control", agent.run.id);
    app.post(&path, json!({"action": "pause"})).await.failed(400);
    app.post(&path, json!({"action": "cancel"})).await.ok();
    let renewed = store.renew(&agent.lease.renewal(), TTL).await.expect("renews");
    assert!(renewed.is_cancel_requested);
    assert!(!store.renew(&claimed.lease.renewal(), TTL).await.expect("renews").is_cancel_requested);
    // What is left of it ends with the run.
    finish(store, &claimed, completed("done")).await;
    let called = app.get(&format!("/threads/{thread}/runs?parentRunId={}", claimed.run.id)).await.ok();
    assert_eq!(called["runs"][0]["status"], "cancelled");
    app.post(&path, json!({"action": "cancel"})).await.failed(400);
}

#[tokio::test]
async fn another_projects_agents_are_not_there() {
    let app = App::start().await;
    let (_, key) = app.another_project().await;
    let thread = app.thread().await;
    app.post(&format!("/threads/{thread}/messages"), json!({"content": "x", "stream": false})).await.ok();
    let claimed = claim(&app.database.store).await;
    let agent = call_agent(&app.database.store, &claimed, "toolu_7").await;
    let other = app.thread().await;
    let own = &agent.run.id;
    app.get(&format!("/threads/{other}/events?runId={own}")).await.failed(404);
    app.call_with(&key, Method::GET, &format!("/threads/{thread}/events?runId={own}"), "").await.failed(404);
    let body = json!({"action": "cancel"}).to_string();
    let path = format!("/threads/{thread}/runs/{own}/control");
    app.call_with(&key, Method::POST, &path, body).await.failed(404);
}
