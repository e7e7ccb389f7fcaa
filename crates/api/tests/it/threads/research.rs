//! Sessions of deep research as clients see them, with the executor's part played through the store.

use domain::{
    ResearchId,
    research::{Happening, Phase, Report},
};
use store::research::{NewSession, Page, Step};

use super::*;

/// Has the run begin a session and read two pages.
async fn begin(store: &Store, claimed: &Claimed) -> ResearchId {
    let lease = claimed.lease.renewal();
    let new = NewSession { call_id: "toolu_1".into(), query: "Why is the sky blue?".into(), model: "m".into() };
    let session = store.begin_research(&lease, &claimed.run, &new).await.expect("begins").id;
    // Whoever asks again finds the same.
    assert_eq!(store.begin_research(&lease, &claimed.run, &new).await.expect("finds").id, session);
    let hit = |url: &str| domain::event::SearchHit { title: "Found".into(), url: url.into(), date: None };
    let hits = ["https://a.example/", "https://only-found.example/"].map(hit);
    store.record_research_hits(&session, &hits).await.expect("records");
    for (url, title) in [("https://a.example/", Some("A")), ("https://b.example/", None), ("https://a.example/", None)]
    {
        let page = Page {
            url: url.into(),
            requested: format!("{url}#x"),
            title: title.map(str::to_owned),
            hash: "00".repeat(32),
        };
        store.record_research_page(&lease, &session, &page).await.expect("records");
    }
    session
}

fn step(phase: Phase, progress: i32, happening: Happening) -> Step {
    let summary = format!("{happening}.");
    Step { phase, progress, happening, summary, questions: None, report: None, cited: Vec::new() }
}

async fn complete(store: &Store, claimed: &Claimed, session: &ResearchId) {
    let lease = claimed.lease.renewal();
    let planned =
        Step { questions: Some(vec!["What is light?".into()]), ..step(Phase::Researching, 10, Happening::Planned) };
    let report = Report {
        path: "research/sky.md".into(),
        manifest_path: "research/sky.sources.json".into(),
        characters: 1234,
        dropped: vec!["https://evil.example/".into()],
        unfinished: Vec::new(),
    };
    let completed = Step { report: Some(report), cited: vec![1], ..step(Phase::Verifying, 100, Happening::Completed) };
    // Twice: what is written is not written again.
    for step in [&planned, &planned, &completed, &completed] {
        store.advance_research(&lease, session, step).await.expect("advances");
    }
}

#[tokio::test]
async fn a_session_is_told_live_listed_and_read_with_what_it_has_read() {
    let app = App::start().await;
    let thread = app.thread().await;
    let path = format!("/threads/{thread}/research");
    let empty = app.get(&path).await.ok();
    assert_eq!((&empty["sessions"], &empty["total_count"]), (&json!([]), &json!(0)));
    let reader = app.send_message(&thread, "Research").await;
    let store = &app.database.store;
    let claimed = claim(store).await;
    let session = begin(store, &claimed).await;
    let under_way = app.get(&path).await.ok()["sessions"][0].clone();
    assert_eq!((&under_way["status"], &under_way["completedAt"]), (&json!("starting"), &Value::Null));
    complete(store, &claimed, &session).await;
    finish(store, &claimed, completed("done")).await;

    let text = reader.rest().await;
    let events: Vec<_> = data(&text).into_iter().filter(|event| event["type"] == "deep_research").collect();
    let told: Vec<_> = events.iter().map(|event| event["event"].as_str().expect("a word")).collect();
    assert_eq!(told, ["started", "planned", "completed"]);
    let last = &events[2];
    let expected = json!({
        "sessionId": session, "interactionId": session, "topic": "Why is the sky blue?", "sourcesCount": 2,
        "reportFile": "research/sky.md", "reportManifestFile": "research/sky.sources.json", "reportLength": 1234,
        "sources": [{"url": "https://a.example/", "title": "A"}], "errorMessage": null, "resumeAttempt": 0,
    });
    for (name, value) in expected.as_object().expect("an object") {
        assert_eq!(last[name], *value, "{name}");
    }
    assert!(last["timestamp"].is_string() && last["sequence"].is_number(), "{last}");
    let streamed = app.open(Method::GET, &format!("/threads/{thread}/events?stream=true"), &[], Value::Null).await;
    let again: Vec<_> =
        data(&streamed.rest().await).into_iter().filter(|event| event["type"] == "deep_research").collect();
    assert_eq!(again, events, "what was told live is told again");
    let logs = app.get(&format!("/threads/{thread}/logs")).await.ok();
    let lines = logs["logs"].as_array().expect("a list").iter().filter(|line| line["eventType"] == "deep_research");
    assert_eq!(lines.count(), 3);

    let listed = app.get(&path).await.ok();
    assert_eq!((&listed["data"], &listed["total_count"]), (&listed["sessions"], &json!(1)));
    assert_eq!(listed["sessions"][0]["results"], Value::Null);
    let read = app.get(&format!("{path}/{session}")).await.ok()["session"].clone();
    assert_eq!(
        (&read["status"], &read["progress"], &read["query"]),
        (&json!("completed"), &json!(100), &read["topic"])
    );
    let results = read["results"].as_array().expect("a list");
    let results: Vec<_> =
        results.iter().map(|source| json!([source["number"], source["url"], source["isCited"]])).collect();
    assert_eq!(results, [json!([1, "https://a.example/", true]), json!([2, "https://b.example/", false])]);
    assert_eq!(read["metadata"]["droppedCitations"], json!(["https://evil.example/"]));
    assert_eq!(read["metadata"]["questions"], json!(["What is light?"]));
    assert_eq!(read["thinkingSummaries"].as_array().map(Vec::len), Some(2));
    assert_eq!(app.delete(&format!("{path}/{session}")).await.ok()["success"], true);
    app.get(&format!("{path}/{session}")).await.failed(404);
    app.delete(&format!("{path}/{session}")).await.failed(404);
    assert_eq!(app.get(&path).await.ok()["total_count"], 0);
}

