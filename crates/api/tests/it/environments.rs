//! Environments: their shapes, and what happens to what clients send.

use axum::http::Method;
use serde_json::{Value, json};

use crate::app::{App, redacted};

/// Gives fields of an object as an array, for comparing several at once.
fn pick(value: &Value, keys: &[&str]) -> Value {
    keys.iter().map(|key| value[*key].clone()).collect()
}

fn id(reply: &Value) -> &str {
    reply["environment"]["id"].as_str().expect("an id")
}

#[tokio::test]
async fn an_environment_is_echoed_with_every_field_of_the_union() {
    let app = App::start().await;
    let sent = json!({
        "name": "web", "description": "d", "projectId": null,
        "runtimes": {"python": "3.11", "node": 20}, "packages": {"python": ["flask>=2"], "node": ["@types/node"]},
        "dockerfileExtensions": "RUN true", "environmentVariables": [{"key": "A", "value": "1"}],
        "secrets": [{"key": "TOKEN", "value": "canary-value"}], "setupScripts": ["echo hi"],
        "mcpServers": [{"name": "docs", "url": "https://example.com/mcp", "enabled": true, "command": null}],
        "documentation": ["Read me."], "internetAccess": false, "isDefault": true, "computeProfile": "power",
        "baseImage": "debian:bookworm-slim", "metadata": {"mine": 1, "computeResources": "stale"}, "computerId": "ignored",
    });
    let reply = app.post("/environments", sent).await;
    assert_eq!(reply.status, 201);
    assert!(!reply.text().contains("canary-value"));
    insta::assert_json_snapshot!(redacted(reply.ok()));
    let environment = reply.ok()["environment"].clone();
    let got = app.get(&format!("/v1/environments/{}", id(&reply.ok()))).await.ok();
    assert_eq!(got["environment"], environment);
    let bare = app.post("/environments", json!({"name": "b"})).await.ok();
    let keys = |value: &Value| value.as_object().expect("an object").keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&bare["environment"]), keys(&environment));
    assert_eq!(pick(&bare["environment"], &["internetAccess", "isDefault", "status"]), json!([true, false, "stopped"]));
}

#[tokio::test]
async fn arrays_of_runtimes_and_packages_become_objects() {
    let app = App::start().await;
    let sent = json!({"name": "seed", "runtimes": ["python", "node"], "packages": ["flask", "pytest", "flask"]});
    let made = app.post("/environments", sent).await.ok();
    assert_eq!(made["environment"]["runtimes"], json!({"nodejs": "18", "python": "3.11"}));
    assert_eq!(made["environment"]["packages"], json!({"system": [], "python": ["flask", "pytest"], "node": []}));
}

#[tokio::test]
async fn the_default_environment_is_flat_and_wrapped_and_only_one() {
    let app = App::start().await;
    let default = app.get("/environments/default").await.ok();
    let mut flat = default.clone();
    let wrapped = flat.as_object_mut().expect("an object").remove("environment").expect("a copy");
    assert_eq!(flat, wrapped);
    assert_eq!(pick(&flat, &["name", "isDefault"]), json!(["default", true]));
    let second = app.post("/environments", json!({"name": "b", "isDefault": true})).await.ok();
    assert_eq!(app.get("/environments/default").await.ok()["id"], second["environment"]["id"]);
    let first = format!("/environments/{}", flat["id"].as_str().expect("an id"));
    assert_eq!(app.get(&first).await.ok()["environment"]["isDefault"], false);
    // The SDK sends an empty object, others nothing at all.
    let path = format!("{first}/set-default");
    assert_eq!(app.post(&path, json!({})).await.ok()["environment"]["isDefault"], true);
    assert_eq!(app.call(Method::POST, &path, "").await.ok()["environment"]["isDefault"], true);
    let defaults = app.get("/environments?isDefault=true").await.ok();
    assert_eq!(pick(&defaults, &["total_count", "has_more"]), json!([1, false]));
    assert_eq!(defaults["data"][0]["id"], flat["id"]);
}

#[tokio::test]
async fn a_list_without_a_limit_is_whole_with_the_default_first() {
    let app = App::start().await;
    for number in 0..60 {
        app.post("/environments", json!({"name": format!("e{number}"), "isDefault": number == 3})).await.ok();
    }
    let list = app.get("/environments").await.ok();
    assert_eq!(list["data"].as_array().map(Vec::len), Some(60));
    assert_eq!(pick(&list, &["object", "has_more", "total_count"]), json!(["list", false, 60]));
    assert_eq!(pick(&list["data"][0], &["name", "isDefault"]), json!(["e3", true]));
    let part = app.get("/environments?limit=2&offset=1&isActive=1").await.ok();
    assert_eq!(pick(&part, &["has_more", "total_count"]), json!([true, 60]));
    assert_eq!(part["data"][0]["name"], "e59");
    assert_eq!(app.get("/environments?projectId=proj_other").await.ok()["total_count"], 0);
    assert_eq!(app.get("/environments?isDefault=0").await.ok()["total_count"], 59);
    assert_eq!(
        app.get("/environments?isDefault=maybe").await.failed(400),
        "isDefault: expected true, false, 1 or 0, not \"maybe\""
    );
}

