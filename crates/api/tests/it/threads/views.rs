//! The event log told in other forms: logs, diffs, actions, groups, clusters and the timeline.

use serde_json::{Value, json};

use super::*;

fn called(id: &str, name: &str, input: Value, result: Option<ToolResult>) -> Item {
    let input = RawValue::from_string(input.to_string()).expect("JSON");
    Item::ToolCall(ToolCall { id: id.into(), name: name.into(), input, result })
}

fn result(is_error: bool, text: &str, detail: Option<Detail>) -> Option<ToolResult> {
    Some(ToolResult { is_error, text: text.into(), duration_ms: 5, detail })
}

fn wrote(path: &str, is_new: bool, diff: &str) -> Option<Detail> {
    Some(Detail::FileWrite { path: path.into(), is_new, diff: diff.into(), additions: 2, deletions: 1 })
}

/// Runs twice: the first writes files and fails once, the second is still in a call.
async fn worked(app: &App) -> (String, String, String) {
    let thread = app.thread().await;
    let path = format!("/threads/{thread}/messages");
    let first = app.post(&path, json!({"content": "Write", "stream": false})).await.ok();
    let mut claimed = claim(&app.database.store).await;
    let calls = [
        ("c1", "Write", json!({"file_path": "/workspace/a"}), result(false, "ok", wrote("/workspace/a", true, "+1\n"))),
        ("c2", "Edit", json!({"file_path": "/workspace/a"}), result(false, "ok", wrote("/workspace/a", false, "+2"))),
        ("c3", "Bash", json!({"command": "false\nx"}), result(true, "exit 1", None)),
        ("c4", "Write", json!({"file_path": "/workspace/b"}), result(false, "ok", wrote("/workspace/b", false, "+3"))),
    ];
    for (id, name, input, result) in calls {
        let started = Event::ItemStarted { item: called(id, name, input.clone(), None) };
        let completed = Event::ItemCompleted { item: called(id, name, input, result) };
        record(&app.database.store, &mut claimed, vec![started, completed]).await;
    }
    record(&app.database.store, &mut claimed, vec![said("All written.")]).await;
    finish(&app.database.store, &claimed, completed("All written.")).await;
    let second = app.post(&path, json!({"content": "Look", "stream": false})).await.ok();
    let mut claimed = claim(&app.database.store).await;
    let started = Event::ItemStarted { item: called("c5", "Bash", json!({"command": "ls"}), None) };
    record(&app.database.store, &mut claimed, vec![started]).await;
    let id = |made: &Value| made["run"]["id"].as_str().expect("an id").to_owned();
    (thread, id(&first), id(&second))
}

#[tokio::test]
async fn changed_files_are_shown_by_thread_and_by_run() {
    let app = App::start().await;
    let (thread, first, second) = worked(&app).await;
    let expected = json!([
        {"path": "/workspace/a", "status": "added", "type": "created", "diff": "+1\n+2", "additions": 4, "deletions": 2},
        {"path": "/workspace/b", "status": "modified", "type": "modified", "diff": "+3", "additions": 2, "deletions": 1},
    ]);
    for path in [thread.clone(), first.clone()] {
        let diffs = app.get(&format!("/threads/{path}/diffs")).await.ok();
        assert_eq!((&diffs["diffs"], &diffs["data"]), (&expected, &expected));
    }
    let path = format!("/threads/{thread}/diffs");
    assert_eq!(app.get(&format!("{path}?executionId={first}")).await.ok()["diffs"], expected);
    assert_eq!(app.get(&format!("{path}?executionId={second}")).await.ok()["diffs"], json!([]));
    app.get(&format!("{path}?executionId=run_none")).await.failed(404);
    app.get("/threads/run_none/diffs").await.failed(404);
    let (_, other) = app.another_project().await;
    app.call_with(&other, Method::GET, &format!("/threads/{first}/diffs"), "").await.failed(404);
    app.delete(&format!("/threads/{thread}")).await.ok();
    app.get(&format!("/threads/{first}/diffs")).await.failed(404);
}

