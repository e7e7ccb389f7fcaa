//! What was spent, what may be, and the 402 in between.

use std::time::Duration;

use axum::http::Method;
use domain::{MicroUsd, run::Spent};
use serde_json::{Value, json};
use store::leases::{Checkpoint, Turn};

use crate::{
    app::App,
    threads::{claim, completed},
};

/// Sends a message and plays a run of one model call that costs so much.
async fn work(app: &App, thread: &str, cost: i64) {
    let body = json!({"content": "Hello", "stream": false});
    app.post(&format!("/threads/{thread}/messages"), body).await.ok();
    let spent =
        Spent { input_tokens: 10, output_tokens: 2, cache_read_tokens: 5, cost: MicroUsd(cost), ..Spent::default() };
    let turn = Turn {
        model: "claude-x".into(),
        request_id: None,
        stop_reason: "end_turn".into(),
        spent,
        duration: Duration::from_millis(5),
    };
    let mut claimed = claim(&app.database.store).await;
    let checkpoint = Checkpoint { turn: Some(turn), ..Checkpoint::default() };
    app.database.store.checkpoint(&mut claimed.lease, &checkpoint).await.expect("the lease is good");
    app.database.store.finish_run(&claimed.lease, &completed("Hi."), spent).await.expect("the lease is good");
}

async fn agents_thread(app: &App, agent: &str) -> String {
    app.post("/agents", json!({"id": agent, "name": agent, "model": "m"})).await.ok();
    let made = app.post("/threads", json!({"agentId": agent})).await.ok();
    made["thread"]["id"].as_str().expect("an id").to_owned()
}

#[tokio::test]
async fn costs_add_up_by_whatever_they_are_added_up() {
    let app = App::start().await;
    let (plain, agents) = (app.thread().await, agents_thread(&app, "dear").await);
    for (thread, cost) in [(&plain, 100), (&plain, 23), (&agents, 1_000_000)] {
        work(&app, thread, cost).await;
    }
    let summary = app.get("/v1/costs/summary?period=day").await.ok();
    let totals = &summary["totals"];
    let seen = json!([
        totals["totalCT"],
        totals["totalCost"],
        totals["totalThreads"],
        totals["totalRuns"],
        totals["inputTokens"]
    ]);
    assert_eq!(seen, json!([1_000_123, 1.000123, 2, 3, 45]), "{summary}");
    assert_eq!(summary["byDay"][0]["totalCT"], 1_000_123);
    let breakdown = app.get("/costs/breakdown").await.ok();
    let shares = |name: &str| -> Vec<Value> {
        let shares = breakdown[name].as_array().expect("shares");
        shares.iter().map(|share| json!([share["id"], share["totalCT"]])).collect()
    };
    assert_eq!(json!(shares("agents")), json!([["dear", 1_000_000], [null, 123]]));
    assert_eq!(json!(shares("models")), json!([["claude-x", 1_000_123]]));
    assert_eq!(json!(shares("sources")), json!([["reply", 1_000_123]]));
    let key = app.database.store.list_keys().await.expect("keys")[0].id.to_string();
    assert_eq!(json!(shares("keys")), json!([[key, 1_000_123]]));
    assert_eq!(shares("environments").len(), 1);
    let only = app.get("/costs/breakdown?groupBy=agent&period=all").await.ok();
    assert_eq!((only["agents"].as_array().map(Vec::len), &only["keys"]), (Some(2), &json!([])));
    let threads = app.get("/costs/threads?sortBy=totalCost&order=asc").await.ok();
    let costs: Vec<_> = threads["data"].as_array().expect("threads").iter().map(|t| t["costInRange"].clone()).collect();
    assert_eq!(
        json!([costs, threads["total_count"], threads["stats"]["totalCT"]]),
        json!([[0.000123, 1.0], 2, 1_000_123])
    );
    assert_eq!(app.get("/costs/threads?agentId=dear").await.ok()["total_count"], 1);
    let tokens = app.get("/costs/performance/tokens").await.ok();
    assert_eq!(tokens["totals"], json!({"inputTokens": 30, "outputTokens": 6, "cacheTokens": 15, "totalTokens": 51}));
    let csv = app.get("/costs/export?groupBy=agent").await;
    assert!(csv.header("content-type").starts_with("text/csv"));
    let lines: Vec<&str> = csv.text().lines().collect();
    assert_eq!(lines[1..], ["dear,dear,1,1,10,2,5,0,1.000000", ",,2,2,20,4,10,0,0.000123"]);
    assert_eq!(app.get("/costs/export?groupBy=thread").await.text().lines().count(), 3);

    // What is deleted was spent all the same.
    app.delete(&format!("/threads/{agents}")).await.ok();
    assert_eq!(app.get("/costs/summary?period=all").await.ok()["totals"]["totalCT"], 1_000_123);
    assert_eq!(app.get("/costs/summary?startDate=2099-01-01").await.ok()["totals"]["totalCost"], 0.0);
    for wrong in
        ["/costs/summary?period=x", "/costs/breakdown?groupBy=x", "/costs/threads?sortBy=x", "/costs/summary?endDate=x"]
    {
        app.get(wrong).await.failed(400);
    }
    let (other, other_key) = app.another_project().await;
    app.get(&format!("/costs/summary?projectId={other}")).await.failed(404);
    let theirs = app.call_with(&other_key, Method::GET, "/costs/summary", "").await.ok();
    assert_eq!(theirs["totals"]["totalCT"], 0);

    let stats = app.get("/billing/stats?breakdown=agent").await.ok();
    assert_eq!(stats["stats"]["breakdown"]["dear"], json!({"cost": 1.0, "tokens": 17, "runs": 1}));
    assert_eq!(app.get("/billing/summary").await.ok()["totalSpent"], 1.000123);
    assert_eq!(app.get("/billing/daily").await.ok()["days"][0]["runs"], 3);
}

