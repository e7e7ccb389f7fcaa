//! Projects, and who is above them: administrators and their log.

use axum::{
    body::Body,
    http::{Method, Request},
};
use domain::{
    scope::Scopes,
    tier::{Tier, Tiers},
};
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use store::keys::NewKey;

use crate::app::{App, Reply, redacted};

async fn admin_key(app: &App) -> String {
    let new = NewKey { scopes: Scopes::admin(), ..NewKey::named("admin") };
    let made = app.database.store.create_key_with(&app.database.project, new).await;
    made.expect("a key").1.expose_secret().to_owned()
}

/// Calls in a project of the administrator's choice.
async fn call_in(app: &App, key: &str, project: &str, method: Method, path: &str, body: Value) -> Reply {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("authorization", format!("Bearer {key}"))
        .header("x-computer-agents-project", project)
        .body(Body::from(body.to_string()))
        .expect("a valid request");
    app.send(request).await
}

#[tokio::test]
async fn a_key_sees_its_own_project_and_an_administrator_all_of_the_organization() {
    let app = App::start().await;
    let admin = admin_key(&app).await;
    let body = json!({
        "id": "website", "name": "Website", "description": "d", "color": "#fff", "metadata": {"a": 1}, "type": "local",
        "environmentIds": ["env_1"], "tags": ["t"], "unknown": 1,
    });
    let reply = app.call_with(&admin, Method::POST, "/v1/projects", body.to_string()).await;
    assert_eq!(reply.status, 201);
    insta::assert_json_snapshot!(redacted(reply.ok()));
    app.call_with(&admin, Method::POST, "/projects", body.to_string()).await.failed(409);
    app.post("/projects", json!({"name": "x"})).await.failed(403);

    let mine = app.get("/projects").await.ok();
    assert_eq!(mine["data"], mine["projects"]);
    assert_eq!((&mine["count"], &mine["data"][0]["name"]), (&json!(1), &json!("Default")));
    let all = app.call_with(&admin, Method::GET, "/projects", "").await.ok();
    assert_eq!(all["total_count"], 2);
    for (query, count) in [("q=WEB", 1), ("type=local", 1), ("type=cloud", 1), ("q=zzz", 0), ("limit=1", 2)] {
        let found = app.call_with(&admin, Method::GET, &format!("/projects?{query}"), "").await.ok();
        assert_eq!(found["total_count"], count, "{query}");
    }
    for method in [Method::GET, Method::PATCH] {
        app.call(method, "/projects/website", "{}").await.failed(404);
    }
    let changed = json!({"name": "Site", "description": null, "metadata": null, "color": "#000"}).to_string();
    let changed = app.call_with(&admin, Method::PATCH, "/projects/website", changed).await.ok()["project"].clone();
    let seen = json!([changed["name"], changed["description"], changed["metadata"], changed["color"], changed["tags"]]);
    assert_eq!(seen, json!(["Site", null, null, "#000", ["t"]]));
}

#[tokio::test]
async fn the_keys_own_project_is_shown_with_what_is_in_it() {
    let app = App::start().await;
    let environment = app.environment().await;
    app.post("/threads", json!({"environmentId": environment})).await.ok();
    app.post(&format!("/environments/{environment}/files/mkdir"), json!({"path": "x"})).await.ok();
    let seen = app.get("/v1/project").await.ok();
    assert_eq!(seen["project"]["id"], app.database.project.as_str());
    let stats = json!({"threadCount": 1, "runCount": 0, "totalTokens": 0, "totalCost": 0.0, "storageBytes": 0});
    assert_eq!(seen["project"]["stats"], stats);
    assert_eq!(seen["summary"]["environmentsCount"], 1);
    assert_eq!(
        (&seen["environments"][0]["id"], seen["recentThreads"].as_array().map(Vec::len)),
        (&json!(environment), Some(1))
    );
    let by_id = app.get(&format!("/projects/{}", app.database.project)).await.ok();
    assert_eq!(by_id, seen);
    let changed = app.patch("/project", json!({"name": "Mine", "tags": ["a"]})).await.ok();
    assert_eq!((&changed["project"]["name"], &changed["project"]["tags"]), (&json!("Mine"), &json!(["a"])));
    assert_eq!(app.post("/project/sync", json!({})).await.ok(), json!({"synced": true, "fileCount": 0}));
    assert_eq!(app.patch("/project", json!({"name": null})).await.failed(400), "name: must not be null");
}

