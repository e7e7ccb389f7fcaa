//! A stream that broke off and was resumed consists of the same bytes as one that did not.

use axum::http::Method;
use domain::event::Delta;
use serde_json::{Value, json};

use super::*;

/// Gives the number after its last `\nid: `, and how many of the bytes that a client has seen come no later: what it
/// keeps, since what comes after is sent again.
fn last_id(seen: &str) -> (i64, usize) {
    let mut end = 0;
    let mut kept = (0, 0);
    for frame in frames(seen).into_iter().filter(|frame| frame.ends_with("\n\n")) {
        end += frame.len();
        if let Some(id) = frame.lines().find_map(|line| line.strip_prefix("id: ")) {
            kept = (id.parse().expect("a number"), end);
        }
    }
    kept
}

/// Leaves out the frames that are never repeated.
fn durable(text: &str) -> String {
    frames(text).into_iter().filter(|frame| !frame.contains(".delta\n") && !frame.starts_with(':')).collect()
}

#[tokio::test]
async fn wherever_a_stream_is_cut_its_halves_make_the_whole() {
    let app = App::start().await;
    let store = app.database.store.clone();
    let thread = app.thread().await;
    let mut reader = app.send_message(&thread, "Hello").await;
    let mut claimed = claim(&store).await;
    reader.until("response.started").await;
    show(&store, &claimed, Delta::Text("I will".into()));
    reader.until(".delta").await;
    // A worker takes over in the middle.
    let pool = app.database.pool().await;
    sqlx::query("update runs set lease_until = now() - interval '1 second', started_at = started_at - interval '65 s'")
        .execute(&pool)
        .await
        .expect("time passes");
    drop(claimed);
    claimed = claim(&store).await;
    for events in work() {
        record(&store, &mut claimed, events).await;
    }
    finish(&store, &claimed, completed("done\u{2028}")).await;
    let text = reader.rest().await;
    assert!(text.contains("\"time\":\"01:05\""), "log lines count from the run's beginning");

    let whole = durable(&text);
    assert_ne!(whole, text, "there was a delta");
    let count = data(&whole).last().expect("events")["sequence"].as_i64().expect("a number");
    let mut rests = Vec::new();
    for after in 0..=count {
        rests.push(app.follow(&thread, after).await.rest().await);
    }
    assert_eq!(rests[0], whole);
    for cut in (0..=text.len()).filter(|cut| text.is_char_boundary(*cut)) {
        let (after, kept) = last_id(&text[..cut]);
        let joined = durable(&text[..kept]) + &rests[usize::try_from(after).expect("not negative")];
        assert_eq!(joined, whole, "cut after {cut} bytes");
    }
}

#[tokio::test]
async fn a_stream_is_resumed_while_the_run_goes_on() {
    let app = App::start().await;
    let store = &app.database.store;
    let thread = app.thread().await;
    let mut reader = app.send_message(&thread, "Hello").await;
    let mut beside = app.follow(&thread, 0).await;
    let mut claimed = claim(store).await;
    let mut seen = String::new();
    for events in work() {
        reader.until(&format!("id: {}\n", claimed.last_sequence)).await;
        let (after, kept) = last_id(&reader.text);
        seen.push_str(&reader.text[..kept]);
        drop(reader);
        record(store, &mut claimed, events).await;
        reader = app.follow(&thread, after).await;
    }
    beside.until(&format!("id: {}\n", claimed.last_sequence)).await;
    finish(store, &claimed, completed("done")).await;
    seen.push_str(&reader.rest().await);
    assert_eq!(seen, beside.rest().await);
    assert_eq!(names(&seen).last().expect("events"), "stream.completed");
}

#[tokio::test]
async fn two_readers_see_the_same_at_once() {
    let app = App::start().await;
    let store = &app.database.store;
    let thread = app.thread().await;
    let mut first = app.send_message(&thread, "Hello").await;
    let mut second = app.follow(&thread, 0).await;
    let claimed = claim(store).await;
    first.until("response.started").await;
    second.until("response.started").await;
    show(store, &claimed, Delta::Text("Hel".into()));
    first.until(".delta").await;
    second.until(".delta").await;
    finish(store, &claimed, completed("Hello")).await;
    let (first, second) = tokio::join!(first.rest(), second.rest());
    assert_eq!(first, second);
}

#[tokio::test]
async fn a_server_that_stops_breaks_its_streams_off_and_another_goes_on() {
    let app = App::start().await;
    let thread = app.thread().await;
    let mut reader = app.send_message(&thread, "Hello").await;
    reader.until("response.created").await;
    app.api.stopping.cancel();
    let seen = reader.until_broken().await;
    let (after, _) = last_id(&seen);

    let mut api = app.api.clone();
    api.store = app.database.another_server("node_other").await;
    api.stopping = tokio_util::sync::CancellationToken::new();
    let app = App { router: api::router(api.clone()), api, ..app };
    let reader = app.follow(&thread, after).await;
    work_off(&app.database.store, "done").await;
    let rest = reader.rest().await;
    assert_eq!(seen + &rest, app.follow(&thread, 0).await.rest().await);
}