#[tokio::test]
async fn a_used_up_budget_is_402_before_anything_is_made_and_a_top_up_opens_it_again() {
    let app = App::start().await;
    let thread = app.thread().await;
    let free = app.get("/billing/budget").await.ok();
    for name in ["tierQuotaUsd", "currentPeriodUsageUsd", "availableBudgetUsd", "balance", "topUpBalanceUsd"] {
        assert!(free[name].is_number(), "{name} of {free}");
    }
    assert_eq!((&free["isUnlimited"], &free["dailyLimit"]), (&json!(true), &Value::Null));
    let set = app.put("/billing/limits", json!({"totalLimit": 1.0, "dailyLimit": 50})).await.ok();
    assert_eq!(set["total_count"], 2);
    work(&app, &thread, 1_500_000).await;

    let messages = format!("/threads/{thread}/messages");
    let hello = json!({"content": "Hello", "stream": false});
    let reply = app.post(&messages, hello.clone()).await;
    let message = reply.failed(402);
    assert!(message.starts_with("The budget of the project is used up: 1.5 of 1 US dollars;"), "{message}");
    let body = reply.json();
    assert_eq!((&body["code"], &body["currentBudget"]), (&json!("INSUFFICIENT_BUDGET"), &json!(0.0)));
    let status = json!({
        "balance": 0.0, "dailyLimit": 50.0, "dailySpent": 1.5, "monthlyLimit": null, "monthlySpent": 1.5,
        "totalLimit": 1.0, "totalSpent": 1.5,
    });
    assert_eq!(body["budgetStatus"], status);
    assert_eq!(body["details"]["period"], "total");
    let runs = app.get(&format!("/threads/{thread}/runs")).await.ok();
    for (path, body) in [
        ("/threads".to_owned(), json!({"content": "Hello", "stream": false})),
        (format!("/threads/{thread}/context/actions"), json!({"action": "compact"})),
        (format!("/threads/{thread}/context/actions/btw/stream"), json!({"prompt": "?"})),
        (format!("/threads/{thread}/activity/messages"), json!({"content": "Hello"})),
    ] {
        app.post(&path, body).await.failed(402);
    }
    assert_eq!(app.get(&format!("/threads/{thread}/runs")).await.ok(), runs, "nothing was made");
    assert_eq!(app.get("/threads").await.ok()["total_count"], 1);

    let added = app.post("/billing/budget/increase", json!({"amountUsd": 2, "description": "more"})).await.ok();
    assert_eq!(
        (&added["addedAmount"], &added["newBalance"], &added["totalSpent"]),
        (&json!(2.0), &json!(1.5), &json!(1.5))
    );
    app.post(&messages, hello).await.ok();
    let legacy = app.post("/budget/increase", json!({"amount": 1})).await.ok();
    assert_eq!(legacy["budget"], json!({"previousBalance": 1.5, "addedAmount": 1.0, "newBalance": 2.5}));
    let records = app.get("/billing/records").await.ok();
    let seen: Vec<Value> = records["data"]
        .as_array()
        .expect("records")
        .iter()
        .map(|record| json!([record["recordType"], record["amountUsd"], record["description"]]))
        .collect();
    let expected = json!([["credit", 1.0, null], ["credit", 2.0, "more"], ["charge", 1.5, "reply"]]);
    assert_eq!(json!(seen), expected);
    assert_eq!(app.get("/billing/records?type=credit").await.ok()["total_count"], 2);
    let transactions = app.get("/billing/transactions?limit=1&offset=1").await.ok();
    assert_eq!(transactions["pagination"], json!({"total": 3, "limit": 1, "offset": 1}));
    for wrong in [json!({}), json!({"amount": 0}), json!({"amount": -1}), json!({"amount": 1e300})] {
        app.post("/billing/budget/increase", wrong).await.failed(400);
    }
}