#[tokio::test]
async fn actions_are_calls_with_what_came_out_of_them() {
    let app = App::start().await;
    let (thread, first, second) = worked(&app).await;
    let path = format!("/threads/{thread}/actions");
    let list = app.get(&path).await.ok();
    assert_eq!(list["actions"], list["data"]);
    let told = |list: &Value| -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        list["actions"].as_array().expect("a list").iter().map(|a| (text(&a["summary"]), text(&a["status"]))).collect()
    };
    let all = told(&list);
    assert_eq!(all[0], ("Write: /workspace/a".into(), "completed".into()));
    assert_eq!(all[2], ("Bash: false".into(), "failed".into()));
    assert_eq!(all[4], ("Bash: ls".into(), "running".into()));
    let one = &list["actions"][0];
    assert_eq!((&one["id"], &one["runId"], &one["toolName"]), (&json!("c1"), &json!(first), &json!("Write")));
    assert_eq!((&one["output"], &one["activityGroupId"]), (&json!("ok"), &json!(format!("group_{first}"))));
    assert_eq!(one["touchedResources"], json!([{"type": "file", "path": "/workspace/a", "access": "created"}]));
    let part = app.get(&format!("{path}?limit=2")).await.ok();
    assert_eq!((told(&part), &part["has_more"]), (all[..2].to_vec(), &json!(true)));
    let cursor = part["nextCursor"].as_str().expect("a cursor");
    assert_eq!(told(&app.get(&format!("{path}?cursor={cursor}")).await.ok()), all[2..]);
    assert_eq!(told(&app.get(&format!("{path}?runId={second}")).await.ok()), all[4..]);
    assert_eq!(told(&app.get(&format!("{path}?groupId=group_{first}")).await.ok()), all[..4]);
    assert_eq!(told(&app.get(&format!("{path}?groupId=group_{first}&runId={second}")).await.ok()), []);
    app.get(&format!("{path}?runId=run_none")).await.failed(404);
    app.get(&format!("{path}?after=x")).await.failed(400);

    let clusters = app.get(&format!("/threads/{thread}/trace-clusters?stepLimit=1")).await.ok();
    let counts: Vec<_> =
        clusters["clusters"].as_array().expect("a list").iter().map(|c| (&c["id"], &c["count"])).collect();
    assert_eq!(counts[0], (&json!("Write:completed"), &json!(2)));
    assert_eq!(counts.len(), 4);
    assert_eq!(clusters["clusters"][0]["actionIds"], json!(["c1"]));

    app.post(&format!("/threads/{thread}/cancel"), json!({})).await.ok();
}

#[tokio::test]
async fn groups_are_runs_with_their_calls() {
    let app = App::start().await;
    let (thread, first, second) = worked(&app).await;
    let path = format!("/threads/{thread}/activity-groups");
    let list = app.get(&path).await.ok();
    assert_eq!((&list["groups"], &list["activityGroups"]), (&list["data"], &list["data"]));
    let (one, two) = (&list["data"][0], &list["data"][1]);
    assert_eq!((&one["runId"], &one["status"]), (&json!(first), &json!("sealed")));
    assert_eq!(one["actionIds"], json!(["c1", "c2", "c3", "c4"]));
    assert_eq!((&one["liveSummary"], &one["metrics"]["actionCount"]), (&json!("All written."), &json!(0)));
    assert_eq!((&two["runId"], &two["status"], &two["actionIds"]), (&json!(second), &json!("open"), &json!(["c5"])));
    assert!(two["startSequence"].as_i64() > one["endSequence"].as_i64());
    assert_eq!(one["eventIds"][0], json!(format!("{thread}:{}", one["startSequence"])));
    let ids = |list: Value| -> Vec<Value> {
        list["data"].as_array().expect("a list").iter().map(|group| group["runId"].clone()).collect()
    };
    assert_eq!(ids(app.get(&format!("{path}?status=open")).await.ok()), [json!(second)]);
    assert_eq!(ids(app.get(&format!("{path}?runId={first}")).await.ok()), [json!(first)]);
    let part = app.get(&format!("{path}?limit=1")).await.ok();
    let cursor = part["nextCursor"].as_str().expect("a cursor");
    assert_eq!(ids(app.get(&format!("{path}?cursor={cursor}")).await.ok()), [json!(second)]);
    app.get(&format!("{path}?status=ajar")).await.failed(400);
}