#[tokio::test]
async fn a_patch_clears_what_is_null_and_leaves_what_is_absent() {
    let app = App::start().await;
    let made = json!({
        "name": "a", "description": "d", "runtimes": ["python"], "internetAccess": false, "documentation": ["x"],
        "computeProfile": "lite", "environmentVariables": [{"key": "A", "value": "1"}], "metadata": {"k": 1},
    });
    let path = format!("/environments/{}", id(&app.post("/environments", made).await.ok()));
    let changed = app.patch(&path, json!({"description": null, "runtimes": null, "internetAccess": null})).await.ok();
    let keys = ["name", "description", "runtimes", "internetAccess", "documentation", "computeProfile"];
    assert_eq!(pick(&changed["environment"], &keys), json!(["a", null, {}, true, ["x"], "lite"]));
    assert_eq!(changed["environment"]["metadata"]["k"], 1);
    assert_eq!(app.patch(&path, json!({"name": null})).await.failed(400), "name: must not be null");
    // A screen upgrades the computer, and its absence downgrades it.
    let changed = app.patch(&path, json!({"guiEnabled": true})).await.ok();
    assert_eq!(changed["environment"]["computeProfile"], "desktop");
    let changed = app.patch(&path, json!({"guiEnabled": false})).await.ok();
    assert_eq!(changed["environment"]["computeProfile"], "standard");
}

#[tokio::test]
async fn a_put_replaces_everything_but_the_place_of_the_default() {
    let app = App::start().await;
    let made = json!({"name": "a", "description": "d", "isDefault": true, "secrets": [{"key": "T", "value": "v"}]});
    let path = format!("/environments/{}", id(&app.post("/environments", made).await.ok()));
    assert_eq!(app.put(&path, json!({"description": "x"})).await.failed(400), "Missing required field: name");
    let put = app.put(&path, json!({"name": "b", "documentation": ["y"]})).await.ok();
    let keys = ["name", "description", "documentation", "isDefault", "secrets"];
    assert_eq!(pick(&put["environment"], &keys), json!(["b", null, ["y"], true, []]));
}

#[tokio::test]
async fn a_secret_whose_mask_comes_back_keeps_its_value() {
    let app = App::start().await;
    let made = json!({"name": "a", "secrets": [{"key": "ONE", "value": "first"}, {"key": "TWO", "value": "second"}]});
    let made = app.post("/environments", made).await.ok();
    let path = format!("/environments/{}", id(&made));
    let mut secrets = made["environment"]["secrets"].clone();
    assert_eq!(secrets[0], json!({"key": "ONE", "value": "********", "hasValue": true}));
    secrets[1]["value"] = json!("changed");
    app.patch(&path, json!({"secrets": secrets, "name": "b"})).await.ok();
    let environment = id(&made).parse().expect("an id");
    let opened = app.database.store.open_secrets(&environment).await.expect("opens");
    let opened: Vec<_> =
        opened.iter().map(|(key, value)| (key.as_str(), secrecy::ExposeSecret::expose_secret(value))).collect();
    assert_eq!(opened, [("ONE", "first"), ("TWO", "changed")]);
    let unknown = json!({"secrets": [{"key": "NEW", "value": "********"}]});
    assert_eq!(app.patch(&path, unknown).await.failed(400), "Missing required field: secrets[0].value");
}