#[tokio::test]
async fn budgets_of_keys_and_agents_are_told_apart_and_a_retry_is_answered_as_before() {
    let app = App::start().await;
    let (plain, agents) = (app.thread().await, agents_thread(&app, "dear").await);
    let key = app.database.store.list_keys().await.expect("keys")[0].id.to_string();
    work(&app, &agents, 10).await;
    app.put("/billing/limits", json!({"subject": "agent", "id": "dear", "monthlyLimit": 0.00001})).await.ok();
    let hello = json!({"content": "Hello", "stream": false});
    let refused = app.post(&format!("/threads/{agents}/messages"), hello.clone()).await;
    assert!(refused.failed(402).starts_with("The budget of the agent for this month is used up"));
    let plain_messages = format!("/threads/{plain}/messages");
    let send = async |with: &str| {
        let request = axum::http::Request::post(&plain_messages)
            .header("authorization", format!("Bearer {}", app.key))
            .header("idempotency-key", with)
            .body(axum::body::Body::from(hello.to_string()))
            .expect("a valid request");
        app.send(request).await
    };
    let first = send("a").await.ok();
    app.put("/billing/limits", json!({"subject": "key", "id": key, "dailyLimit": 0})).await.ok();
    let message = send("b").await.failed(402);
    assert!(message.starts_with("The budget of the API key for today is used up"), "{message}");
    assert_eq!(send("a").await.ok()["run"]["id"], first["run"]["id"], "it was accepted before");
    // Another key may go on, and the limits go as they came.
    let other = app.post("/api-keys", json!({"name": "other"})).await.ok();
    let other = other["key"].as_str().expect("a key").to_owned();
    let queued = json!({"content": "Hello", "stream": false, "mode": "queue"}).to_string();
    app.call_with(&other, Method::POST, &plain_messages, queued).await.ok();
    let left = app.put("/billing/limits", json!({"subject": "key", "id": key, "dailyLimit": null})).await.ok();
    assert_eq!(left["total_count"], 1);
    assert_eq!(left["data"][0]["subject"], "agent");
    for (body, status) in [
        (json!({"subject": "key", "id": "nobody", "dailyLimit": 1}), 404),
        (json!({"subject": "agent", "id": "nobody", "dailyLimit": 1}), 404),
        (json!({"subject": "agent", "dailyLimit": 1}), 400),
        (json!({"subject": "team", "id": "x"}), 400),
        (json!({"id": "x"}), 400),
        (json!({"dailyLimit": -1}), 400),
        (json!({"dailyLimit": "1"}), 400),
    ] {
        assert_eq!(app.put("/billing/limits", body.clone()).await.status, status, "{body}");
    }
}

#[tokio::test]
async fn preferences_are_the_monthly_limit_and_what_there_is_not_says_so() {
    let app = App::start().await;
    let seen =
        app.patch("/billing/preferences", json!({"monthlyResourceSpendLimit": 20, "pauseOnLimit": true})).await.ok();
    assert_eq!(seen["billing"]["monthlyResourceSpendLimit"], 20.0);
    assert_eq!(app.get("/billing/account").await.ok()["account"]["monthlyBudget"], 20.0);
    let cleared = app.patch("/billing/preferences", json!({"monthlyResourceSpendLimit": null})).await.ok();
    assert_eq!(cleared["billing"]["monthlyResourceSpendLimit"], Value::Null);
    for body in [json!({"pauseOnLimit": false}), json!({"resourceEmailAlerts": true}), json!({"inference": {}})] {
        app.patch("/billing/preferences", body).await.failed(501);
    }
    let message = app.get("/billing/catalog").await.failed(501);
    assert_eq!(
        message,
        "/billing/catalog is a part of the hosted service: this server has no plans and takes no money"
    );
    app.post("/billing/inference/endpoints", json!({})).await.failed(501);
    app.patch("/billing/organization/usage-controls", json!({})).await.failed(501);
    app.delete("/billing/inference/endpoints/x").await.failed(501);
    app.post("/budget/checkout", json!({"variantId": "x"})).await.failed(501);
    assert_eq!(app.get("/budget/topup-options").await.ok(), json!({"options": []}));
    assert_eq!(app.get("/budget/payment-status").await.ok(), json!({"configured": false, "pendingPayments": 0}));
}

#[tokio::test]
async fn no_budget_holds_for_an_internal_key() {
    let app = App::start().await;
    let (store, project) = (&app.database.store, &app.database.project);
    let new = store::keys::NewKey { kind: domain::key::KeyKind::Internal, ..store::keys::NewKey::named("own") };
    let (_, own) = store.create_key_with(project, new).await.expect("a key");
    let thread = app.thread().await;
    app.put("/billing/limits", json!({"totalLimit": 0})).await.ok();
    let messages = format!("/threads/{thread}/messages");
    let hello = json!({"content": "Hello", "stream": false}).to_string();
    app.call(Method::POST, &messages, hello.clone()).await.failed(402);
    app.call_with(secrecy::ExposeSecret::expose_secret(&own), Method::POST, &messages, hello).await.ok();
}
