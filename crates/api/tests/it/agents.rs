//! Agents: their shapes, and what happens to what clients send.

use axum::http::Method;
use serde_json::{Value, json};

use crate::app::{App, redacted};

#[tokio::test]
async fn an_agent_is_echoed_with_every_field_of_the_union() {
    let app = App::start().await;
    let sent = json!({
        "name": "Reviewer", "model": "gpt-4o", "instructions": "Review.", "description": "d",
        "reasoningEffort": "high", "enabledSkills": ["web_search"], "deepResearchModel": "any",
        "binary": {"path": "/usr/bin/x", "args": ["-y"]}, "executionEngine": "native-claude",
        "permissionSet": {"version": 1}, "voiceMode": "web", "metadata": {"a": [1]}, "isDefault": true,
        "computerId": "is ignored", "unknown": {"is": "ignored"},
    });
    let reply = app.post("/agents", sent).await;
    assert_eq!(reply.status, 201);
    insta::assert_json_snapshot!(redacted(reply.ok()));
    let agent = reply.ok()["agent"].clone();
    let path = format!("/v1/agents/{}", agent["id"].as_str().expect("an id"));
    assert_eq!(app.get(&path).await.ok()["agent"], agent);
}

#[tokio::test]
async fn an_agent_with_only_what_is_needed_has_every_field_too() {
    let app = App::start().await;
    let full = app.post("/agents", json!({"name": "a", "model": "m", "voiceMode": "web", "binary": "x"})).await.ok();
    let bare = app.post("/agents", json!({"name": "a", "model": "m"})).await.ok();
    let keys = |value: &Value| value["agent"].as_object().expect("an object").keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&bare), keys(&full));
    insta::assert_json_snapshot!(redacted(bare));
}

#[tokio::test]
async fn a_patch_clears_what_is_null_and_leaves_what_is_absent() {
    let app = App::start().await;
    let made = json!({
        "id": "mine", "name": "a", "model": "m", "description": "d", "instructions": "i", "binary": "b",
        "reasoningEffort": "low", "enabledSkills": ["web_search"], "metadata": {"k": 1}, "voiceModel": "v",
    });
    app.post("/agents", made).await.ok();
    let changed = json!({"instructions": null, "binary": null, "enabledSkills": null, "metadata": null, "name": "b"});
    let agent = app.patch("/agents/mine", changed).await.ok()["agent"].clone();
    let seen: Vec<&Value> =
        ["name", "instructions", "binary", "enabledSkills", "metadata", "description", "voiceModel"]
            .iter()
            .map(|key| &agent[*key])
            .collect();
    assert_eq!(json!(seen), json!(["b", null, null, [], null, "d", "v"]));
    assert_eq!(agent["reasoningEffort"], "low");
    assert_eq!(app.patch("/agents/mine", json!({"model": null})).await.failed(400), "model: must not be null");
    // An empty PATCH changes nothing.
    let same = app.call(Method::PATCH, "/agents/mine", "").await.ok()["agent"].clone();
    assert_eq!(same["name"], "b");
}

#[tokio::test]
async fn what_is_not_acceptable_is_told_by_field() {
    let app = App::start().await;
    let long = "x".repeat(256);
    for (body, message) in [
        (json!({"model": "m"}), "Missing required field: name".to_owned()),
        (json!({"name": "a"}), "Missing required field: model".to_owned()),
        (json!({"name": " ", "model": ""}), "name: must not be blank; model: must not be empty".to_owned()),
        (json!({"name": long, "model": "m"}), "name: must have at most 255 characters".to_owned()),
        (json!({"name": 5, "model": "m"}), "name: invalid type: integer, expected a string".to_owned()),
        (json!({"name": "a", "model": "m", "voiceMode": 1}), "voiceMode: must be a string".to_owned()),
        (json!({"name": "a", "model": "m", "id": "a/b"}), format!("id: {}", domain::InvalidId)),
        (
            json!({"name": "a", "model": "m", "reasoningEffort": "extreme"}),
            "reasoningEffort: unknown variant `extreme`, expected one of `minimal`, `low`, `medium`, `high`".to_owned(),
        ),
    ] {
        let reply = app.post("/agents", body).await;
        assert_eq!(reply.failed(400), message);
        let body = reply.json();
        assert_eq!(body["code"], "VALIDATION_FAILED");
        assert!(body["details"][0]["field"].is_string(), "{body}");
    }
}

#[tokio::test]
async fn a_chosen_id_is_free_again_only_after_a_delete_for_good() {
    let app = App::start().await;
    let agent = json!({"id": "mine", "name": "a", "model": "m"});
    app.post("/agents", agent.clone()).await.ok();
    assert_eq!(app.post("/agents", agent.clone()).await.failed(409), "an agent with this id exists already");
    let deleted = app.delete("/agents/mine").await.ok();
    assert_eq!(deleted, json!({"deleted": true, "success": true, "id": "mine", "agentId": "mine"}));
    app.get("/agents/mine").await.failed(404);
    app.delete("/agents/mine").await.failed(404);
    app.post("/agents", agent.clone()).await.failed(409);
    app.delete("/agents/mine?hard=1").await.ok();
    app.post("/agents", agent).await.ok();
}

#[tokio::test]
async fn lists_come_in_parts_and_tell_the_whole() {
    let app = App::start().await;
    for name in ["a", "b", "c"] {
        app.post("/agents", json!({"name": name, "model": "m"})).await.ok();
    }
    let part = |list: Value| {
        let names: Vec<_> = list["data"].as_array().expect("data").iter().map(|agent| agent["name"].clone()).collect();
        json!([list["object"], names, list["has_more"], list["total_count"]])
    };
    assert_eq!(part(app.get("/agents").await.ok()), json!(["list", ["c", "b", "a"], false, 3]));
    assert_eq!(part(app.get("/agents?limit=2").await.ok()), json!(["list", ["c", "b"], true, 3]));
    assert_eq!(part(app.get("/agents?limit=2&offset=2&view=x").await.ok()), json!(["list", ["a"], false, 3]));
    assert_eq!(part(app.get("/agents?limit=0").await.ok()), json!(["list", [], true, 3]));
    assert_eq!(part(app.get("/agents?offset=9").await.ok()), json!(["list", [], false, 3]));
}

#[tokio::test]
async fn some_model_can_always_be_chosen() {
    let app = App::start_with(|settings| settings.default_model = "claude-x".to_owned()).await;
    let models = app.get("/agents/models").await.ok();
    assert_eq!(models["tier"], "self_hosted");
    assert_eq!(models["models"][0]["id"], "claude-x");
    let entries = ["claude-a", "claude-x"].map(|id| api::Model { id: id.to_owned(), ..api::Model::default() });
    app.api.models.write().expect("not poisoned").entries = entries.into();
    insta::assert_json_snapshot!(app.get("/v1/agents/models").await.ok());
}