#[tokio::test]
async fn a_log_has_both_spellings_and_what_was_added_at_its_place() {
    let app = App::start().await;
    let thread = app.thread().await;
    let path = format!("/threads/{thread}/logs");
    let added = json!({"logs": [
        {"message": "before", "type": "warning", "eventType": "bridge", "metadata": {"k": 1}},
        {"role": "user", "content": "typed elsewhere", "timestamp": "2025-01-15T10:30:00Z", "relativeTime": "00:07"},
    ]});
    assert_eq!(app.post(&path, added).await.ok(), json!({"success": true, "logsAdded": 2}));
    app.post(&format!("/threads/{thread}/messages"), json!({"content": "Hello", "stream": false})).await.ok();
    work_off(&app.database.store, "done").await;
    app.post(&path, json!({"logs": [{"message": "after"}]})).await.ok();

    let log = app.get(&path).await.ok();
    assert_eq!(log["logs"], log["data"]);
    assert_eq!(
        (&log["threadId"], &log["status"], &log["inputTokens"]),
        (&json!(thread), &json!("completed"), &json!(0))
    );
    let lines = log["logs"].as_array().expect("a list");
    let told: Vec<_> =
        lines.iter().map(|l| (l["role"].as_str().expect("a role"), l["content"].as_str().expect("a text"))).collect();
    assert_eq!(
        told,
        [
            ("execution_log", "before"),
            ("user", "typed elsewhere"),
            ("user", "Hello"),
            ("execution_log", "The run began."),
            ("execution_log", "The computer is being started."),
            ("execution_log", "waiting"),
            ("execution_log", "hm"),
            ("assistant", "I will look.\u{2028}\u{2029}\u{85}"),
            ("execution_log", "Bash: ls"),
            ("execution_log", "The run is completed."),
            ("execution_log", "after"),
        ]
    );
    for line in lines {
        assert_eq!(
            (&line["content"], &line["timestamp"], &line["relativeTime"]),
            (&line["message"], &line["createdAt"], &line["time"])
        );
    }
    assert_eq!(
        (&lines[0]["type"], &lines[0]["eventType"], &lines[0]["metadata"]["k"]),
        (&json!("warning"), &json!("bridge"), &json!(1))
    );
    assert_eq!((&lines[1]["createdAt"], &lines[1]["time"]), (&json!("2025-01-15T10:30:00.000Z"), &json!("00:07")));
    assert_eq!((&lines[2]["isUserMessage"], &lines[6]["isReasoning"]), (&json!(true), &json!(true)));
    assert_eq!((&lines[7]["isLLMResponse"], &lines[8]["isActionSummary"]), (&json!(true), &json!(true)));
    assert_eq!((&lines[8]["metadata"]["output"], &lines[8]["time"]), (&json!("app.py\n"), &json!("00:00")));
    assert_eq!((&lines[9]["type"], &lines[5]["type"]), (&json!("success"), &json!("warning")));
    let part = app.get(&format!("{path}?includeConversation=false&compact=1")).await.ok();
    let part = part["logs"].as_array().expect("a list");
    assert_eq!(part.len(), 9);
    assert!(part.iter().all(|line| line["metadata"].is_null()));
    for bad in [
        json!({}),
        json!({"logs": [{}]}),
        json!({"logs": [{"message": "m", "type": "loud"}]}),
        json!({"logs": [{"message": "m", "role": "robot"}]}),
        json!({"logs": [{"message": "m", "timestamp": "yesterday"}]}),
        json!({"logs": vec![json!({"message": "m"}); 1001]}),
    ] {
        app.post(&path, bad).await.failed(400);
    }
}

#[tokio::test]
async fn a_timeline_has_messages_and_runs_among_the_events() {
    let app = App::start().await;
    let thread = app.thread().await;
    app.post(&format!("/threads/{thread}/messages"), json!({"content": "Hello", "stream": false})).await.ok();
    work_off(&app.database.store, "done").await;
    let path = format!("/threads/{thread}/timeline");
    let all = app.get(&path).await.ok();
    let told = |page: &Value| -> Vec<String> {
        let name = |item: &Value| match item["type"].as_str() {
            Some("message") => item["message"]["content"].as_str().expect("a text").to_owned(),
            Some("event") => item["event"]["type"].as_str().expect("a type").to_owned(),
            other => other.expect("a type").to_owned(),
        };
        page["data"].as_array().expect("a list").iter().map(name).collect()
    };
    let names = told(&all);
    assert_eq!(names[..4], ["Hello", "run", "response.created", "response.started"]);
    assert_eq!(names[names.len() - 2..], ["response.completed", "done"]);
    assert_eq!((&all["has_more"], &all["nextCursor"]), (&json!(false), &Value::Null));
    // Pages make the whole.
    let (mut cursor, mut pages) = (String::new(), Vec::new());
    loop {
        let page = app.get(&format!("{path}?limit=2&cursor={cursor}")).await.ok();
        pages.extend(told(&page));
        match page["nextCursor"].as_str() {
            Some(next) => cursor = next.to_owned(),
            None => break,
        }
    }
    assert_eq!(pages, names);
    let newest = app.get(&format!("{path}?before=1000&limit=2")).await.ok();
    assert_eq!(told(&newest), Vec::<String>::new(), "numbers before 1000 are beyond the log");

    let copy = app.post(&format!("/threads/{thread}/copy"), json!({})).await.ok();
    let copied = app.get(&format!("/threads/{}/timeline", copy["thread"]["id"].as_str().expect("an id"))).await.ok();
    assert_eq!(told(&copied), ["Hello", "done"]);
}

