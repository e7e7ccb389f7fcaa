//! Custom skills: their shapes, what is refused, and how they come from archives.

use std::io::{Cursor, Write};

use axum::{
    body::Body,
    http::{Method, Request, header},
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use zip::{ZipWriter, write::SimpleFileOptions};

use crate::app::{App, Reply, redacted};

const BOUNDARY: &str = "b";

fn zip(entries: &[(&str, &str)]) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, content) in entries {
        writer.start_file(*name, SimpleFileOptions::default()).expect("starts");
        writer.write_all(content.as_bytes()).expect("writes");
    }
    writer.finish().expect("finishes").into_inner()
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

impl App {
    async fn install(&self, archive: &[u8], texts: &[(&str, &str)]) -> Reply {
        let mut body = Vec::new();
        for (name, value) in texts {
            let part = format!("--{BOUNDARY}\r\ncontent-disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n");
            body.extend_from_slice(part.as_bytes());
        }
        let head = format!(
            "--{BOUNDARY}\r\ncontent-disposition: form-data; name=\"file\"; filename=\"s.zip\"\r\n\
             content-type: application/zip\r\n\r\n"
        );
        body.extend_from_slice(head.as_bytes());
        body.extend_from_slice(archive);
        body.extend_from_slice(format!("\r\n--{BOUNDARY}--\r\n").as_bytes());
        let request = Request::builder()
            .method(Method::POST)
            .uri("/v1/skills/install")
            .header(header::AUTHORIZATION, format!("Bearer {}", self.key))
            .header(header::CONTENT_TYPE, format!("multipart/form-data; boundary={BOUNDARY}"))
            .body(Body::from(body))
            .expect("a valid request");
        self.send(request).await
    }
}

#[tokio::test]
async fn a_skill_is_what_it_was_made_of_and_what_it_was_changed_to() {
    let app = App::start().await;
    let sent = json!({
        "name": "PDF Forms", "description": "Fills\nforms.", "markdown": "# Forms\n\nRun it.", "icon": "📄",
        "category": "documents", "isActive": true, "unknown": 1,
        "files": [
            {"name": "scripts/fill.py", "content": "print(1)", "language": "python", "isExecutable": true},
            {"name": "font.bin", "content": "/wA=", "encoding": "base64"},
        ],
    });
    let made = app.post("/skills", sent).await;
    assert_eq!(made.status, 201);
    insta::assert_json_snapshot!(redacted(made.ok()));
    let skill = made.ok()["skill"].clone();
    let path = format!("/v1/skills/{}", skill["id"].as_str().expect("an id"));
    assert_eq!(app.get(&path).await.ok()["skill"], skill);
    let listed = app.get("/skills?category=documents&isActive=true").await.ok();
    assert_eq!((&listed["total_count"], &listed["data"][0]["slug"]), (&json!(1), &json!("pdf-forms")));
    assert!(listed["data"][0].get("files").is_none(), "files come with a single skill");
    assert_eq!(app.get("/skills?isActive=false").await.ok()["data"], json!([]));

    let changed = app.patch(&path, json!({"description": "Other.", "isActive": false, "icon": null})).await.ok();
    let changed = &changed["skill"];
    assert_eq!(
        json!([changed["description"], changed["isActive"], changed["icon"], changed["name"], changed["files"]]),
        json!(["Other.", false, null, "PDF Forms", skill["files"]])
    );
    assert_ne!(changed["version"], skill["version"]);
    let fewer = app.patch(&path, json!({"files": [{"name": "a.md", "content": "x"}], "name": "Forms"})).await.ok();
    assert_eq!(json!([fewer["skill"]["slug"], fewer["skill"]["files"][0]["name"]]), json!(["forms", "a.md"]));
    assert_eq!(fewer["skill"]["files"].as_array().map(Vec::len), Some(1));
    // Without a change it is the same version.
    assert_eq!(app.patch(&path, json!({})).await.ok()["skill"]["version"], fewer["skill"]["version"]);
    app.delete(&path).await.ok();
    app.get(&path).await.failed(404);
    app.delete(&path).await.failed(404);
}

