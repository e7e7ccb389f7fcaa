//! Events that are kept no longer: every view says so, and what is left is whole.

use std::time::Duration;

use super::*;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// A thread with three runs, the first two of them ten days old and forgotten; and how many events that were.
async fn shortened(app: &App) -> (String, i64) {
    let thread = app.thread().await;
    let path = format!("/threads/{thread}/messages");
    let headers = [("idempotency-key", "first")];
    let mut first = app.open(Method::POST, &path, &headers, json!({"content": "One"})).await;
    first.until("response.created").await;
    work_off(&app.database.store, "The first answer").await;
    app.send_message(&thread, "Two").await.until("response.created").await;
    work_off(&app.database.store, "The second answer").await;
    let gone =
        app.get(&format!("/threads/{thread}/events?limit=1000")).await.ok()["data"].as_array().map_or(0, Vec::len);
    let pool = app.database.pool().await;
    for sql in [
        "update events set created_at = created_at - interval '10 days'",
        "update runs set completed_at = completed_at - interval '10 days'",
        "update threads set created_at = created_at - interval '10 days'",
    ] {
        sqlx::query(sql).execute(&pool).await.expect("time passes");
    }
    app.send_message(&thread, "Three").await.until("response.created").await;
    work_off(&app.database.store, "The third answer").await;
    assert_eq!(app.database.store.forget_events(11 * DAY, 10).await.expect("sweeps"), 0, "nothing is so old");
    assert_eq!(app.database.store.forget_events(DAY, 10).await.expect("sweeps"), gone as u64);
    assert_eq!(app.database.store.forget_events(DAY, 10).await.expect("sweeps"), 0, "the rest stays");
    (thread, gone as i64)
}

fn sequences(list: &Value) -> Vec<i64> {
    list.as_array().expect("a list").iter().map(|event| event["sequence"].as_i64().expect("a number")).collect()
}

#[tokio::test]
async fn a_page_begins_with_what_is_missing_of_it() {
    let app = App::start().await;
    let (thread, gone) = shortened(&app).await;
    let path = format!("/threads/{thread}/events");
    let page = app.get(&format!("{path}?limit=3")).await.ok();
    assert_eq!(page["data"][0]["type"], "gap");
    assert_eq!(page["data"][0]["payload"], json!({"gap": {"from": 1, "to": gone, "reason": "retention"}}));
    assert_eq!(sequences(&page["data"]), [gone, gone + 1, gone + 2, gone + 3]);
    // The page's cursor and the gap's own number lead to the same place as ever.
    let cursor = page["nextCursor"].as_str().expect("there is more");
    let next = app.get(&format!("{path}?cursor={cursor}&limit=2")).await.ok();
    assert_eq!(sequences(&next["data"]), [gone + 4, gone + 5]);
    let from_within = app.get(&format!("{path}?after=4&limit=1")).await.ok();
    assert_eq!(from_within["data"][0]["payload"]["gap"], json!({"from": 5, "to": gone, "reason": "retention"}));
    // A part that is gone as a whole is all gap; backwards there is nothing before it.
    let all_gone = app.get(&format!("{path}?before=4&limit=2")).await.ok();
    assert_eq!(all_gone["data"][0]["payload"]["gap"]["to"], 3);
    assert_eq!((all_gone["data"].as_array().map(Vec::len), &all_gone["has_more"]), (Some(1), &json!(false)));
}

#[tokio::test]
async fn a_stream_tells_the_gap_and_goes_on_after_it() {
    let app = App::start().await;
    let (thread, gone) = shortened(&app).await;
    let text = app.follow(&thread, 2).await.rest().await;
    let gap = format!("event: gap\nid: {gone}\ndata: {{\"type\":\"gap\",\"gap\":{{\"from\":3,\"to\":{gone}");
    assert!(text.starts_with(&gap), "{text}");
    assert!(text.contains("The third answer") && !text.contains("The second answer"), "{text}");
    // Resumed behind the gap, it is the same stream without it.
    let rest = app.follow(&thread, gone).await.rest().await;
    assert_eq!(text.split_once("\n\n").expect("frames").1, rest);
    assert_eq!(rest.matches("\nid: ").count() as i64, app_last(&app, &thread).await - gone);
}