#[tokio::test]
async fn a_text_is_classified_by_rule() {
    let app = App::start().await;
    let thread = app.thread().await;
    let path = format!("/threads/{thread}/activity/classify");
    let route = |reply: Value| (reply["decision"]["route"].clone(), reply["suggestedTransport"].clone());
    assert_eq!(route(app.post(&path, json!({"content": "x"})).await.ok()), (json!("none"), json!("message")));
    let run = app.post(&format!("/threads/{thread}/messages"), json!({"content": "Go", "stream": false})).await.ok();
    for (mode, expected) in
        [(json!(null), "worker_checkpoint"), (json!("interrupt"), "worker_interrupt"), (json!("fyi"), "human_fyi")]
    {
        let reply = app.post(&path, json!({"content": "x", "mode": mode})).await.ok();
        assert_eq!((&reply["targetRunId"], &reply["targetRunActive"]), (&run["run"]["id"], &json!(true)));
        assert_eq!(route(reply), (json!(expected), json!("steering")));
    }
    app.post(&path, json!({"content": " "})).await.failed(400);
    app.post(&path, json!({"content": "x", "mode": "shout"})).await.failed(400);
    app.post(&path, json!({"content": "x", "replyToRunId": "run_none"})).await.failed(404);
    assert_eq!(app.get(&format!("/threads/{thread}/messages")).await.ok()["total_count"], 1, "nothing was sent");
}

#[tokio::test]
async fn a_text_is_sent_where_it_belongs() {
    let app = App::start().await;
    let thread = app.thread().await;
    let path = format!("/threads/{thread}/activity/messages");
    // Nothing is under way: a run begins with it.
    let begun = app.post(&path, json!({"content": "Begin"})).await.ok();
    assert_eq!((&begun["routeDecision"]["route"], &begun["executionStarted"]), (&json!("none"), &json!(true)));
    assert_eq!((&begun["delivery"]["transport"], &begun["run"]["status"]), (&json!("message"), &json!("queued")));
    let mut claimed = claim(&app.database.store).await;
    assert_eq!(begun["message"]["runId"], claimed.run.id.as_str());
    // Under way: notes for it.
    for (mode, route) in [("checkpoint", "worker_checkpoint"), ("fyi", "human_fyi")] {
        let sent = app.post(&path, json!({"content": format!("a {mode}"), "mode": mode})).await.ok();
        assert_eq!((&sent["routeDecision"]["route"], &sent["run"]["id"]), (&json!(route), &begun["run"]["id"]));
        assert_eq!((&sent["executionStarted"], &sent["delivered"]), (&json!(false), &json!(false)));
    }
    let notes = app.database.store.list_steering(&claimed.run.id).await.expect("reads");
    assert_eq!(notes.iter().map(|note| note.content.as_str()).collect::<Vec<_>>(), ["a checkpoint", "a fyi"]);
    record(&app.database.store, &mut claimed, vec![said("So far.")]).await;
    // In its place: the run is asked to stop, and the text is next.
    let target = json!({"content": "Rather this", "mode": "interrupt", "targetType": "run", "targetId": claimed.run.id.as_str()});
    let sent = app.post(&path, target).await.ok();
    assert_eq!(
        (&sent["routeDecision"]["route"], &sent["executionStarted"]),
        (&json!("worker_interrupt"), &json!(true))
    );
    assert_ne!(sent["run"]["id"], begun["run"]["id"]);
    let renewed = app.database.store.renew(&claimed.lease.renewal(), TTL).await.expect("the lease is good");
    assert!(renewed.is_cancel_requested && renewed.is_interrupt);
    finish(&app.database.store, &claimed, Outcome::Interrupted).await;
    // A run that is over has no reader any more: a new one begins.
    let next = claim(&app.database.store).await;
    finish(&app.database.store, &next, completed("done")).await;
    while let Some(left) = app.database.store.claim_runs(1, TTL).await.expect("claims").pop() {
        finish(&app.database.store, &left, completed("done")).await;
    }
    let reply = json!({"content": "And then?", "replyToRunId": next.run.id.as_str()});
    assert_eq!(app.post(&path, reply).await.ok()["executionStarted"], true);

    app.post(&path, json!({"content": " "})).await.failed(400);
    app.post(&path, json!({})).await.failed(400);
    app.post(&path, json!({"content": "x", "mode": "shout"})).await.failed(400);
    app.post(&path, json!({"content": "x", "replyToRunId": "run_none"})).await.failed(404);
}