#[tokio::test]
async fn events_are_read_in_pages_in_both_directions() {
    let app = App::start().await;
    let thread = app.thread().await;
    let reader = app.send_message(&thread, "Hello").await;
    work_off(&app.database.store, "done").await;
    let text = reader.rest().await;
    let path = format!("/threads/{thread}/events");
    let whole = app.get(&path).await.ok();
    let count = whole["data"].as_array().expect("events").len() as i64;
    assert_eq!(whole["has_more"], false);
    assert_eq!(whole["nextCursor"], Value::Null);
    let last = &whole["data"][count as usize - 1];
    assert_eq!((&last["type"], &last["sequence"]), (&json!("response.completed"), &json!(count)));
    assert_eq!(last["payload"]["response"]["content"], "done");
    assert_eq!(last["payload"]["run"]["status"], "completed");
    let sequences: Vec<_> = data(&text).iter().filter_map(|event| event["sequence"].as_i64()).collect();
    assert_eq!(sequences, (1..=count).collect::<Vec<_>>());

    let mut collected = Vec::new();
    let mut cursor = "0".to_owned();
    loop {
        let page = app.get(&format!("{path}?limit=3&cursor={cursor}")).await.ok();
        collected.extend(page["data"].as_array().expect("events").clone());
        match page["nextCursor"].as_str() {
            Some(next) => cursor = next.to_owned(),
            None => break,
        }
    }
    assert_eq!(json!(collected), whole["data"]);

    let sequences = |page: &Value| -> Vec<i64> {
        page["data"]
            .as_array()
            .expect("events")
            .iter()
            .map(|event| event["sequence"].as_i64().expect("a number"))
            .collect()
    };
    let page = app.get(&format!("{path}?before=6&limit=2")).await.ok();
    assert_eq!((sequences(&page), &page["has_more"]), (vec![4, 5], &json!(true)));
    let page = app.get(&format!("{path}?before=3&limit=5")).await.ok();
    assert_eq!((sequences(&page), &page["has_more"]), (vec![1, 2], &json!(false)));
    let page = app.get(&format!("{path}?after=1&before=4&limit=1")).await.ok();
    assert_eq!((sequences(&page), &page["has_more"]), (vec![2], &json!(true)));
    app.get(&format!("{path}?limit=0")).await.ok();
    for bad in ["after=x", "after=-1", "before=1.5", "limit=-1", "stream=maybe"] {
        app.get(&format!("{path}?{bad}")).await.failed(400);
    }
}

#[tokio::test]
async fn the_header_wins_over_the_query_and_the_accept_header_asks_for_a_stream() {
    let app = App::start().await;
    let thread = app.thread().await;
    let reader = app.send_message(&thread, "Hello").await;
    work_off(&app.database.store, "done").await;
    reader.rest().await;
    let path = format!("/threads/{thread}/events?after=1&before=6&limit=3");
    let headers = [("last-event-id", "2"), ("accept", "text/event-stream")];
    let text = app.open(Method::GET, &path, &headers, Value::Null).await.rest().await;
    assert!(text.starts_with("event: stream.ready\ndata: {\"after\":2,"));
    let sequences: Vec<_> = data(&text)[1..].iter().map(|event| event["sequence"].as_i64()).collect();
    assert_eq!(sequences, [Some(3), Some(4), Some(5)]);
    let page = app.open(Method::GET, &path, &[("accept", "*/*")], Value::Null).await.rest().await;
    assert!(page.starts_with('{'), "a page unless asked for a stream");
}

#[tokio::test]
async fn a_stream_outlives_a_crash_of_the_database() {
    let app = App::start().await;
    let store = &app.database.store;
    let thread = app.thread().await;
    let mut reader = app.send_message(&thread, "Hello").await;
    reader.until("response.created").await;
    let pid = app.database.private.pid().expect("Postgres runs").to_string();
    let killed = std::process::Command::new("kill").args(["-9", &pid]).status().expect("kill runs");
    assert!(killed.success());
    let mut claimed = loop {
        match store.claim_runs(1, TTL).await {
            Ok(mut claimed) if !claimed.is_empty() => break claimed.remove(0),
            // Not back yet.
            Ok(_) | Err(_) => tokio::time::sleep(std::time::Duration::from_millis(20)).await,
        }
    };
    for events in work() {
        record(store, &mut claimed, events).await;
    }
    finish(store, &claimed, completed("done")).await;
    let text = reader.rest().await;
    assert_eq!(text, app.follow(&thread, 0).await.rest().await);
    assert_eq!(names(&text).last().expect("events"), "stream.completed");
}
