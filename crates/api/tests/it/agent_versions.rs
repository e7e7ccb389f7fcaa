//! Versions of agents: written at each change, shown, compared, brought back, and used by runs.

use axum::http::Method;
use serde_json::{Value, json};

use crate::{app::App, threads::claim};

async fn agent(app: &App) -> String {
    let body = json!({"name": "Reviewer", "model": "m1", "instructions": "Be brief."});
    let made = app.post("/agents", body).await.ok();
    made["agent"]["id"].as_str().expect("an id").to_owned()
}

/// Gives an agent's versions, the oldest first.
async fn versions(app: &App, agent: &str) -> Vec<Value> {
    let list = app.get(&format!("/agents/{agent}/versions")).await.ok();
    let mut versions = list["data"].as_array().expect("a list").clone();
    assert_eq!(list["total_count"], versions.len());
    versions.reverse();
    versions
}

fn id(version: &Value) -> &str {
    version["id"].as_str().expect("an id")
}

async fn act(app: &App, agent: &str, version: &Value, what: &str) -> Value {
    app.post(&format!("/agents/{agent}/versions/{}/{what}", id(version)), json!({})).await.ok()
}

#[tokio::test]
async fn each_change_is_a_version_and_none_is_none() {
    let app = App::start().await;
    let agent = agent(&app).await;
    let path = format!("/agents/{agent}");
    app.patch(&path, json!({"instructions": "Be kind.", "enabledSkills": ["web_search"]})).await.ok();
    app.patch(&path, json!({"instructions": "Be kind."})).await.ok();
    app.patch(&path, json!({"model": "m2"})).await.ok();
    let all = versions(&app, &agent).await;
    let seen: Vec<_> = all.iter().map(|v| (&v["label"], &v["snapshot"]["model"], &v["isCurrent"])).collect();
    assert_eq!(
        seen,
        [
            (&json!("v0"), &json!("m1"), &json!(false)),
            (&json!("v1"), &json!("m1"), &json!(false)),
            (&json!("v2"), &json!("m2"), &json!(true)),
        ]
    );
    assert_eq!(all[0]["snapshot"]["instructions"], "Be brief.");
    let one = app.get(&format!("{path}/versions/{}", id(&all[1]))).await.ok();
    assert_eq!(one["version"], all[1]);

    let compare = format!("{path}/versions/compare?baseVersionId={}&targetVersionId=", id(&all[0]));
    let found = app.get(&format!("{compare}{}", id(&all[2]))).await.ok();
    let changes: Vec<_> = found["changes"].as_array().expect("a list").iter().map(|c| c["field"].clone()).collect();
    assert_eq!(changes, ["model", "instructions", "enabledSkills"]);
    assert_eq!((&found["changes"][0]["from"], &found["changes"][0]["to"]), (&json!("m1"), &json!("m2")));
    assert_eq!(app.get(&format!("{compare}{}", id(&all[0]))).await.ok()["identical"], true);
    app.get(&format!("{path}/versions/compare?baseVersionId=x")).await.failed(400);
    app.get(&format!("{compare}agentver_none")).await.failed(404);

    // Brought back it is a change like others.
    let restored = act(&app, &agent, &all[0], "restore").await;
    assert_eq!((&restored["id"], &restored["version"]["id"]), (&all[0]["id"], &all[0]["id"]));
    assert_eq!((&restored["agent"]["model"], &restored["agent"]["enabledSkills"]), (&json!("m1"), &json!([])));
    let now = app.get(&path).await.ok();
    assert_eq!(now["agent"], restored["agent"]);
    let all = versions(&app, &agent).await;
    assert_eq!((all.len(), &all[3]["snapshot"], &all[3]["isCurrent"]), (4, &all[0]["snapshot"], &json!(true)));
}

