//! Searching threads over the API.

use serde_json::json;

use super::*;

#[tokio::test]
async fn threads_are_found_by_what_was_said_with_the_words_marked() {
    let app = App::start().await;
    let agent = app.post("/agents", json!({"name": "Helper", "model": "m"})).await.ok();
    for (title, content) in
        [("Shop", "Build a <b>Flask</b> API & run the tests"), ("Garden", "Water the flowers, not the flask")]
    {
        let body = json!({"title": title, "content": content, "agentId": agent["agent"]["id"], "stream": false});
        app.post("/threads", body).await.ok();
        work_off(&app.database.store, "All tests are running.").await;
    }
    let found = app.post("/v1/threads/search", json!({"query": "flask api", "includeMessages": true})).await.ok();
    assert_eq!((&found["object"], &found["total"], &found["hasMore"]), (&json!("list"), &json!(1), &json!(false)));
    let result = &found["results"][0];
    assert_eq!((&result["thread"]["title"], &result["thread"]["agentName"]), (&json!("Shop"), &json!("Helper")));
    assert!(result["thread"]["environmentName"].is_string());
    assert!(result["score"].as_f64().is_some_and(|score| score > 0.0));
    let highlight = result["highlights"][0].as_str().expect("a text");
    assert!(
        highlight.contains("<mark>Flask</mark>") && highlight.contains("<mark>API</mark> &amp; run"),
        "{highlight}"
    );
    assert!(!highlight.contains("<b>"));
    let message = &result["matchingMessages"][0];
    assert_eq!((&message["role"], &message["highlight"]), (&json!("user"), &json!(highlight)));
    let metadata = &found["searchMetadata"];
    assert_eq!((&metadata["query"], &metadata["queryType"]), (&json!("flask api"), &json!("fulltext")));
    assert!(metadata["processingTimeMs"].is_u64());

    let both = app.post("/threads/search", json!({"query": "flask", "limit": 1, "status": "all"})).await.ok();
    assert_eq!((&both["total"], &both["hasMore"]), (&json!(2), &json!(true)));
    assert!(both["results"][0].get("matchingMessages").is_none());
    assert_eq!(app.post("/threads/search", json!({"query": "run", "status": "completed"})).await.ok()["total"], 2);
    for none in [
        json!({"query": "flask", "status": "failed"}),
        json!({"query": "flask", "status": "deleted"}),
        json!({"query": "flask", "environmentId": "env_other"}),
        json!({"query": ""}),
    ] {
        assert_eq!(app.post("/threads/search", none.clone()).await.ok()["total"], 0, "{none}");
    }
    let (_, other) = app.another_project().await;
    let body = json!({"query": "flask"}).to_string();
    assert_eq!(app.call_with(&other, Method::POST, "/threads/search", body).await.ok()["total"], 0);
    for bad in [
        json!({}),
        json!({"query": 5}),
        json!({"query": "x", "status": "asleep"}),
        json!({"query": "x", "limit": -1}),
        json!({"query": "x".repeat(10_000)}),
    ] {
        app.post("/threads/search", bad).await.failed(400);
    }
}
