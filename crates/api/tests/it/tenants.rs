//! Every route of the OpenAPI document with the ids of another project, and with keys that open nothing: nothing is found,
//! and not a row changes.

use axum::http::Method;
use domain::{
    PermissionRequestId, ProjectId,
    change::{Author, Source},
    run::Run,
    scope::Scopes,
};
use ledger::{Ledger, Writer};
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use sqlx::PgPool;
use store::{keys::NewKey, leases::Checkpoint, permissions::NewRequest, projects::NewProject, research::NewSession};

use crate::{
    app::{App, Reply},
    threads::claim,
};

/// What one project has, by the names that the parameters of paths have for it.
struct Things {
    key: String,
    /// By first word of the path: what `{id}` is.
    ids: Vec<(&'static str, String)>,
    /// By parameter: what is below one of those.
    parts: Vec<(&'static str, String)>,
}

/// Parameters that name no row, of which every project may have its own: what they are here.
const NAMES: [(&str, &str); 7] =
    [("userId", "x"), ("path", "x"), ("type", "python"), ("name", "x"), ("sha", "x"), ("key", "x"), ("rest", "x")];

/// Gives a name for a parameter that is one.
fn name_for(parameter: &str) -> Option<&'static str> {
    NAMES.iter().find(|(name, _)| *name == parameter).map(|(_, value)| *value)
}

impl Things {
    /// Makes one of each in a project.
    async fn make(app: &App, project: &ProjectId, key: String) -> Self {
        let store = &app.database.store;
        let post =
            async |path: String, body: Value| app.call_with(&key, Method::POST, &path, body.to_string()).await.ok();
        let text = |value: &Value| value.as_str().expect("an id").to_owned();
        let environment = store.default_environment(project).await.expect("an environment").id.to_string();
        let agent = post("/agents".into(), json!({"name": "a", "model": "m"})).await;
        let versions = format!("/agents/{}/versions", text(&agent["agent"]["id"]));
        let versions = app.call_with(&key, Method::GET, &versions, "").await.ok();
        let skill = post("/skills".into(), json!({"name": "s"})).await;
        let thread = text(&post("/threads".into(), json!({"environmentId": environment})).await["thread"]["id"]);
        let daily = json!({"name": "d", "task": "t", "cronExpression": "0 9 * * *"});
        let schedule = post("/schedules".into(), daily).await;
        let push = json!({"name": "t", "environmentId": environment, "source": "custom", "event": "*", "action": {}});
        let trigger = post("/triggers".into(), push).await;
        let webhook = post("/webhooks".into(), json!({"url": "https://example.com"})).await;
        let webhook = text(&webhook["webhook"]["id"]);
        let delivery = post(format!("/webhooks/{webhook}/test"), json!({})).await;
        let made_key = post("/api-keys".into(), json!({"name": "k"})).await;
        for name in ["x", "y"] {
            post(format!("/environments/{environment}/files/mkdir"), json!({"path": name})).await;
        }
        let changes = format!("/environments/{environment}/changes");
        let changes = app.call_with(&key, Method::GET, &changes, "").await.ok();
        let snapshots = format!("/environments/{environment}/snapshots");
        let snapshots = app.call_with(&key, Method::GET, &snapshots, "").await.ok();
        let preview = post(format!("/environments/{environment}/previews"), json!({"port": 80})).await;
        let run = post(format!("/threads/{thread}/messages"), json!({"content": "a", "stream": false})).await;
        let mut claimed = claim(store).await;
        change_a_file(app, &claimed.run).await;
        let steps = app.call_with(&key, Method::GET, &format!("/threads/{thread}/steps"), "").await.ok();
        let request = NewRequest {
            id: PermissionRequestId::generate(),
            call_id: "toolu_1".into(),
            tool: "Bash".into(),
            input: "{}".into(),
            rule: "Bash".into(),
            unanswered: "[]".into(),
            ttl: std::time::Duration::from_secs(3600),
        };
        let request_id = request.id.to_string();
        let asked = NewSession { call_id: "toolu_2".into(), query: "why?".into(), model: "m".into() };
        let session = store.begin_research(&claimed.lease.renewal(), &claimed.run, &asked).await.expect("begins");
        let checkpoint = Checkpoint { requests: vec![request], ..Checkpoint::default() };
        store.checkpoint(&mut claimed.lease, &checkpoint).await.expect("the lease is good");
        store.park_waiting(&claimed.lease).await.expect("parks");
        assert!(run.to_string().contains(claimed.run.id.as_str()), "{run}");
        Self {
            ids: vec![
                ("agents", text(&agent["agent"]["id"])),
                ("skills", text(&skill["skill"]["id"])),
                ("environments", environment.clone()),
                ("git", environment),
                ("threads", thread),
                ("schedules", text(&schedule["schedule"]["id"])),
                ("triggers", text(&trigger["trigger"]["id"])),
                ("webhooks", webhook),
                ("projects", project.to_string()),
                ("api-keys", text(&made_key["id"])),
                ("admin", text(&made_key["id"])),
            ],
            parts: vec![
                ("changeId", text(&changes["data"][0]["id"])),
                ("snapshotId", text(&snapshots["data"][0]["id"])),
                ("previewId", text(&preview["preview"]["id"])),
                ("runId", claimed.run.id.to_string()),
                ("deliveryId", text(&delivery["delivery"]["id"])),
                ("versionId", text(&versions["data"][0]["id"])),
                ("stepId", text(&steps["data"][0]["id"])),
                ("request_id", request_id),
                ("session_id", session.id.to_string()),
            ],
            key,
        }
    }