async fn app_last(app: &App, thread: &str) -> i64 {
    let page = app.get(&format!("/threads/{thread}/events?limit=1000")).await.ok();
    *sequences(&page["data"]).last().expect("events")
}

#[tokio::test]
async fn a_repeated_message_whose_events_are_gone_is_still_told_its_answer() {
    let app = App::start().await;
    let (thread, _) = shortened(&app).await;
    let path = format!("/threads/{thread}/messages");
    let headers = [("idempotency-key", "first")];
    let text = app.open(Method::POST, &path, &headers, json!({"content": "One"})).await.rest().await;
    let names: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("event: ")).collect();
    assert_eq!(names, ["gap", "response.completed", "stream.completed"], "{text}");
    assert!(text.contains("\"content\":\"The first answer\""), "{text}");
}

#[tokio::test]
async fn every_view_of_the_log_says_what_it_lacks() {
    let app = App::start().await;
    let (thread, gone) = shortened(&app).await;
    let gap = json!({"from": 1, "to": gone, "reason": "retention"});
    for view in ["diffs", "actions", "activity-groups", "trace-clusters", "logs"] {
        let told = app.get(&format!("/threads/{thread}/{view}")).await.ok();
        assert_eq!(told["gap"], gap, "{view}");
    }
    let actions = app.get(&format!("/threads/{thread}/actions?after={gone}")).await.ok();
    assert_eq!((&actions["gap"], actions["data"].as_array().map(Vec::len)), (&Value::Null, Some(1)));

    // What was said is no event, and stays in its order.
    let logs = app.get(&format!("/threads/{thread}/logs")).await.ok();
    let lines: Vec<_> = logs["logs"].as_array().unwrap().iter().take(6).map(|line| line["message"].clone()).collect();
    let told = format!("The events 1 to {gone} are kept no longer.");
    assert_eq!(lines[..5], ["One", "The first answer", "Two", "The second answer", told.as_str()]);
    assert_eq!(lines[5], "Three");

    let timeline = app.get(&format!("/threads/{thread}/timeline")).await.ok();
    let kinds: Vec<_> = timeline["data"].as_array().unwrap().iter().map(|item| item["type"].clone()).collect();
    assert_eq!(kinds[..8], ["message", "run", "message", "message", "run", "message", "event", "message"]);
    assert_eq!(timeline["data"][6]["event"]["type"], "gap");
    let messages = app.get(&format!("/threads/{thread}/messages")).await.ok();
    assert_eq!(messages["total_count"], 6);
}

#[tokio::test]
async fn a_run_that_is_not_over_keeps_all_of_its_events() {
    let app = App::start().await;
    let thread = app.thread().await;
    let mut reader = app.send_message(&thread, "Wait").await;
    reader.until("response.created").await;
    let mut claimed = claim(&app.database.store).await;
    record(&app.database.store, &mut claimed, vec![said("So far")]).await;
    let pool = app.database.pool().await;
    for sql in [
        "update events set created_at = created_at - interval '10 days'",
        "update threads set created_at = created_at - interval '10 days'",
    ] {
        sqlx::query(sql).execute(&pool).await.expect("time passes");
    }
    assert_eq!(app.database.store.forget_events(DAY, 10).await.expect("sweeps"), 0);
    finish(&app.database.store, &claimed, completed("done")).await;
    assert_eq!(app.database.store.forget_events(DAY, 10).await.expect("sweeps"), 0, "it ended just now");
    let text = app.follow(&thread, 0).await.rest().await;
    assert!(!text.contains("event: gap") && text.contains("So far"), "{text}");
}