#[tokio::test]
async fn an_administrator_works_in_any_project_of_the_organization_and_in_no_other() {
    let app = App::start().await;
    let admin = admin_key(&app).await;
    let (other, other_key) = app.another_project().await;
    let agent = json!({"id": "theirs", "name": "a", "model": "m"});
    call_in(&app, &admin, other.as_str(), Method::POST, "/agents", agent).await.ok();
    app.call_with(&other_key, Method::GET, "/agents/theirs", "").await.ok();
    app.call_with(&admin, Method::GET, "/agents/theirs", "").await.failed(404);
    let refused = "The API key does not open the project that was named";
    // A key that is no administrator's names its own project or none.
    call_in(&app, &app.key, app.database.project.as_str(), Method::GET, "/agents", json!({})).await.ok();
    assert_eq!(call_in(&app, &app.key, other.as_str(), Method::GET, "/agents", json!({})).await.failed(403), refused);

    let store = &app.database.store;
    let organization = store.create_organization("Elsewhere").await.expect("an organization");
    let new = store::projects::NewProject { name: "Foreign".into(), ..Default::default() };
    let foreign = store.create_project_in(&organization, new).await.expect("a project");
    let (foreign_key, text) = store.create_key(&foreign.id, "foreign", None).await.expect("a key");
    for project in [foreign.id.as_str(), "nothing", "a/b"] {
        assert_eq!(call_in(&app, &admin, project, Method::GET, "/agents", json!({})).await.failed(403), refused);
    }
    let list = app.call_with(&admin, Method::GET, "/projects", "").await.ok();
    assert_eq!(list["total_count"], 2);
    let keys = app.call_with(&admin, Method::GET, "/admin/keys", "").await;
    assert!(!keys.text().contains(foreign_key.id.as_str()));
    for (method, path) in [
        (Method::GET, format!("/projects/{}", foreign.id)),
        (Method::DELETE, format!("/projects/{}", foreign.id)),
        (Method::GET, format!("/admin/keys/{}", foreign_key.id)),
        (Method::PATCH, format!("/admin/keys/{}", foreign_key.id)),
        (Method::DELETE, format!("/admin/keys/{}", foreign_key.id)),
        (Method::POST, format!("/admin/keys/{}/revoke", foreign_key.id)),
        (Method::GET, format!("/admin/keys/{}/usage-stats", foreign_key.id)),
    ] {
        app.call_with(&admin, method.clone(), &path, "{}").await.failed(404);
    }
    let make = json!({"name": "k", "projectId": foreign.id}).to_string();
    app.call_with(&admin, Method::POST, "/admin/keys", make).await.failed(404);
    app.call_with(text.expose_secret(), Method::GET, "/agents", "").await.ok();
}

#[tokio::test]
async fn a_deleted_project_opens_nothing_and_cannot_be_the_requests_own() {
    let app = App::start().await;
    let admin = admin_key(&app).await;
    let (other, other_key) = app.another_project().await;
    let path = format!("/projects/{other}");
    app.call_with(&admin, Method::DELETE, &format!("{path}?hard=true"), "").await.failed(501);
    let own = format!("/projects/{}", app.database.project);
    app.call_with(&admin, Method::DELETE, &own, "").await.failed(409);
    let environment = app.database.store.default_environment(&other).await.expect("an environment").id;
    let work = json!({"environmentId": environment, "content": "Hello", "stream": false}).to_string();
    let thread = app.call_with(&other_key, Method::POST, "/threads", work).await.ok();
    let message = app.call_with(&admin, Method::DELETE, &path, "").await.failed(409);
    assert_eq!(message, "The project has 1 runs under way: cancel them first");
    let cancel = format!("/threads/{}/cancel", thread["thread"]["id"].as_str().expect("an id"));
    app.call_with(&other_key, Method::POST, &cancel, "").await.ok();
    app.call_with(&admin, Method::DELETE, &path, "").await.ok();
    app.call_with(&other_key, Method::GET, "/agents", "").await.failed(401);
    app.call_with(&admin, Method::GET, &path, "").await.failed(404);
}