#[tokio::test]
async fn versions_can_be_named_made_apart_and_deleted() {
    let app = App::start().await;
    let agent = agent(&app).await;
    let path = format!("/agents/{agent}/versions");
    let reply = app.post(&path, json!({"name": "Launch", "description": "d"})).await;
    assert_eq!(reply.status, 201);
    let launch = reply.ok()["version"].clone();
    assert_eq!(
        (&launch["name"], &launch["isCurrent"], &launch["versionNumber"]),
        (&json!("Launch"), &json!(true), &json!(1))
    );
    // With other fields: the agent stays as it is.
    let draft = app.post(&path, json!({"snapshot": {"model": "m9", "name": "Other"}})).await.ok()["version"].clone();
    assert_eq!((&draft["snapshot"]["model"], &draft["isCurrent"]), (&json!("m9"), &json!(false)));
    assert_eq!(app.get(&format!("/agents/{agent}")).await.ok()["agent"]["model"], "m1");
    app.post(&path, json!({"snapshot": {"name": ""}})).await.failed(400);

    let one = format!("{path}/{}", id(&draft));
    let changed = app.patch(&one, json!({"name": "Try", "description": null})).await.ok();
    assert_eq!((&changed["version"]["name"], &changed["version"]["description"]), (&json!("Try"), &Value::Null));
    assert_eq!(app.delete(&one).await.ok()["deleted"], true);
    app.get(&one).await.failed(404);
    let message = app.delete(&format!("{path}/{}", id(&launch))).await.failed(409);
    assert_eq!(message, "the version is what the agent is now, so it cannot be deleted");
    let first = versions(&app, &agent).await.remove(0);
    act(&app, &agent, &first, "publish").await;
    app.delete(&format!("{path}/{}", id(&first))).await.failed(409);
    act(&app, &agent, &first, "unpublish").await;
    app.delete(&format!("{path}/{}", id(&first))).await.ok();
    app.call(Method::POST, &format!("{path}/{}/unpublish", id(&launch)), "").await.failed(409);
}

#[tokio::test]
async fn a_run_notes_the_version_it_uses_and_keeps_it() {
    let app = App::start().await;
    let agent = agent(&app).await;
    let environment = app.environment().await;
    let store = &app.database.store;
    let begin = async || {
        let body = json!({"environmentId": environment, "agentId": agent, "content": "a", "stream": false});
        app.post("/threads", body).await.ok();
        claim(store).await
    };
    let first = versions(&app, &agent).await.remove(0);
    let claimed = begin().await;
    assert_eq!(claimed.run.agent_version_id.as_ref().map(ToString::to_string).as_deref(), first["id"].as_str());
    // Changed while it works, it stays what it was for this run, also for whoever takes it up.
    app.patch(&format!("/agents/{agent}"), json!({"instructions": "Be kind.", "model": "m2"})).await.ok();
    let used = store.find_agent_of_run(&claimed.run).await.expect("reads").expect("an agent");
    assert_eq!((used.model.as_str(), used.settings.instructions.as_deref()), ("m1", Some("Be brief.")));
    store.release(claimed.lease).await.expect("gives it back");
    let again = claim(store).await;
    assert_eq!(again.run.agent_version_id, claimed.run.agent_version_id);
    let runs = app.get(&format!("/threads/{}/runs", again.run.thread_id)).await.ok();
    assert_eq!(runs["runs"][0]["agentVersionId"], first["id"]);

    // The next one uses what the agent is, or what is published.
    let next = begin().await;
    assert_eq!(store.find_agent_of_run(&next.run).await.expect("reads").expect("an agent").model, "m2");
    act(&app, &agent, &first, "publish").await;
    app.patch(&format!("/agents/{agent}"), json!({"model": "m3"})).await.ok();
    let pinned = begin().await;
    let used = store.find_agent_of_run(&pinned.run).await.expect("reads").expect("an agent");
    assert_eq!((used.model.as_str(), used.settings.instructions.as_deref()), ("m1", Some("Be brief.")));
    assert_eq!(app.get(&format!("/agents/{agent}")).await.ok()["agent"]["model"], "m3");
    act(&app, &agent, &first, "unpublish").await;
    let free = begin().await;
    assert_eq!(store.find_agent_of_run(&free.run).await.expect("reads").expect("an agent").model, "m3");
}
