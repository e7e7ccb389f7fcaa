//! Titles that are made.

use std::sync::Arc;

use api::MadeTitle;
use futures::FutureExt;
use serde_json::json;

use super::*;

impl App {
    /// Lets a model answer with `reply` when it is asked for a title; `None` never answers.
    fn with_titles(&mut self, reply: Option<&'static str>) {
        let made = reply.map(|reply| MadeTitle { reply: reply.into(), model: "claude-x".into(), spent: SPENT });
        self.api.make_title = Some(Arc::new(move |_| futures::future::ready(made.clone()).boxed()));
        self.router = api::router(self.api.clone());
    }
}

#[tokio::test]
async fn a_title_is_made_unless_somebody_chose_one() {
    let mut app = App::start().await;
    let thread = app.post("/threads", json!({"content": "Build a shop\nplease", "stream": false})).await.ok();
    let path = format!("/threads/{}", thread["thread"]["id"].as_str().expect("an id"));
    work_off(&app.database.store, "done").await;
    let before = app.get(&path).await.ok()["thread"].clone();
    assert_eq!(before["title"], "Build a shop");

    app.with_titles(Some("\"Flower Shop\".\n"));
    let made = app.post(&format!("{path}/generate-title"), json!({"message": "Build a shop"})).await.ok();
    assert_eq!((&made["title"], &made["thread"]["title"]), (&json!("Flower Shop"), &json!("Flower Shop")));
    assert_eq!((&made["generated"], &made["skipped"], &made["reason"]), (&json!(true), &json!(false), &json!(null)));
    let cost = |thread: &Value| thread["totalCost"].as_f64().expect("a number");
    assert!((cost(&made["thread"]) - cost(&before) - 0.012_345).abs() < 1e-9, "what it cost is the thread's");

    // One that was made is made anew; one that was chosen stays.
    app.with_titles(Some("Shop of Flowers"));
    assert_eq!(app.post(&format!("{path}/generate-title"), json!({})).await.ok()["title"], "Shop of Flowers");
    app.patch(&path, json!({"title": "Mine"})).await.ok();
    let kept = app.post(&format!("{path}/generate-title"), json!({"message": "x"})).await.ok();
    assert_eq!((&kept["title"], &kept["generated"]), (&json!("Mine"), &json!(false)));
    assert_eq!((&kept["skipped"], &kept["reason"]), (&json!(true), &json!("title_set")));
    let forced = app.post(&format!("{path}/generate-title"), json!({"message": "x", "force": true})).await.ok();
    assert_eq!((&forced["title"], &forced["generated"]), (&json!("Shop of Flowers"), &json!(true)));
}

#[tokio::test]
async fn without_a_model_the_title_is_the_beginning_of_the_text() {
    let mut app = App::start().await;
    for reply in [None, Some(""), Some("\n--\n")] {
        app.with_titles(reply);
        let path = format!("/threads/{}/generate-title", app.thread().await);
        app.post(&path, json!({})).await.failed(400);
        let made = app.post(&path, json!({"message": "  Water the flowers\nand more"})).await.ok();
        assert_eq!((&made["title"], &made["generated"]), (&json!("Water the flowers"), &json!(true)));
        assert_eq!(made["reason"], "no_model_answered");
        assert_eq!(app.post(&path, json!({"content": "Again"})).await.ok()["title"], "Again", "it was made");
    }
}