#[tokio::test]
async fn what_is_not_acceptable_is_told_by_field() {
    let app = App::start().await;
    let key = "must be letters, digits and '_', not start with a digit, and have at most 255 characters";
    let languages = "python, nodejs, go, php, java, ruby, rust";
    for (field, value, message) in [
        ("runtimes", json!(["cobol"]), format!("runtimes[0]: 'cobol' is none of {languages}")),
        (
            "runtimes",
            json!({"python": 3.1}),
            "runtimes.python: must be a version as a string, for example \"3.11\"".into(),
        ),
        ("runtimes", json!("python"), "runtimes: must be an object of versions or an array of names".into()),
        ("packages", json!({"python": ["a b"]}), "packages.python[0]: must be the name of a package".into()),
        ("packages", json!(["--index-url=x"]), "packages[0]: must be the name of a package".into()),
        ("packages", json!({"cargo": []}), "packages.cargo: is none of system, python, node".into()),
        ("packages", json!({"node": "x"}), "packages.node: must be an array of package names".into()),
        ("environmentVariables", json!([{"key": "1A", "value": ""}]), format!("environmentVariables[0].key: {key}")),
        (
            "environmentVariables",
            json!([{"key": "A", "value": ""}, {"key": "A", "value": ""}]),
            "environmentVariables[1].key: 'A' is there twice".into(),
        ),
        ("secrets", json!([{"key": "A=B", "value": ""}]), format!("secrets[0].key: {key}")),
        (
            "mcpServers",
            json!([{"type": "stdio", "name": "a"}]),
            "mcpServers[0].command: is required for the type stdio".into(),
        ),
        (
            "mcpServers",
            json!([{"type": "http", "name": "a", "url": "file:///etc/passwd"}]),
            "mcpServers[0].url: must be an http or https URL for the type http".into(),
        ),
        ("mcpServers", json!([{"type": "pipe", "name": "a"}]), "mcpServers[0].type: must be stdio, http or sse".into()),
        ("mcpServers", json!(["x"]), "mcpServers[0]: must be an object".into()),
        (
            "computeProfile",
            json!("huge"),
            "computeProfile: unknown variant `huge`, expected one of `lite`, `standard`, `power`, `desktop`".into(),
        ),
        ("internetAccess", json!("yes"), "internetAccess: invalid type: string, expected a boolean".into()),
        (
            "baseImage",
            json!("-v /:/x"),
            "baseImage: must be the name of an image, for example debian:bookworm-slim".into(),
        ),
    ] {
        let mut body = json!({"name": "a"});
        body[field] = value;
        let reply = app.post("/environments", body.clone()).await;
        assert_eq!(reply.failed(400), message);
        assert_eq!(reply.json()["code"], "VALIDATION_FAILED");
        let path = format!("/environments/{}", app.environment().await);
        assert_eq!(app.patch(&path, body).await.failed(400), message);
    }
    assert_eq!(app.get("/environments?limit=100").await.ok()["total_count"], 1);
}

#[tokio::test]
async fn a_deleted_environment_is_gone_and_so_are_its_files_if_that_was_asked() {
    let app = App::start().await;
    let files = |id: &str| app.database.directory().join("environments").join(id);
    for (query, keeps_files) in [("", true), ("?hard=true", false)] {
        let made = app.post("/environments", json!({"name": "a"})).await.ok();
        let (id, path) = (id(&made).to_owned(), format!("/environments/{}", id(&made)));
        app.post(&format!("{path}/files/mkdir"), json!({"path": "x"})).await.ok();
        let deleted = app.delete(&format!("{path}{query}")).await.ok();
        assert_eq!(deleted, json!({"deleted": true, "success": true, "id": id, "environmentId": id}));
        app.get(&path).await.failed(404);
        app.get(&format!("{path}/files")).await.failed(404);
        assert_eq!(files(&id).exists(), keeps_files, "{query}");
    }
}

#[tokio::test]
async fn a_computer_that_does_not_run_says_so_and_one_that_cannot_start_says_why() {
    let app = App::start().await;
    let path = format!("/v1/environments/{}", app.environment().await);
    let mut status = redacted(app.get(&format!("{path}/status")).await.ok());
    // What a host enforces is another thing on each.
    let enforcement = status.as_object_mut().and_then(|status| status.remove("enforcement")).expect("is told");
    assert!(enforcement["memory"].is_boolean() && enforcement["notEnforced"].is_array(), "{enforcement}");
    insta::assert_json_snapshot!("status", status);
    // No body, as the SDKs do.
    insta::assert_json_snapshot!("stop", redacted(app.call(Method::POST, &format!("{path}/stop"), "").await.ok()));
    let reply = app.post(&format!("{path}/start"), json!({"cpus": 1, "memory": "2g"})).await;
    assert_eq!(reply.failed(409), "There is no image 'atelier-test-missing:latest' on this server");
    assert_eq!(reply.json()["code"], "no_image");
}