#[tokio::test]
async fn an_administrator_makes_changes_and_deletes_keys_of_any_project() {
    let app = App::start().await;
    let admin = admin_key(&app).await;
    let (other, _) = app.another_project().await;
    for (method, path) in
        [(Method::GET, "/admin/keys"), (Method::POST, "/admin/keys"), (Method::GET, "/admin/audit-log")]
    {
        let message = app.call(method, path, "{}").await.failed(403);
        assert_eq!(message, "The API key does not have the scope 'admin', which this needs");
    }
    let body = json!({"name": "k", "projectId": other, "scopes": ["agents:read"], "keyType": "internal"}).to_string();
    let made = app.call_with(&admin, Method::POST, "/v1/admin/keys", body).await.ok();
    let (id, key) = (made["id"].as_str().expect("an id"), made["key"].as_str().expect("a key"));
    assert_eq!((&made["projectId"], &made["keyType"]), (&json!(other), &json!("internal")));
    let path = format!("/admin/keys/{id}");
    app.call_with(key, Method::GET, "/agents", "").await.ok();
    app.call_with(key, Method::POST, "/agents", r#"{"name": "a", "model": "m"}"#).await.failed(403);
    // What it may do changes with the next request.
    let patch = json!({"scopes": ["agents:write"], "name": "w", "expiresAt": "2099-01-01T00:00:00Z"}).to_string();
    let changed = app.call_with(&admin, Method::PATCH, &path, patch).await.ok();
    assert_eq!((&changed["name"], &changed["scopes"]), (&json!("w"), &json!(["agents:write"])));
    app.call_with(key, Method::POST, "/agents", r#"{"name": "a", "model": "m"}"#).await.ok();
    let inactive = app.call_with(&admin, Method::PATCH, &path, r#"{"isActive": false}"#).await.ok();
    assert_eq!(inactive["isActive"], false);
    app.call_with(key, Method::GET, "/agents", "").await.failed(401);
    app.call_with(&admin, Method::PATCH, &path, r#"{"isActive": true}"#).await.ok();
    app.call_with(key, Method::GET, "/agents", "").await.ok();

    let stats = app.call_with(&admin, Method::GET, &format!("{path}/usage-stats?windows=1,30"), "").await.ok();
    assert_eq!(stats["lifetime"]["totalRequests"], 4, "those that were let in: {stats}");
    assert_eq!(stats["windows"]["1"], stats["windows"]["30"]);
    assert_eq!(stats["lifetime"]["successRate"], 0.75);
    app.call_with(&admin, Method::GET, &format!("{path}/usage-stats?windows=0"), "").await.failed(400);

    app.call_with(&admin, Method::POST, &format!("{path}/revoke"), "").await.ok();
    app.call_with(key, Method::GET, "/agents", "").await.failed(401);
    app.call_with(&admin, Method::DELETE, &path, "").await.ok();
    app.call_with(&admin, Method::GET, &path, "").await.failed(404);
}

#[tokio::test]
async fn whatever_may_change_something_is_in_the_log_with_who_did_it_and_no_secret() {
    let app = App::start().await;
    let admin = admin_key(&app).await;
    let environment = app.environment().await;
    app.get("/agents").await.ok();
    app.post("/threads/search", json!({"query": "x"})).await.ok();
    app.post("/agents", json!({"id": "mine", "name": "a", "model": "m"})).await.ok();
    app.delete("/agents/mine?hard=1").await.ok();
    app.delete("/agents/mine").await.failed(404);
    let secret = json!({"key": "TOKEN", "value": "canary-1234567"});
    app.post(&format!("/v1/environments/{environment}/secrets"), secret).await.ok();
    app.delete(&format!("/environments/{environment}/files/salaries/anna.xls")).await.failed(404);
    app.post("/projects", json!({"name": "x"})).await.failed(403);

    let log = app.call_with(&admin, Method::GET, "/admin/audit-log", "").await;
    let lines = log.ok()["data"].as_array().expect("lines").clone();
    let seen: Vec<Value> =
        lines.iter().map(|line| json!([line["method"], line["route"], line["subject"], line["status"]])).collect();
    let expected = json!([
        ["POST", "/projects", {}, 403],
        ["DELETE", "/environments/{id}/files/{*path}", {"id": environment}, 404],
        ["POST", "/environments/{id}/secrets", {"id": environment}, 201],
        ["DELETE", "/agents/{id}", {"id": "mine"}, 404],
        ["DELETE", "/agents/{id}", {"id": "mine"}, 200],
        ["POST", "/agents", {}, 201],
    ]);
    assert_eq!(json!(seen), expected);
    let keys = app.database.store.list_keys().await.expect("keys");
    let mine = keys.iter().find(|key| key.name == "test").expect("the key of the tests");
    assert!(lines.iter().all(|line| line["keyId"] == mine.id.as_str() && line["requestId"].is_string()));
    for hidden in ["canary", "TOKEN", "anna", &app.key] {
        assert!(!log.text().contains(hidden), "{hidden}");
    }
    for (query, count) in [
        ("method=delete", 3),
        ("route=/agents/%7Bid%7D", 2),
        (&*format!("keyId={}", mine.id), 6),
        ("projectId=other", 0),
        ("since=2099-01-01T00:00:00Z", 0),
        ("until=2099-01-01T00:00:00Z&limit=1", 6),
    ] {
        let found = app.call_with(&admin, Method::GET, &format!("/admin/audit-log?{query}"), "").await.ok();
        assert_eq!(found["total_count"], count, "{query}");
    }
}

#[tokio::test]
async fn the_log_cannot_be_changed() {
    let app = App::start().await;
    app.post("/agents", json!({"name": "a", "model": "m"})).await.ok();
    let pool = app.database.pool().await;
    for statement in ["update audit_log set status = 1", "delete from audit_log", "truncate audit_log"] {
        let refused = sqlx::query(statement).execute(&pool).await.expect_err("is refused").to_string();
        assert!(refused.contains("audit_log is only added to"), "{refused}");
    }
    let count: i64 = sqlx::query_scalar("select count(*) from audit_log").fetch_one(&pool).await.expect("reads");
    assert_eq!(count, 1);
}

#[tokio::test]
async fn older_clients_find_the_files_of_a_project_in_its_default_environment() {
    let app = App::start().await;
    let environment = app.environment().await;
    let written = app.put("/files/src%2Fa.txt", json!({"content": "ä\n"})).await.ok()["file"].clone();
    assert_eq!(json!([written["path"], written["type"], written["size"]]), json!(["src/a.txt", "file", 3]));
    let bytes = json!({"content": "/wA=", "contentType": "application/octet-stream", "environmentId": environment});
    app.put("/v1/files/b.bin", bytes).await.ok();
    assert_eq!(app.get("/files/src%2Fa.txt").await.ok(), json!("ä\n"));
    assert_eq!(app.get("/files/b.bin").await.ok(), json!("/wA="));
    let there = app.get(&format!("/environments/{environment}/files/b.bin")).await;
    assert_eq!(there.body, [0xff, 0]);
    let directory = app.post("/directories", json!({"path": "x/y"})).await.ok()["directory"].clone();
    assert_eq!(json!([directory["path"], directory["type"]]), json!(["x/y", "directory"]));
    let moved = app.post("/files/move", json!({"source": "b.bin", "destination": "x/c.bin"})).await.ok();
    assert_eq!(moved["file"]["path"], "x/c.bin");
    let paths = |list: Value| -> Vec<Value> {
        list["files"].as_array().expect("files").iter().map(|file| file["path"].clone()).collect()
    };
    assert_eq!(json!(paths(app.get("/files").await.ok())), json!(["src", "x"]));
    let all = paths(app.get("/files?recursive=true").await.ok());
    assert_eq!(json!(all), json!(["src", "src/a.txt", "x", "x/c.bin", "x/y"]));
    app.delete("/files/x").await.failed(409);
    app.delete("/files/x?recursive=true").await.ok();
    app.delete("/files/x?recursive=true").await.failed(404);
    app.get("/files/nothing").await.failed(404);
    let (_, other) = app.another_project().await;
    for (method, path, body) in [
        (Method::GET, format!("/files?environmentId={environment}"), json!({})),
        (Method::GET, format!("/files/src%2Fa.txt?environmentId={environment}"), json!({})),
        (Method::DELETE, format!("/files/src%2Fa.txt?environmentId={environment}"), json!({})),
        (Method::PUT, "/files/z".to_owned(), json!({"content": "z", "environmentId": environment})),
        (
            Method::POST,
            "/files/move".to_owned(),
            json!({"source": "src", "destination": "z", "environmentId": environment}),
        ),
        (Method::POST, "/directories".to_owned(), json!({"path": "z", "environmentId": environment})),
    ] {
        app.call_with(&other, method, &path, body.to_string()).await.failed(404);
    }
    assert_eq!(json!(paths(app.get("/files").await.ok())), json!(["src"]));
}

/// One run at once and three requests in a window, or as in general.
fn tiers() -> Tiers {
    let free = Tier { concurrent_runs: Some(1), requests_per_window: Some(3) };
    [("free", free), ("silent", Tier::default())].into_iter().collect()
}

#[tokio::test]
async fn only_an_administrator_says_of_which_tier_a_project_is() {
    let app = App::start_with(|settings| settings.tiers = tiers().into()).await;
    let admin = admin_key(&app).await;
    let own = format!("/projects/{}", app.database.project);
    assert_eq!(app.get("/project").await.ok()["project"]["tier"], Value::Null);
    for path in [own.as_str(), "/project"] {
        let message = app.patch(path, json!({"tier": "silent", "name": "Mine"})).await.failed(403);
        assert_eq!(message, "The API key does not have the scope 'admin', which this needs");
        // As it is already: nothing is asked for.
        app.patch(path, json!({"tier": null, "description": "d"})).await.ok();
        let unknown = app.call_with(&admin, Method::PATCH, path, r#"{"tier": "gold"}"#).await;
        assert_eq!(unknown.status, 400);
        let field = &unknown.json()["details"][0];
        assert_eq!(field, &json!({"field": "tier", "message": "must be a tier of the settings: free, silent"}));
    }
    let project = app.get("/project").await.ok()["project"].clone();
    assert_eq!(
        (&project["name"], &project["tier"], &project["description"]),
        (&json!("Default"), &Value::Null, &json!("d"))
    );
    assert_eq!(app.get("/billing/budget").await.ok()["tier"], "self_hosted");

    let set = app.call_with(&admin, Method::PATCH, &own, r#"{"tier": "silent"}"#).await.ok();
    assert_eq!(set["project"]["tier"], "silent");
    assert_eq!(app.get("/project").await.ok()["project"]["tier"], "silent");
    assert_eq!(app.get("/billing/budget").await.ok()["tier"], "silent");
    app.patch(&own, json!({"tier": null})).await.failed(403);
    app.patch(&own, json!({"tier": "silent", "name": "Same"})).await.ok();
    let made = json!({"name": "New", "tier": "free"}).to_string();
    assert_eq!(app.call_with(&admin, Method::POST, "/projects", made).await.ok()["project"]["tier"], "free");
    app.call_with(&admin, Method::POST, "/projects", r#"{"name": "New", "tier": "gold"}"#).await.failed(400);
    let cleared = app.call_with(&admin, Method::PATCH, &own, r#"{"tier": null}"#).await.ok();
    assert_eq!(cleared["project"]["tier"], Value::Null);
}

#[tokio::test]
async fn a_tier_changes_how_often_a_project_may_ask_and_how_much_of_it_runs_at_once() {
    let app = App::start_with(|settings| {
        settings.tiers = tiers().into();
        settings.requests_per_project = 50;
    })
    .await;
    let admin = admin_key(&app).await;
    let (busy, thread) = (app.thread().await, app.thread().await);
    let later = json!({"content": "later", "stream": false, "queueWhenCapacityUnavailable": true});
    app.post(&format!("/threads/{busy}/messages"), json!({"content": "go", "stream": false})).await.ok();
    let reply = app.get("/project").await;
    assert_eq!(reply.header("ratelimit-limit"), "50");
    let own = format!("/projects/{}", app.database.project);
    app.call_with(&admin, Method::PATCH, &own, r#"{"tier": "free"}"#).await.ok();
    // What is left of what was more is three.
    let put_off = app.post(&format!("/threads/{thread}/messages"), later).await;
    assert_eq!(put_off.header("ratelimit-limit"), "3");
    assert_eq!(put_off.ok()["queued"], true);
    for _ in 0..2 {
        app.get("/agents").await.ok();
    }
    let reply = app.get("/agents").await;
    assert_eq!(reply.failed(429), "Too many requests: a project may make 3 in 900 seconds");
    // An administrator of another project asks on behalf of that one.
    let (other, _) = app.another_project().await;
    let organization_key = {
        let new = NewKey { scopes: Scopes::admin(), ..NewKey::named("other") };
        app.database.store.create_key_with(&other, new).await.expect("a key").1.expose_secret().to_owned()
    };
    app.call_with(&organization_key, Method::PATCH, &own, r#"{"tier": null}"#).await.ok();
    let reply = app.get("/agents").await;
    assert_eq!(reply.header("ratelimit-limit"), "50");
}
