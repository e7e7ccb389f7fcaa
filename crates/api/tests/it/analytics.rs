//! What was done in an environment lately.

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use crate::app::App;

/// Puts in a run that was asked for `hours` before the beginning of this hour and took `seconds`.
async fn run(app: &App, environment: &str, hours: i32, status: &str, seconds: Option<i32>) {
    let thread = format!("thread_{}", uuid_like());
    let pool = app.database.pool().await;
    sqlx::query("insert into threads (id, project_id, environment_id, title) values ($1, $2, $3, 'Work')")
        .bind(&thread)
        .bind(app.database.project.as_str())
        .bind(environment)
        .execute(&pool)
        .await
        .expect("a thread");
    sqlx::query(
        "insert into runs (id, thread_id, project_id, status, options, after_sequence, queued_at, started_at, completed_at)
         select $1, $2, $3, $4, '{}', 0, at, at, at + make_interval(secs => $6)
         from (select date_trunc('hour', now()) - make_interval(hours => $5) as at) as begun",
    )
    .bind(thread.replace("thread", "run"))
    .bind(&thread)
    .bind(app.database.project.as_str())
    .bind(status)
    .bind(hours)
    .bind(seconds.map(f64::from))
    .execute(&pool)
    .await
    .expect("a run");
}

fn uuid_like() -> String {
    static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(1);
    format!("{:032x}", COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed))
}

#[tokio::test]
async fn runs_of_the_last_24_hours_are_counted_by_the_hour() {
    let app = App::start().await;
    let environment = app.environment().await.to_string();
    let path = format!("/v1/environments/{environment}/analytics");
    let nothing = app.get(&path).await.ok();
    assert_eq!(nothing["available"], false);
    assert_eq!(nothing["summary"]["successRate24h"], Value::Null);
    assert_eq!(nothing["charts"]["activity24h"].as_array().map(Vec::len), Some(24));

    let elsewhere = app.post("/environments", json!({"name": "elsewhere"})).await.ok();
    let elsewhere = elsewhere["environment"]["id"].as_str().expect("an id").to_owned();
    run(&app, &elsewhere, 0, "completed", Some(1)).await;
    for (hours, status, seconds) in [
        (0, "completed", Some(10)),
        (2, "completed", Some(20)),
        (2, "failed", Some(30)),
        (23, "cancelled", Some(120)),
        (0, "running", None),
        (24, "completed", Some(1000)),
    ] {
        run(&app, &environment, hours, status, seconds).await;
    }
    let day = app.get(&path).await.ok();
    assert_eq!(day["available"], true);
    let mut summary = day["summary"].clone();
    assert!(summary.as_object_mut().expect("an object").remove("lastRunAt").is_some_and(|at| at.is_string()));
    assert_eq!(
        summary,
        json!({
            "totalRuns24h": 5, "successRate24h": 0.5, "failedRuns24h": 1, "cancelledRuns24h": 1,
            "p50RuntimeMs": 20_000, "p95RuntimeMs": 120_000, "avgRuntimeMs": 45_000, "totalRuntimeMinutes24h": 3.0,
        })
    );
    let hours = day["charts"]["activity24h"].as_array().expect("hours");
    let counted = |at: usize| {
        let keys = ["total", "completed", "failed", "cancelled", "successRate", "p95RuntimeMs"];
        keys.iter().map(|key| hours[at][*key].clone()).collect::<Value>()
    };
    assert_eq!(counted(23), json!([2, 1, 0, 0, 1.0, 10_000]));
    assert_eq!(counted(21), json!([2, 1, 1, 0, 0.5, 30_000]));
    assert_eq!(counted(0), json!([1, 0, 0, 1, 0.0, 120_000]));
    assert_eq!(counted(10), json!([0, 0, 0, 0, null, null]));
    let starts: Vec<DateTime<Utc>> =
        hours.iter().map(|hour| hour["bucketStart"].as_str().expect("a time").parse().expect("a time")).collect();
    assert!(starts.windows(2).all(|pair| pair[1] - pair[0] == chrono::TimeDelta::hours(1)), "{starts:?}");
    assert_eq!(day["charts"]["status24h"], day["charts"]["activity24h"]);
    let recent = day["recentRuns"].as_array().expect("runs");
    assert_eq!((recent.len(), recent[0]["title"].as_str()), (6, Some("Work")));
    assert!(recent.iter().any(|run| run["status"] == "running" && run["durationMs"].is_null()), "{recent:?}");
    assert_eq!(recent[5]["durationMs"], 1_000_000);

    let (_, theirs) = app.another_project().await;
    app.call_with(&theirs, axum::http::Method::GET, &path, "").await.failed(404);
}