#[tokio::test]
async fn what_an_image_is_made_from_is_changed_part_by_part() {
    let app = App::start().await;
    let path = format!("/environments/{}", app.environment().await);
    let set = app.put(&format!("{path}/runtimes"), json!({"runtimes": ["python", "node"]})).await.ok();
    assert_eq!(set["environment"]["runtimes"], json!({"nodejs": "18", "python": "3.11"}));
    assert_eq!(app.get(&format!("{path}/runtimes")).await.ok()["runtimes"]["nodejs"], "18");
    let packages = format!("{path}/packages");
    let added = app.post(&packages, json!({"type": "node", "packages": ["@types/node@20", "vite"]})).await.ok();
    assert_eq!(added["installed"], json!(["@types/node@20", "vite"]));
    // As one client's README has it.
    let odd = json!({"type": {"packages": [{"type": "python", "name": "flask"}, {"type": "system", "name": "jq"}]}});
    assert_eq!(app.post(&packages, odd).await.ok()["installed"], json!(["flask", "jq"]));
    let there = app.get(&packages).await.ok();
    let expected = json!({"system": ["jq"], "python": ["flask"], "node": ["@types/node@20", "vite"]});
    assert_eq!(there["packages"], expected);
    let gone = app.delete(&format!("{packages}/node/@types/node")).await.ok();
    assert_eq!(gone["uninstalled"], "@types/node");
    assert_eq!(gone["environment"]["packages"]["node"], json!(["vite"]));
    app.delete(&format!("{packages}/node/@types%2Fnode")).await.failed(404);
    for (body, message) in [
        (json!({"type": "cobol", "packages": ["x"]}), "type: \"cobol\" is none of system, python, node"),
        (json!({"type": "python", "packages": ["x", "$(id)"]}), "packages[1]: must be the name of a package"),
        (json!({"type": "python"}), "Missing required field: packages"),
        (json!({"type": 7}), "type: must be system, python or node"),
    ] {
        assert_eq!(app.post(&packages, body).await.failed(400), message);
    }
    let lines = json!({"dockerfileExtensions": "RUN true\nFROM scratch"});
    let message = app.put(&format!("{path}/dockerfile"), lines.clone()).await.failed(400);
    assert!(message.starts_with("dockerfileExtensions: line 2: FROM is not allowed"), "{message}");
    let checked = app.post(&format!("{path}/dockerfile/validate"), lines).await.ok();
    assert_eq!(pick(&checked, &["valid", "warnings"]), json!([false, []]));
    app.put(&format!("{path}/dockerfile"), json!({"dockerfileExtensions": "RUN true"})).await.ok();
    let whole = app.get(&format!("{path}/dockerfile")).await.ok();
    assert_eq!(
        pick(&whole, &["baseImage", "dockerfileExtensions"]),
        json!(["atelier-test-missing:latest", "RUN true"])
    );
    let text = whole["effectiveDockerfile"].as_str().expect("a text");
    assert!(text.starts_with("FROM atelier-test-missing:latest\n") && text.contains("'flask'"), "{text}");
}

#[tokio::test]
async fn what_cannot_be_built_says_why_and_what_needs_no_build_is_ready() {
    let app = App::start().await;
    let plain = format!("/environments/{}", app.environment().await);
    let asked = app.post(&format!("{plain}/build"), json!({})).await.ok();
    assert_eq!(pick(&asked, &["status", "buildId", "success"]), json!(["ready", null, true]));
    let made = app.post("/environments", json!({"name": "a", "packages": ["flask"]})).await.ok();
    let path = format!("/environments/{}", id(&made));
    let reply = app.call(Method::POST, &format!("{path}/build?force=true"), "").await;
    assert_eq!(reply.failed(409), "There is no image 'atelier-test-missing:latest' on this server");
    let status = app.get(&format!("{path}/build/status")).await.ok();
    assert_eq!(
        pick(&status, &["buildStatus", "imageTag", "lastBuildAt", "buildError"]),
        json!(["pending", null, null, null])
    );
    assert_eq!(app.get(&format!("{path}/build/logs")).await.ok()["buildLogs"], "");
    let (_, key) = app.another_project().await;
    for (method, what) in [
        (Method::GET, "build/status"),
        (Method::GET, "build/logs"),
        (Method::POST, "build"),
        (Method::POST, "build/test"),
        (Method::GET, "runtimes"),
        (Method::GET, "packages"),
        (Method::GET, "dockerfile"),
        (Method::POST, "dockerfile/validate"),
        (Method::DELETE, "packages/python/flask"),
    ] {
        app.call_with(&key, method, &format!("{path}/{what}"), "{}").await.failed(404);
    }
}

#[tokio::test]
async fn servers_that_files_offer_are_shown_and_not_taken() {
    let app = App::start().await;
    let id = app.environment().await;
    let path = format!("/environments/{id}/mcp-servers");
    assert_eq!(app.get(&path).await.ok(), json!({"data": [], "offered": []}));
    let workspace = app.database.directory().join("environments").join(id.as_str()).join("workspace");
    std::fs::create_dir_all(&workspace).expect("makes a directory");
    let file = json!({"mcpServers": {"planted": {"command": "sh", "env": {"TOKEN": "canary"}}}});
    std::fs::write(workspace.join(".mcp.json"), file.to_string()).expect("writes");
    let shown = app.get(&path).await.ok();
    assert_eq!(shown["offered"][0]["name"], "planted");
    assert!(!shown.to_string().contains("canary"));
    assert_eq!(shown["data"], json!([]));
    assert_eq!(app.get(&format!("/environments/{id}")).await.ok()["environment"]["mcpServers"], json!([]));
}
