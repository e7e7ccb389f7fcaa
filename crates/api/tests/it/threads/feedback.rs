//! Thumbs and reports.

use secrecy::ExposeSecret;
use serde_json::json;

use super::*;

#[tokio::test]
async fn each_caller_has_one_thumb_and_all_are_counted() {
    let app = App::start().await;
    let thread = app.thread().await;
    let path = format!("/threads/{thread}/feedback");
    let counts = |up: i64, down: i64, own: Value, reports: i64| json!({"threadId": thread, "upCount": up, "downCount": down, "userRating": own, "reportCount": reports});
    assert_eq!(app.get(&path).await.ok(), counts(0, 0, json!(null), 0));
    assert_eq!(app.post(&path, json!({"rating": "up"})).await.ok(), counts(1, 0, json!("up"), 0));
    assert_eq!(app.post(&path, json!({"rating": "down"})).await.ok(), counts(0, 1, json!("down"), 0));
    let (_, second) = app.database.store.create_key(&app.database.project, "second", None).await.expect("a key");
    let second = second.expose_secret().to_owned();
    let rated = app.call_with(&second, Method::POST, &path, json!({"rating": "up"}).to_string()).await;
    assert_eq!(rated.ok(), counts(1, 1, json!("up"), 0));

    let report = json!({"reportType": "bug", "message": "It stopped", "metadata": {"a": [1]}});
    let made = app.post(&format!("{path}/report"), report).await;
    assert_eq!(made.status, StatusCode::CREATED);
    let made = made.ok();
    assert_eq!(
        (&made["threadId"], &made["reportType"], &made["message"]),
        (&json!(thread), &json!("bug"), &json!("It stopped"))
    );
    assert_eq!(made["metadata"], json!({"a": [1]}));
    assert!(made["id"].as_str().is_some_and(|id| id.starts_with("report_")));
    assert!(made["userId"].is_string() && made["createdAt"].is_string());
    assert_eq!(app.get(&path).await.ok(), counts(1, 1, json!("down"), 1));

    for bad in [json!({}), json!({"rating": "sideways"}), json!({"rating": null})] {
        app.post(&path, bad).await.failed(400);
    }
    for bad in [
        json!({"message": "m"}),
        json!({"reportType": "other", "message": "m"}),
        json!({"reportType": "bug", "message": " "}),
        json!({"reportType": "bug", "message": "x".repeat(20_001)}),
    ] {
        app.post(&format!("{path}/report"), bad).await.failed(400);
    }
    app.post("/threads/thread_none/feedback", json!({"rating": "up"})).await.failed(404);
}