#[tokio::test]
async fn a_whole_skill_md_tells_its_own_name() {
    let app = App::start().await;
    let text = "---\nname: release-notes\ndescription: Writes notes.\n---\nDo it.";
    for (n, body) in [
        json!({"markdown": text}),
        json!({"files": [{"name": "SKILL.md", "content": text}], "name": "release-notes-2"}),
    ]
    .into_iter()
    .enumerate()
    {
        let skill = app.post("/skills", body).await.ok()["skill"].clone();
        let name = ["release-notes", "release-notes-2"][n];
        assert_eq!(
            json!([skill["name"], skill["description"], skill["markdown"], skill["files"]]),
            json!([name, "Writes notes.", "Do it.", []])
        );
    }
    let taken = app.post("/skills", json!({"name": "Release Notes!"})).await;
    assert_eq!(taken.failed(409), "the project has a skill that models would call the same");
    let unnamed = app.post("/skills", json!({"name": "数据"})).await.ok()["skill"]["slug"].clone();
    assert!(unnamed.as_str().is_some_and(|slug| slug.starts_with("skill-")), "{unnamed}");
}

#[tokio::test]
async fn what_is_not_acceptable_is_told_by_field() {
    let app = App::start().await;
    let file = |name: &str| json!({"name": "a", "files": [{"name": name, "content": "x"}]});
    for (body, field) in [
        (json!({}), "name"),
        (json!({"name": " "}), "name"),
        (json!({"name": "a", "description": "x".repeat(1025)}), "description"),
        (json!({"name": "a", "category": "fun"}), "category"),
        (json!({"name": "a", "markdown": "---\nname: ["}), "markdown"),
        (json!({"name": "a", "files": [{"name": "x", "content": "!", "encoding": "base64"}]}), "files[0].content"),
        (json!({"name": "a", "files": [{"name": "x", "content": "!", "encoding": "rot13"}]}), "files[0].encoding"),
        (file("../x"), "files"),
        (file("/x"), "files"),
        (file("skill.md"), "files"),
    ] {
        let reply = app.post("/skills", body.clone()).await;
        reply.failed(400);
        assert_eq!(reply.json()["details"][0]["field"], field, "{body}");
    }
    assert_eq!(app.get("/skills").await.ok()["total_count"], 0);
}

#[tokio::test]
async fn an_archive_is_installed_if_it_is_the_one_that_was_meant() {
    let app = App::start().await;
    let text = "---\nname: notes\ndescription: Writes notes.\n---\nDo it.";
    let archive = zip(&[("notes/SKILL.md", text), ("notes/scripts/x.sh", "echo 1")]);
    let sum = sha256(&archive);
    let wrong = sha256(b"another");
    assert!(app.install(&archive, &[("sha256", &wrong)]).await.failed(422).contains(&sum));
    assert_eq!(app.install(&archive, &[]).await.failed(400), "Missing required field: sha256");
    app.install(&archive, &[("sha256", "abc")]).await.failed(400);
    let made = app.install(&archive, &[("sha256", &sum.to_uppercase()), ("category", "development")]).await;
    assert_eq!(made.status, 201);
    let skill = made.ok()["skill"].clone();
    assert_eq!(
        json!([skill["slug"], skill["category"], skill["archiveSha256"], skill["files"][0]["name"]]),
        json!(["notes", "development", sum, "scripts/x.sh"])
    );
    app.install(&archive, &[("sha256", &sum)]).await.failed(409);
    let newer = zip(&[("SKILL.md", &text.replace("Do it", "Do it well"))]);
    let replaced = app.install(&newer, &[("sha256", &sha256(&newer)), ("replace", "true")]).await;
    assert_eq!(replaced.status, 200);
    let replaced = replaced.ok()["skill"].clone();
    assert_eq!(
        json!([replaced["id"], replaced["markdown"], replaced["files"]]),
        json!([skill["id"], "Do it well.", []])
    );
    for (entries, told) in [
        (vec![("README.md", "x")], "has no SKILL.md"),
        (vec![("SKILL.md", text), ("../evil", "x")], "cannot be the name of a file"),
        (vec![("SKILL.md", "---\nname: Big Name\ndescription: d\n---\n")], "letters a-z"),
        (vec![("SKILL.md", "---\nname: ok\n---\n")], "must have a description"),
    ] {
        let bad = zip(&entries);
        let message = app.install(&bad, &[("sha256", &sha256(&bad))]).await.failed(400);
        assert!(message.contains(told), "{told}: {message}");
    }
    let large = vec![0; 17 * 1024 * 1024];
    app.install(&large, &[("sha256", &sha256(&large))]).await.failed(413);
    assert_eq!(app.get("/skills").await.ok()["total_count"], 1);
}