    fn id(&self, template: &str) -> &str {
        let area = template.split('/').nth(1).expect("a first word");
        let found = self.ids.iter().find(|(of, _)| *of == area);
        &found.unwrap_or_else(|| panic!("no id for {area}: make one above")).1
    }

    fn part(&self, parameter: &str) -> &str {
        let found = self.parts.iter().find(|(of, _)| *of == parameter);
        &found.unwrap_or_else(|| panic!("no {parameter}: make one above, or say that it is a name")).1
    }
}

/// Makes a step of a run's thread, as its calls would.
async fn change_a_file(app: &App, run: &Run) {
    let store = &app.database.store;
    let thread = store.find_thread(&run.project_id, &run.thread_id).await.expect("reads").expect("a thread");
    let environment = thread.environment_id;
    let ledger = Ledger::new(store.clone(), app.sandboxes.clone(), ledger::Options::default());
    ledger.capture(&environment).await.expect("captures");
    let author = Author {
        source: Source::Run,
        thread_id: Some(run.thread_id.clone()),
        run_id: Some(run.id.clone()),
        message_id: run.message_id.clone(),
        agent_id: None,
        key_id: None,
    };
    let writer = Writer { author, title: "Write".into(), named: Default::default(), may_write_all: true };
    let working = ledger.begin(&environment, writer);
    let workspace = app.sandboxes.directories(&environment).expect("makes").workspace;
    std::fs::write(workspace.join("step"), "x").expect("writes");
    drop(working);
    ledger.capture(&environment).await.expect("captures");
}

/// A body that every route takes for its own.
fn body(path: &str) -> String {
    if path.ends_with("/report") || path.ends_with("/commit") {
        return json!({"reportType": "bug", "message": "m"}).to_string();
    }
    if path.starts_with("/triggers") {
        return json!({"name": "n", "enabled": false}).to_string();
    }
    let action = if path.ends_with("/control") { "cancel" } else { "compact" };
    let body = json!({
        "name": "n", "path": "x", "sourcePath": "x", "destPath": "z", "content": "c", "rating": "up", "logs": [],
        "action": action, "prompt": "p", "decision": "allow", "key": "K", "value": "v", "teamId": "t",
        "repoUrl": "https://example.com/a/b", "repoFullName": "a/b", "paths": ["x"], "destinationEnvironmentId": "x",
        "type": "python", "packages": ["x"], "port": 80, "runtimes": {"python": "3.12"},
    });
    body.to_string()
}

/// Adds what some routes must be told.
fn with_query(method: &Method, path: String) -> String {
    if *method == Method::GET { format!("{path}?path=x") } else { path }
}

fn parameters(template: &str) -> Vec<String> {
    let names = template.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    names.map(str::to_owned).collect()
}

/// Each route with a parameter in its path: method, path in the document, scope.
fn routes() -> Vec<(Method, String, String)> {
    let document = serde_json::to_value(api::openapi()).expect("JSON");
    let mut routes = Vec::new();
    for (template, item) in document["paths"].as_object().expect("paths") {
        for (method, operation) in item.as_object().expect("an item") {
            let Some(scope) = operation["x-required-scope"].as_str() else { continue };
            routes.push((method.to_uppercase().parse().expect("a method"), template.clone(), scope.to_owned()));
        }
    }
    routes
}

/// Everything in the database but what the requests themselves leave: the use of keys and the log.
async fn fingerprint(pool: &PgPool) -> Vec<(String, String)> {
    let tables: Vec<String> = sqlx::query_scalar(
        "select table_name::text from information_schema.tables where table_schema = 'public' order by 1",
    )
    .fetch_all(pool)
    .await
    .expect("reads");
    let mut sums = Vec::new();
    for table in tables {
        if ["audit_log", "key_usage", "request_buckets", "_sqlx_migrations"].contains(&&*table) {
            continue;
        }
        let columns = match &*table {
            "api_keys" => "(t.id, t.name, t.scopes, t.revoked_at, t.deleted_at, t.expires_at)",
            _ => "t",
        };
        let sum: String = sqlx::query_scalar(sqlx::AssertSqlSafe(format!(
            "select md5(coalesce(string_agg({columns}::text, ',' order by {columns}::text), '')) from \"{table}\" t"
        )))
        .fetch_one(pool)
        .await
        .expect("reads");
        sums.push((table, sum));
    }
    sums
}

/// A key that may do everything in a project of an organization of its own, administering included.
async fn stranger(app: &App) -> (ProjectId, String) {
    let store = &app.database.store;
    let organization = store.create_organization("Strangers").await.expect("an organization");
    let new = NewProject { name: "Strange".into(), ..NewProject::default() };
    let project = store.create_project_in(&organization, new).await.expect("a project").id;
    let admin = NewKey { scopes: Scopes::admin(), ..NewKey::named("stranger") };
    let (_, key) = store.create_key_with(&project, admin).await.expect("a key");
    (project, key.expose_secret().to_owned())
}

/// Says what was answered, if it was not that nothing is there.
fn what_was_found(reply: &Reply, what: &str) -> Option<String> {
    let is_not_found = reply.status == 404 && reply.json()["error"] == "Not Found";
    (!is_not_found).then(|| format!("{what}: {} {}", reply.status, String::from_utf8_lossy(&reply.body)))
}

#[tokio::test]
async fn another_projects_ids_are_not_found_on_any_route_and_nothing_changes() {
    let app = App::start_with(|settings| settings.requests_per_window = 0).await;
    let mine = Things::make(&app, &app.database.project.clone(), app.key.clone()).await;
    let (project, key) = stranger(&app).await;
    let theirs = Things::make(&app, &project, key).await;
    let pool = app.database.pool().await;
    let before = fingerprint(&pool).await;
    assert!(before.len() > 20, "{before:?}");
    let (mut foreign_ids, mut foreign_parts, mut found) = (0, 0, Vec::new());
    for (method, template, _) in routes().into_iter().filter(|(_, template, _)| template.contains("{id}")) {
        // The other's thing, with what belongs to it.
        let mut path = template.replacen("{id}", mine.id(&template), 1);
        for name in parameters(&path) {
            let value = name_for(&name).unwrap_or_else(|| mine.part(&name));
            path = path.replacen(&format!("{{{name}}}"), value, 1);
        }
        let path = with_query(&method, path);
        let reply = app.call_with(&theirs.key, method.clone(), &path, body(&path)).await;
        found.extend(what_was_found(&reply, &format!("{method} {path}")));
        foreign_ids += 1;
        // One's own thing, with what belongs to the other's.
        if parameters(&template).iter().all(|name| name == "id" || name_for(name).is_some()) {
            continue;
        }
        let mut path = template.replacen("{id}", theirs.id(&template), 1);
        for name in parameters(&path) {
            let value = name_for(&name).unwrap_or_else(|| mine.part(&name));
            path = path.replacen(&format!("{{{name}}}"), value, 1);
        }
        let path = with_query(&method, path);
        let reply = app.call_with(&theirs.key, method.clone(), &path, body(&path)).await;
        found.extend(what_was_found(&reply, &format!("{method} {path}")));
        foreign_parts += 1;
    }
    assert_eq!(found, Vec::<String>::new());
    assert!(foreign_ids > 100 && foreign_parts > 10, "{foreign_ids} and {foreign_parts}");
    assert_eq!(fingerprint(&pool).await, before);
    println!("routes with another's id: {foreign_ids}, with another's part: {foreign_parts}, all 404");
}

#[tokio::test]
async fn a_body_that_names_another_projects_things_finds_nothing() {
    let app = App::start().await;
    let mine = Things::make(&app, &app.database.project.clone(), app.key.clone()).await;
    let (project, key) = stranger(&app).await;
    let theirs = Things::make(&app, &project, key).await;
    let (environment, agent) = (mine.id("/environments"), mine.id("/agents"));
    let (own, own_thread) = (theirs.id("/environments").to_owned(), theirs.id("/threads").to_owned());
    let daily = json!({"name": "d", "task": "t", "cronExpression": "0 9 * * *"});
    let push = json!({"name": "t", "source": "custom", "event": "*", "action": {}});
    let with = |base: &Value, name: &str, value: &str| {
        let mut body = base.clone();
        body[name] = value.into();
        body
    };
    for (method, path, body) in [
        (Method::POST, "/threads".to_owned(), json!({"environmentId": environment})),
        (Method::POST, "/threads".to_owned(), json!({"environmentId": own, "agentId": agent})),
        (Method::POST, "/schedules".to_owned(), with(&daily, "environmentId", environment)),
        (Method::POST, "/schedules".to_owned(), with(&daily, "agentId", agent)),
        (Method::POST, "/triggers".to_owned(), with(&push, "environmentId", environment)),
        (Method::POST, "/triggers".to_owned(), with(&with(&push, "environmentId", &own), "agentId", agent)),
        (Method::PATCH, format!("/triggers/{}", theirs.id("/triggers")), json!({"environmentId": environment})),
        (Method::PATCH, format!("/triggers/{}", theirs.id("/triggers")), json!({"agentId": agent})),
        (Method::POST, format!("/threads/{own_thread}/copy"), json!({"targetEnvironmentId": environment})),
        (
            Method::POST,
            format!("/environments/{own}/files/send"),
            json!({"paths": ["x"], "destinationEnvironmentId": environment}),
        ),
        (Method::PATCH, format!("/schedules/{}", theirs.id("/schedules")), json!({"environmentId": environment})),
    ] {
        let reply = app.call_with(&theirs.key, method.clone(), &path, body.to_string()).await;
        assert_eq!(what_was_found(&reply, &format!("{method} {path} {body}")), None);
    }
    // Lists are empty rather than wrong.
    for path in [format!("/threads?environmentId={environment}"), format!("/schedules?agentId={agent}")] {
        assert_eq!(app.call_with(&theirs.key, Method::GET, &path, "").await.ok()["total_count"], 0, "{path}");
    }
}

#[tokio::test]
async fn a_key_that_opens_nothing_is_refused_on_every_route() {
    let app = App::start_with(|settings| settings.failed_logins_per_minute = 0).await;
    let store = &app.database.store;
    let make = async |expires_at| store.create_key(&app.database.project, "k", expires_at).await.expect("a key");
    let (revoked, revoked_text) = make(None).await;
    store.revoke_key(revoked.id.as_str()).await.expect("revokes");
    let (_, expired_text) = make(Some(chrono::Utc::now() - chrono::Duration::seconds(1))).await;
    let wrong = format!("tb_{}", "0".repeat(64));
    let keys = [revoked_text.expose_secret(), expired_text.expose_secret(), &wrong, ""];
    let pool = app.database.pool().await;
    let before = fingerprint(&pool).await;
    let mut checked = 0;
    for (method, template, _) in routes() {
        let mut path = template.clone();
        for name in parameters(&template) {
            path = path.replacen(&format!("{{{name}}}"), "x", 1);
        }
        for key in keys {
            let reply = app.call_with(key, method.clone(), &path, body(&path)).await;
            assert_eq!(reply.status, 401, "{method} {path}");
            checked += 1;
        }
    }
    assert!(checked > 400, "{checked}");
    assert_eq!(fingerprint(&pool).await, before);
    let logged: i64 = sqlx::query_scalar("select count(*) from audit_log").fetch_one(&pool).await.expect("reads");
    assert_eq!(logged, 0);
    println!("routes with a key that opens nothing: {checked}, all 401");
}