#[tokio::test]
async fn an_overview_adds_up_to_what_each_environment_and_agent_did() {
    let app = App::start().await;
    let first = app.environment().await.to_string();
    let second = app.post("/environments", json!({"name": "second"})).await.ok();
    let second = second["environment"]["id"].as_str().expect("an id").to_owned();
    app.post("/agents", json!({"id": "busy", "name": "Busy", "model": "m"})).await.ok();
    app.post("/agents", json!({"id": "idle", "name": "Idle", "model": "m"})).await.ok();
    for (environment, hours, status) in [
        (&first, 0, "completed"),
        (&first, 30, "failed"),
        (&second, 0, "completed"),
        (&second, 1, "completed"),
        (&second, 24 * 29, "completed"),
        (&second, 24 * 40, "completed"),
    ] {
        run(&app, environment, hours, status, Some(60)).await;
    }
    let pool = app.database.pool().await;
    sqlx::query("update threads set agent_id = 'busy' where environment_id = $1")
        .bind(&first)
        .execute(&pool)
        .await
        .expect("updated");

    let totals = |overview: &Value, of: &str| -> Vec<(String, i64)> {
        let items = overview[of].as_array().expect("a list");
        let total = |item: &Value| item["totalRuns"].as_i64().expect("a number");
        items.iter().map(|item| (item["name"].as_str().expect("a name").to_owned(), total(item))).collect()
    };
    for (period, all, parts, each) in [("24h", 3, 24, [2, 1]), ("7d", 4, 7, [2, 2]), ("30d", 5, 30, [3, 2])] {
        let overview = app.get(&format!("/environments/analytics/overview?period={period}")).await.ok();
        assert_eq!(
            (&overview["period"], &overview["summary"]["totalRuns"]),
            (&json!(period), &json!(all)),
            "{overview}"
        );
        let activity = overview["activity"].as_array().expect("a list");
        let counted: i64 = activity.iter().map(|part| part["total"].as_i64().expect("a number")).sum();
        assert_eq!((activity.len(), counted), (parts, all), "{overview}");
        let counts: Vec<i64> = totals(&overview, "environments").into_iter().map(|(_, total)| total).collect();
        // The project's default environment, where nothing was done, comes last where there is one.
        assert_eq!(counts[..2], each, "{overview}");
        let overview = app.get(&format!("/agents/analytics/overview?period={period}")).await.ok();
        let busy = totals(&overview, "agents").into_iter().find(|(name, _)| name == "Busy");
        assert_eq!(busy.map(|(_, total)| total), Some(if period == "24h" { 1 } else { 2 }), "{overview}");
        assert!(totals(&overview, "agents").contains(&("Idle".to_owned(), 0)), "{overview}");
    }
    let busy = app.get("/agents/busy/analytics").await.ok();
    assert_eq!((&busy["agentId"], &busy["summary"]["totalRuns24h"]), (&json!("busy"), &json!(1)));
    assert_eq!(busy["charts"]["activity24h"][23]["successCount"], 1);
    app.get("/agents/nobody/analytics").await.failed(404);
    app.get("/environments/analytics/overview?period=1y").await.failed(400);
}