#[tokio::test]
async fn only_skills_that_there_are_can_be_switched_on() {
    let app = App::start().await;
    let skill = app.post("/skills", json!({"name": "Mine"})).await.ok()["skill"]["id"].clone();
    let (_, other) = app.another_project().await;
    let body = json!({"name": "Theirs"}).to_string();
    let theirs = app.call_with(&other, Method::POST, "/skills", body).await.ok()["skill"]["id"].clone();
    let agent = |skills: Value| json!({"name": "a", "model": "m", "enabledSkills": skills});
    let enabled = json!(["web_search", "deep-research", "image_generation", skill, "mine"]);
    let made = app.post("/agents", agent(enabled.clone())).await.ok()["agent"].clone();
    assert_eq!(made["enabledSkills"], enabled);
    for unknown in [json!("nothing"), theirs.clone(), json!("Mine"), json!("skill_x")] {
        let reply = app.post("/agents", agent(json!(["web_search", unknown]))).await;
        assert!(reply.failed(400).starts_with("enabledSkills[1]: there is no skill"), "{unknown}");
    }
    let path = format!("/agents/{}", made["id"].as_str().expect("an id"));
    app.patch(&path, json!({"enabledSkills": [theirs]})).await.failed(400);
    let environment = app.environment().await;
    let started = json!({"environmentId": environment, "content": "x", "enabledSkills": ["nope"], "stream": false});
    app.post("/threads", started).await.failed(400);
    let thread = app.post("/threads", json!({"environmentId": environment})).await.ok()["thread"]["id"].clone();
    let path = format!("/threads/{}/messages", thread.as_str().expect("an id"));
    app.post(&path, json!({"content": "x", "enabledSkills": ["nope"], "stream": false})).await.failed(400);
    app.post(&path, json!({"content": "x", "enabledSkills": ["mine"], "stream": false})).await.ok();
    let built_in = app.get("/skills/built-in").await.ok();
    assert_eq!(json!([built_in["data"][0]["id"], built_in["data"][0]["isAvailable"]]), json!(["web_search", true]));
}

#[tokio::test]
async fn skills_of_a_workspace_are_listed_as_nobodys() {
    let app = App::start().await;
    let environment = app.environment().await;
    let path = format!("/environments/{environment}/skills");
    assert_eq!(app.get(&path).await.ok()["data"], json!([]));
    let directory = app.api.sandboxes.directories(&environment).expect("there").workspace.join(".claude/skills/deploy");
    std::fs::create_dir_all(&directory).expect("made");
    std::fs::write(directory.join("SKILL.md"), "---\ndescription: How we deploy.\n---\nx").expect("written");
    let expected = json!([{
        "name": "deploy", "description": "How we deploy.", "path": ".claude/skills/deploy", "isTrusted": false,
    }]);
    assert_eq!(app.get(&path).await.ok()["data"], expected);
}

#[tokio::test]
async fn what_the_back_end_cannot_do_is_said_before_the_run() {
    let mut app = App::start().await;
    app.api.why_unavailable = Some(std::sync::Arc::new(|skill, model| {
        (skill == domain::skill::BuiltIn::WebSearch && model == "local").then(|| format!("{model} cannot search"))
    }));
    app.router = api::router(app.api.clone());
    let agent = app.post("/agents", json!({"name": "a", "model": "local", "enabledSkills": ["web_search"]})).await.ok();
    let environment = app.environment().await;
    let new = json!({"environmentId": environment, "agentId": agent["agent"]["id"]});
    let thread = app.post("/threads", new.clone()).await.ok()["thread"]["id"].clone();
    let path = format!("/threads/{}/messages", thread.as_str().expect("an id"));
    let message = json!({"content": "x", "enabledSkills": ["web_search"], "stream": false});
    let refused = app.post(&path, message.clone()).await;
    assert_eq!(refused.failed(400), "The skill web_search cannot be used: local cannot search");
    assert_eq!(refused.json()["code"], "skill_unavailable");
    let with = |mut body: Value, name: &str, value: Value| {
        body[name] = value;
        body
    };
    let started = with(with(new, "content", json!("x")), "enabledSkills", json!(["web-search"]));
    app.post("/threads", started).await.failed(400);
    // Another model can; and what the agent has is no request.
    app.post(&path, with(message.clone(), "agentConfig", json!({"model": "claude"}))).await.ok();
    let thread =
        app.post("/threads", json!({"environmentId": environment, "agentId": agent["agent"]["id"]})).await.ok();
    let path = format!("/threads/{}/messages", thread["thread"]["id"].as_str().expect("an id"));
    app.post(&path, json!({"content": "x", "stream": false})).await.ok();
}
