//! Calls that wait for somebody to allow them, over the API.

use axum::http::Method;
use domain::{
    PermissionRequestId,
    event::{AskedCall, Event},
    run::Outcome,
};
use serde_json::json;
use store::{
    leases::{Checkpoint, Claimed},
    permissions::{NewRequest, Parking},
};

use super::{claim, completed, data, finish, frames, names};
use crate::app::{App, redacted};

/// Asks about calls as the executor does, and lets the run wait.
async fn ask(app: &App, claimed: &mut Claimed, calls: &[&str]) -> Vec<PermissionRequestId> {
    let requests: Vec<_> = calls
        .iter()
        .map(|call| NewRequest {
            id: PermissionRequestId::generate(),
            call_id: (*call).to_owned(),
            tool: "Bash".into(),
            input: r#"{"command": "rm x"}"#.into(),
            rule: "Bash(rm *)".into(),
            unanswered: format!(r#"[{{"type":"tool_result","tool_use_id":"{call}","content":"no"}}]"#),
            ttl: std::time::Duration::from_secs(3600),
        })
        .collect();
    let ids = requests.iter().map(|request| request.id.clone()).collect();
    let events = requests.iter().map(|request| Event::PermissionAsked {
        request: AskedCall {
            request_id: request.id.clone(),
            call_id: request.call_id.clone(),
            tool: request.tool.clone(),
            input: request.input.clone(),
            rule: request.rule.clone(),
            ttl_ms: 3_600_000,
        },
    });
    let checkpoint = Checkpoint { events: events.collect(), requests, ..Checkpoint::default() };
    app.database.store.checkpoint(&mut claimed.lease, &checkpoint).await.expect("the lease is good");
    let parking = app.database.store.park_waiting(&claimed.lease).await.expect("parks");
    assert_eq!(parking, Parking::Parked);
    ids
}

#[tokio::test]
async fn a_waiting_call_is_listed_decided_once_and_told_in_the_stream() {
    let app = App::start().await;
    let thread = app.thread().await;
    let mut reader = app.send_message(&thread, "Clean up").await;
    let mut claimed = claim(&app.database.store).await;
    let ids = ask(&app, &mut claimed, &["toolu_1"]).await;
    reader.until("permission.requested").await;

    let path = format!("/threads/{thread}/permission-requests");
    let listed = app.get(&path).await.ok();
    assert_eq!(
        redacted(listed.clone())["data"],
        json!([{
            "requestId": "perm_[id]", "threadId": "thread_[id]", "runId": "run_[id]", "callId": "toolu_1",
            "userId": "proj_[id]", "toolName": "Bash", "input": r#"{"command": "rm x"}"#,
            "currentMode": "ask_for_permission", "requiredMode": "full_access",
            "reason": "The permission set asks first: Bash(rm *)", "rule": "Bash(rm *)",
            "createdAt": "[time]", "expiresAt": "[time]",
        }])
    );
    assert_eq!(app.get(&format!("/threads/{thread}/status")).await.ok()["status"], "permission_asked");
    assert_eq!(app.get(&format!("/threads/{thread}/runs")).await.ok()["data"][0]["status"], "waiting");
    app.post(&format!("/threads/{thread}/messages"), json!({"content": "More", "stream": false})).await.failed(409);

    let decision = format!("/v1/threads/{thread}/permission-requests/{}/decision", ids[0]);
    for (body, part) in [
        (json!({}), "decision"),
        (json!({"decision": "maybe"}), "must be allow or deny"),
        (json!({"decision": "deny", "updatedInput": {}}), "has no meaning"),
        (json!({"decision": "allow", "updatedInput": "rm"}), "updatedInput"),
    ] {
        let message = app.post(&decision, body).await.failed(400);
        assert!(message.contains(part), "{message}");
    }
    let body = json!({"decision": "allow", "updatedInput": {"command": "rm y"}, "reason": "fine"});
    let won = app.post(&decision, body).await.ok();
    assert_eq!(
        won,
        json!({"ok": true, "requestId": ids[0].as_str(), "decision": "allow", "active": true, "message": null})
    );
    let lost = app.post(&decision, json!({"decision": "deny"})).await.ok();
    assert_eq!((&lost["ok"], &lost["active"], &lost["decision"]), (&json!(false), &json!(false), &json!("allow")));
    assert_eq!(lost["message"], "It was decided before: allow");
    assert_eq!(app.get(&path).await.ok()["data"], json!([]));

    let claimed = claim(&app.database.store).await;
    finish(&app.database.store, &claimed, completed("done")).await;
    let text = reader.rest().await;
    let names = names(&text);
    assert_eq!(
        names[2..],
        ["permission.requested", "permission.decided", "log", "response.completed", "stream.completed"]
    );
    let all = data(&text);
    assert_eq!(all[2]["request"]["expiresAt"], listed["data"][0]["expiresAt"]);
    assert_eq!(all[2]["request"]["itemId"], "toolu_1");
    assert_eq!(all[3]["decision"]["by"], "user");
    assert_eq!(all[3]["decision"]["updatedInput"], r#"{"command":"rm y"}"#);
    assert_eq!(all[4]["log"]["message"], "goes on after the decision");
    // The same again for whoever comes later.
    assert_eq!(frames(&app.follow(&thread, 0).await.rest().await), frames(&text));
}

#[tokio::test]
async fn a_cancel_ends_what_waits_and_a_later_decision_is_told_so() {
    let app = App::start().await;
    let thread = app.thread().await;
    let reader = app.send_message(&thread, "Clean up").await;
    let mut claimed = claim(&app.database.store).await;
    let ids = ask(&app, &mut claimed, &["toolu_1", "toolu_2"]).await;
    app.post(&format!("/threads/{thread}/permission-requests/{}/decision", ids[1]), json!({"decision": "allow"}))
        .await
        .ok();
    app.post(&format!("/threads/{thread}/cancel"), json!({})).await.ok();
    let text = reader.rest().await;
    assert_eq!(
        names(&text)[2..],
        [
            "permission.requested",
            "permission.requested",
            "permission.decided",
            "permission.decided",
            "response.item.completed",
            "response.item.completed",
            "response.failed",
            "stream.completed"
        ]
    );
    let path = format!("/threads/{thread}/permission-requests/{}/decision", ids[0]);
    let late = app.post(&path, json!({"decision": "allow"})).await.ok();
    assert_eq!((&late["ok"], &late["decision"], &late["active"]), (&json!(false), &json!("deny"), &json!(false)));
    assert_eq!(late["message"], "The run ended before it was decided");
    let entries = app.database.store.load_transcript(&claimed.run.thread_id).await.expect("reads");
    assert_eq!(entries.len(), 2, "both calls are answered, once");
}

#[tokio::test]
async fn another_projects_requests_are_not_there() {
    let app = App::start().await;
    let (_, key) = app.another_project().await;
    let (thread, other) = (app.thread().await, app.thread().await);
    app.post(&format!("/threads/{thread}/messages"), json!({"content": "x", "stream": false})).await.ok();
    let mut claimed = claim(&app.database.store).await;
    let ids = ask(&app, &mut claimed, &["toolu_1"]).await;
    let path = format!("/threads/{thread}/permission-requests");
    app.call_with(&key, Method::GET, &path, "").await.failed(404);
    let body = json!({"decision": "allow"}).to_string();
    app.call_with(&key, Method::POST, &format!("{path}/{}/decision", ids[0]), body.clone()).await.failed(404);
    // Nor is it there under another thread, nor one that nobody asked.
    let elsewhere = format!("/threads/{other}/permission-requests/{}/decision", ids[0]);
    app.post(&elsewhere, json!({"decision": "allow"})).await.failed(404);
    app.post(&format!("{path}/perm_nothing/decision"), json!({"decision": "allow"})).await.failed(404);
    assert_eq!(app.get(&path).await.ok()["data"].as_array().expect("a list").len(), 1, "nothing was decided");
    app.delete(&format!("/threads/{thread}")).await.ok();
    app.post(&format!("{path}/{}/decision", ids[0]), json!({"decision": "allow"})).await.failed(404);
}

#[tokio::test]
async fn a_deleted_environment_ends_what_waits_in_it() {
    let app = App::start().await;
    let environment = app.post("/environments", json!({"name": "Brief"})).await.ok();
    let environment = environment["environment"]["id"].as_str().expect("an id").to_owned();
    let thread = app.post("/threads", json!({"environmentId": environment})).await.ok();
    let thread = thread["thread"]["id"].as_str().expect("an id").to_owned();
    app.post(&format!("/threads/{thread}/messages"), json!({"content": "x", "stream": false})).await.ok();
    let mut claimed = claim(&app.database.store).await;
    ask(&app, &mut claimed, &["toolu_1"]).await;
    app.delete(&format!("/environments/{environment}")).await.ok();
    let run =
        app.database.store.find_run(&app.database.project, &claimed.run.id).await.expect("reads").expect("is there");
    assert_eq!(run.outcome, Some(Outcome::Cancelled));
    assert_eq!(app.get(&format!("/threads/{thread}/permission-requests")).await.ok()["data"], json!([]));
}

#[tokio::test]
async fn a_permission_set_is_given_back_and_refused_where_it_is_none() {
    let app = App::start().await;
    let set = json!({
        "version": 1, "subjectType": "agent", "defaultAccess": "full_access",
        "actions": {"local_shell": {"ringId": "ring_2", "access": "ask_for_permission"}},
        "rules": {"deny": ["Read(/workspace/secrets/**)"], "allow": ["Bash(npm run *)"]},
    });
    let made = app.post("/agents", json!({"name": "a", "model": "m", "permissionSet": set})).await.ok();
    assert_eq!(made["agent"]["permissionSet"], set);
    let id = made["agent"]["id"].as_str().expect("an id");
    let wrong = json!({"rules": {"deny": ["Bash(rm"]}});
    let message = app.patch(&format!("/agents/{id}"), json!({ "permissionSet": wrong })).await.failed(400);
    assert!(message.contains("the bracket is not closed"), "{message}");
    app.post("/agents", json!({"name": "a", "model": "m", "permissionSet": wrong})).await.failed(400);

    let thread = app.thread().await;
    let messages = format!("/threads/{thread}/messages");
    app.post(&messages, json!({"content": "x", "permissionSet": wrong, "stream": false})).await.failed(400);
    app.post(&messages, json!({"content": "x", "permissionSet": set, "stream": false})).await.ok();
    let claimed = claim(&app.database.store).await;
    assert_eq!(claimed.run.options.stored["permissionSet"], set);
}

#[tokio::test]
async fn a_run_that_waits_can_be_paused_and_what_it_waits_for_decided_meanwhile() {
    let app = App::start().await;
    let thread = app.thread().await;
    let mut reader = app.send_message(&thread, "Clean up").await;
    reader.until("response.created").await;
    let mut claimed = claim(&app.database.store).await;
    let ids = ask(&app, &mut claimed, &["toolu_1", "toolu_2"]).await;
    let control = format!("/threads/{thread}/runs/{}/control", claimed.run.id);
    let status = async || app.get(&format!("/threads/{thread}/status")).await.ok()["status"].clone();
    let decide = async |id: &PermissionRequestId| {
        let path = format!("/threads/{thread}/permission-requests/{id}/decision");
        app.post(&path, json!({"decision": "allow"})).await.ok()
    };
    let nobody = async || app.database.store.claim_runs(9, super::TTL).await.expect("claims").is_empty();

    let paused = app.post(&control, json!({"action": "pause"})).await.ok();
    assert_eq!((&paused["run"]["status"], &paused["effectApplied"]), (&json!("paused"), &json!(true)));
    assert_eq!(status().await, "permission_asked", "somebody is still asked");
    // Resumed with calls still open, it waits for them again.
    let resumed = app.post(&control, json!({"action": "resume"})).await.ok();
    assert_eq!(resumed["run"]["status"], "waiting");
    app.post(&control, json!({"action": "pause"})).await.ok();
    assert_eq!(decide(&ids[0]).await["ok"], true);
    assert_eq!(decide(&ids[1]).await["ok"], true);
    assert!(nobody().await, "decided, and still paused");
    assert_eq!(status().await, "running");
    assert_eq!(app.post(&control, json!({"action": "resume"})).await.ok()["run"]["status"], "queued");
    let next = claim(&app.database.store).await;
    assert_eq!(next.run.id, claimed.run.id);
    finish(&app.database.store, &next, completed("done")).await;
    reader.until("stream.completed").await;
}

#[tokio::test]
async fn a_paused_run_that_waited_is_cancelled_like_any_other() {
    let app = App::start().await;
    let thread = app.thread().await;
    app.send_message(&thread, "Clean up").await.until("response.created").await;
    let mut claimed = claim(&app.database.store).await;
    ask(&app, &mut claimed, &["toolu_1"]).await;
    let control = format!("/threads/{thread}/runs/{}/control", claimed.run.id);
    app.post(&control, json!({"action": "pause"})).await.ok();
    app.post(&control, json!({"action": "cancel"})).await.ok();
    assert_eq!(app.get(&format!("/threads/{thread}/status")).await.ok()["status"], "cancelled");
    assert_eq!(app.get(&format!("/threads/{thread}/permission-requests")).await.ok()["data"], json!([]));
}