#[tokio::test]
async fn a_session_ends_with_its_run_and_a_deleted_one_is_not_begun_again() {
    let app = App::start().await;
    let thread = app.thread().await;
    let path = format!("/threads/{thread}/research");
    let store = &app.database.store;
    let send = async || {
        app.post(&format!("/threads/{thread}/messages"), json!({"content": "x", "stream": false})).await.ok();
        claim(store).await
    };
    let claimed = send().await;
    begin(store, &claimed).await;
    let failed = Outcome::Failed { code: "budget".into(), message: "The run was stopped at its budget.".into() };
    finish(store, &claimed, failed).await;
    let session = app.get(&path).await.ok()["sessions"][0].clone();
    assert_eq!(session["status"], "failed");
    assert_eq!(session["errorMessage"], "The run was stopped at its budget.");

    let claimed = send().await;
    let begun = begin(store, &claimed).await;
    app.delete(&format!("{path}/{begun}")).await.ok();
    let new = NewSession { call_id: "toolu_1".into(), query: "again".into(), model: "m".into() };
    let found = store.begin_research(&claimed.lease.renewal(), &claimed.run, &new).await.expect("finds");
    assert_eq!((found.id, found.status.as_str()), (begun, "cancelled"));
    let events = store.list_events(&claimed.run.thread_id, 0, None, 1000).await.expect("reads");
    let is_cancel = |event: &Event| matches!(event, Event::Research { told } if told.happening == Happening::Cancelled);
    assert_eq!(events.iter().filter(|recorded| is_cancel(&recorded.event)).count(), 1);
    finish(store, &claimed, completed("done")).await;
    assert_eq!(app.get(&path).await.ok()["total_count"], 1);
}

#[tokio::test]
async fn research_that_nobody_can_do_is_refused_before_the_run() {
    let mut app = App::start().await;
    app.api.why_unavailable = Some(std::sync::Arc::new(|skill, model| {
        (skill == domain::skill::BuiltIn::DeepResearch && model != "finder").then(|| format!("{model} cannot search"))
    }));
    app.router = api::router(app.api.clone());
    let thread = app.thread().await;
    let path = format!("/threads/{thread}/messages");
    let body = json!({"content": "x", "stream": false, "researchModeEnabled": true});
    let refused = app.post(&path, body.clone()).await;
    assert!(refused.failed(400).starts_with("The skill deep_research cannot be used: "));
    assert_eq!(refused.json()["code"], "skill_unavailable");
    let mut with_model = body;
    with_model["deepResearchModel"] = json!("finder");
    app.post(&path, with_model).await.ok();
    let claimed = claim(&app.database.store).await;
    assert!(claimed.run.options.research_mode);
}
