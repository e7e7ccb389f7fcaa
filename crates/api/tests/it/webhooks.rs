//! Webhooks: what is kept of them, what is written down for them, and when.

use axum::http::Method;
use domain::{
    run::{Outcome, Spent},
    schedule::MAX_FAILURES,
};
use serde_json::{Value, json};

use crate::{
    app::{App, redacted},
    threads::claim,
};

async fn webhook(app: &App, events: Value) -> String {
    let made = app.post("/webhooks", json!({"url": "https://example.com/hook", "events": events})).await.ok();
    made["webhook"]["id"].as_str().expect("an id").to_owned()
}

/// Gives the events that a webhook is to be told, the oldest first.
async fn told(app: &App, id: &str) -> Vec<String> {
    let list = app.get(&format!("/webhooks/{id}/deliveries")).await.ok();
    let list = list["data"].as_array().expect("a list").iter().rev();
    list.map(|delivery| delivery["event"].as_str().expect("a word").to_owned()).collect()
}

#[tokio::test]
async fn a_webhook_is_what_it_was_made_of_and_its_secret_is_shown_once() {
    let app = App::start().await;
    let body =
        json!({"url": "https://example.com/hook?a=1", "description": "d", "events": ["run.failed", "run.failed"]});
    let reply = app.post("/v1/webhooks", body).await;
    assert_eq!(reply.status, 201);
    let made = reply.ok()["webhook"].clone();
    let (id, secret) = (made["id"].as_str().expect("an id"), made["secret"].as_str().expect("a secret"));
    assert!(secret.starts_with("whsec_"));
    let mut shown = redacted(made.clone());
    shown["secret"] = "[secret]".into();
    insta::assert_json_snapshot!(shown);
    for reply in [app.get(&format!("/webhooks/{id}")).await, app.get("/webhooks").await] {
        reply.ok();
        assert!(!reply.text().contains(secret) && reply.text().contains(id));
    }
    let rotated = app.post(&format!("/webhooks/{id}/rotate-secret"), json!({"overlapSeconds": 60})).await.ok();
    assert_ne!(rotated["webhook"]["secret"], secret);
    assert!(rotated["webhook"]["oldSecretUntil"].is_string());
    let changed = app.patch(&format!("/webhooks/{id}"), json!({"description": null, "enabled": false})).await.ok();
    assert_eq!((&changed["webhook"]["description"], &changed["webhook"]["enabled"]), (&Value::Null, &json!(false)));
    assert_eq!(changed["webhook"]["events"], json!(["run.failed"]));

    // Trying it asks for neither.
    let tried = app.call(Method::POST, &format!("/webhooks/{id}/test"), "").await.ok();
    assert_eq!(
        (&tried["delivery"]["event"], &tried["delivery"]["status"]),
        (&json!("webhook.test"), &json!("pending"))
    );
    let delivery = tried["delivery"]["id"].as_str().expect("an id");
    let again = app.call(Method::POST, &format!("/webhooks/{id}/deliveries/{delivery}/resend"), "").await;
    assert_eq!(again.failed(400), "the delivery is still being tried");
    assert_eq!(app.get(&format!("/webhooks/{id}/deliveries?status=failed")).await.ok()["total_count"], 0);
    app.get(&format!("/webhooks/{id}/deliveries?status=lost")).await.failed(400);

    assert_eq!(app.delete(&format!("/webhooks/{id}")).await.ok()["webhookId"], *id);
    app.get(&format!("/webhooks/{id}/deliveries")).await.failed(404);
    let pool = app.database.pool().await;
    let left: i64 =
        sqlx::query_scalar("select count(*) from webhook_deliveries").fetch_one(&pool).await.expect("reads");
    assert_eq!(left, 0, "nobody is told what waited");
}

#[tokio::test]
async fn what_is_not_acceptable_is_told_by_field() {
    let app = App::start().await;
    for (body, field) in [
        (json!({"url": "ftp://example.com"}), "url"),
        (json!({"url": "nowhere"}), "url"),
        (json!({"url": "https://user:password@example.com"}), "url"),
        (json!({"url": "https://example.com", "events": []}), "events"),
        (json!({"url": "https://example.com", "events": ["run.exploded"]}), "events"),
        (json!({"url": "https://example.com", "events": ["webhook.test"]}), "events"),
    ] {
        let message = app.post("/webhooks", body.clone()).await.failed(400);
        assert!(message.contains(field), "{body}: {message}");
    }
}

#[tokio::test]
async fn what_happens_is_written_down_for_those_who_want_it() {
    let app = App::start().await;
    let (everything, failures) = (webhook(&app, json!(["*"])).await, webhook(&app, json!(["run.failed"])).await);
    let off = webhook(&app, json!(["*"])).await;
    app.patch(&format!("/webhooks/{off}"), json!({"enabled": false})).await.ok();
    let environment = app.environment().await;
    let store = &app.database.store;
    let failed = Outcome::Failed { code: "model_error".into(), message: "no".into() };
    for outcome in [Outcome::Completed { content: "yes".into() }, failed.clone(), Outcome::Cancelled] {
        app.post("/threads", json!({"environmentId": environment, "content": "a", "stream": false})).await.ok();
        let claimed = claim(store).await;
        store.finish_run(&claimed.lease, &outcome, Spent::default()).await.expect("ends");
    }
    assert_eq!(told(&app, &everything).await, ["run.completed", "run.failed", "run.cancelled"]);
    assert_eq!(told(&app, &failures).await, ["run.failed"]);
    assert_eq!(told(&app, &off).await, Vec::<String>::new());
    let list = app.get(&format!("/webhooks/{failures}/deliveries")).await.ok();
    let data = &list["data"][0]["payload"]["data"];
    assert_eq!(
        (&data["error"]["code"], &data["projectId"]),
        (&json!("model_error"), &json!(app.database.project.as_str()))
    );

    // A run that nobody may end any more tells nothing.
    app.post("/threads", json!({"environmentId": environment, "content": "a", "stream": false})).await.ok();
    let claimed = claim(store).await;
    let pool = app.database.pool().await;
    sqlx::query("update runs set lease_token = gen_random_uuid() where status = 'running'")
        .execute(&pool)
        .await
        .expect("writes");
    assert!(store.finish_run(&claimed.lease, &Outcome::Cancelled, Spent::default()).await.is_err());
    assert_eq!(told(&app, &everything).await.len(), 3);
}

#[tokio::test]
async fn a_schedule_that_switches_itself_off_is_told() {
    let app = App::start().await;
    let id = webhook(&app, json!(["schedule.paused"])).await;
    app.environment().await;
    let daily = json!({"name": "d", "task": "t", "cronExpression": "0 9 * * *", "overlapPolicy": "parallel"});
    let schedule = app.post("/schedules", daily).await.ok()["schedule"]["id"].clone();
    let store = &app.database.store;
    let pool = app.database.pool().await;
    let failed = Outcome::Failed { code: "model_error".into(), message: "no".into() };
    for number in 0..=MAX_FAILURES {
        sqlx::query("update schedules set next_run_at = now() - make_interval(secs => $1)")
            .bind((60 - number as i32) as f64)
            .execute(&pool)
            .await
            .expect("writes");
        store.fire_next().await.expect("fires");
        if number < MAX_FAILURES {
            let claimed = claim(store).await;
            store.finish_run(&claimed.lease, &failed, Spent::default()).await.expect("ends");
        }
    }
    let list = app.get(&format!("/webhooks/{id}/deliveries")).await.ok();
    assert_eq!(list["total_count"], 1, "{list}");
    assert_eq!(list["data"][0]["payload"]["data"]["scheduleId"], schedule);
}
