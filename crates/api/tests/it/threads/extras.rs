//! What comes with a message: files, secrets, scripts and a schema.

use serde_json::json;

use super::*;

impl App {
    async fn sent(&self, thread: &str, body: Value) -> Claimed {
        let mut body = body;
        body["content"] = "Hello".into();
        body["stream"] = false.into();
        self.post(&format!("/threads/{thread}/messages"), body).await.ok();
        claim(&self.database.store).await
    }
}

#[tokio::test]
async fn attached_files_are_kept_in_the_workspace_and_given_back_with_the_message() {
    let app = App::start().await;
    let thread = app.thread().await;
    let attachments = json!([
        {"id": "a1", "filename": "../My notes.txt", "mimeType": "text/plain", "size": 2, "type": "document",
            "url": "data:text/plain;base64,aGk="},
        {"id": "a2", "filename": "page", "url": "https://example.org/page"},
    ]);
    let claimed = app.sent(&thread, json!({"attachments": attachments})).await;
    let [file, page] = claimed.run.options.attachments.as_slice() else { panic!("two files") };
    let path = file.path.as_deref().expect("a path");
    assert!(path.starts_with("attachments/") && path.ends_with("_My notes.txt"), "{path}");
    assert_eq!(page.url.as_deref(), Some("https://example.org/page"));
    let messages = app.get(&format!("/threads/{thread}/messages")).await.ok();
    let shown = &messages["data"][0]["attachments"];
    assert_eq!(
        (&shown[0]["id"], &shown[0]["size"], &shown[0]["workspacePath"]),
        (&json!("a1"), &json!(2), &json!(path))
    );
    let url = shown[0]["url"].as_str().expect("a url").replace(' ', "%20");
    assert_eq!(app.get(&url).await.text(), "hi");
    finish(&app.database.store, &claimed, completed("ok")).await;

    // What is in the workspace already is only named.
    let claimed = app.sent(&thread, json!({"attachments": [{"workspacePath": format!("/workspace/{path}")}]})).await;
    assert_eq!(claimed.run.options.attachments[0].path.as_deref(), Some(path));
    finish(&app.database.store, &claimed, completed("ok")).await;
    let content = json!({"content": "x", "stream": false, "attachments": [{"workspacePath": path}]});
    let made = app.post("/threads", content).await.ok();
    let id = made["thread"]["id"].as_str().expect("an id");
    assert_eq!(
        app.get(&format!("/threads/{id}/messages")).await.ok()["data"][0]["attachments"][0]["workspacePath"],
        path
    );
}

#[tokio::test]
async fn secrets_are_sealed_and_shown_nowhere() {
    let app = App::start().await;
    let thread = app.thread().await;
    let claimed = app.sent(&thread, json!({"secrets": [{"key": "TOKEN", "value": "canary-secret"}]})).await;
    let store = &app.database.store;
    let opened = store.open_run_secrets(&claimed.run.id).await.expect("opens");
    assert_eq!(opened.len(), 1);
    for path in ["", "/messages", "/runs", "/events"] {
        let shown = app.get(&format!("/threads/{thread}{path}")).await;
        assert!(!shown.text().contains("canary"), "{path}");
    }
    assert!(!format!("{:?}", claimed.run).contains("canary"));
    finish(store, &claimed, completed("ok")).await;
    assert!(store.open_run_secrets(&claimed.run.id).await.expect("reads").is_empty());
}

#[tokio::test]
async fn what_cannot_be_used_is_refused_with_its_place() {
    let app = App::start().await;
    let thread = app.thread().await;
    for (body, told) in [
        (json!({"attachments": [{"filename": "a"}]}), "attachments[0]"),
        (json!({"attachments": [{"url": "data:text/plain,hi"}]}), "attachments[0].url"),
        (json!({"attachments": [{"url": "file:///etc/passwd"}]}), "attachments[0].url"),
        (json!({"attachments": [{"workspacePath": "nothing.txt"}]}), "attachments[0].workspacePath"),
        (json!({"attachments": [{"workspacePath": "../../../etc/passwd"}]}), "attachments[0].workspacePath"),
        (json!({"secrets": [{"key": "A B", "value": "x"}]}), "secrets[0].key"),
        (json!({"setupScripts": ["true", " "]}), "setupScripts[1]"),
        (json!({"responseSchema": {"type": "nothing"}}), "responseSchema"),
        (json!({"mcpServers": [{"type": "http", "name": "x"}]}), "mcpServers[0].url"),
        (json!({"responseSchema": {"$ref": "https://example.org/schema"}}), "responseSchema"),
    ] {
        let mut body = body;
        body["content"] = "x".into();
        let message = app.post(&format!("/threads/{thread}/messages"), body).await.failed(400);
        assert!(message.contains(told), "{told}: {message}");
    }
    assert_eq!(app.get(&format!("/threads/{thread}/runs")).await.ok()["total_count"], 0);
    let options = json!({
        "setupScripts": ["make"], "responseSchema": {"type": "object"}, "enabledSkills": ["web_search"],
        "mcpServers": [{"type": "http", "name": "x", "url": "https://example.org", "bearerToken": "canary"}],
    });
    let claimed = app.sent(&thread, options).await;
    assert_eq!(claimed.run.options.setup_scripts, ["make"]);
    assert_eq!(claimed.run.options.response_schema, Some(json!({"type": "object"})));
    // What may be a secret is sealed, and what is stored beside it does not show it.
    assert_eq!(claimed.run.options.stored["mcpServers"][0]["name"], "x");
    assert_eq!(claimed.run.options.stored["mcpServers"][0]["bearerToken"], "********");
    let opened = app.database.store.open_run_secrets(&claimed.run.id).await.expect("opens");
    let sealed = opened.iter().find(|(key, _)| key == domain::mcp::SEALED_KEY).expect("is sealed");
    assert!(secrecy::ExposeSecret::expose_secret(&sealed.1).contains("canary"));
}

#[tokio::test]
async fn a_repository_is_kept_with_the_run_if_it_can_be_one() {
    let app = App::start().await;
    let thread = app.thread().await;
    let path = format!("/threads/{thread}/messages");
    for (repository, field) in [
        (json!({"repoFullName": "a"}), "githubRepo.repoFullName"),
        (json!({"repoFullName": "a/--b"}), "githubRepo.repoFullName"),
        (json!({"repoFullName": "a/b", "branch": "--force"}), "githubRepo.branch"),
        (json!({"repoFullName": "a/b", "branchPrefix": "a..b"}), "githubRepo.branchPrefix"),
    ] {
        let refused = app.post(&path, json!({"content": "x", "githubRepo": repository})).await;
        assert!(refused.failed(400).starts_with(field), "{repository}");
    }
    let repository =
        json!({"repoFullName": "a/b", "branch": "dev", "branchPrefix": "agent/", "createPullRequests": true});
    let claimed = app.sent(&thread, json!({"githubRepo": repository})).await;
    let kept = claimed.run.options.github_repository.expect("it is kept");
    assert_eq!((kept.full_name.as_str(), kept.branch.as_deref()), ("a/b", Some("dev")));
    assert!(kept.wants_pull_request && !kept.may_force_push);
}
