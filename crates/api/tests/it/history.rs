//! The past of an environment, as clients see it.

use axum::{
    body::Body,
    http::{Request, header},
};
use serde_json::{Value, json};

use crate::app::App;

struct Past {
    app: App,
    path: String,
}

impl Past {
    async fn start() -> Self {
        let app = App::start().await;
        let path = format!("/v1/environments/{}", app.environment().await);
        Self { app, path }
    }

    async fn upload(&self, directory: &str, name: &str, content: &str) {
        let form = format!(
            "--b\r\nContent-Disposition: form-data; name=\"path\"\r\n\r\n{directory}\r\n--b\r\nContent-Disposition: form-data; \
             name=\"file\"; filename=\"{name}\"\r\n\r\n{content}\r\n--b--\r\n"
        );
        let request = Request::post(format!("{}/files/upload", self.path))
            .header(header::AUTHORIZATION, format!("Bearer {}", self.app.key))
            .header(header::CONTENT_TYPE, "multipart/form-data; boundary=b")
            .body(Body::from(form))
            .expect("a valid request");
        self.app.send(request).await.ok();
    }

    async fn get(&self, rest: &str) -> Value {
        self.app.get(&format!("{}{rest}", self.path)).await.ok()
    }

    async fn changes(&self, query: &str) -> Vec<Value> {
        self.get(&format!("/changes{query}")).await["data"].as_array().expect("a list").clone()
    }

    fn workspace(&self) -> std::path::PathBuf {
        let id = self.path.rsplit('/').next().expect("an id");
        self.app.database.directory().join("environments").join(id).join("workspace")
    }
}

/// Gives what was done to which paths.
fn told(change: &Value) -> Vec<String> {
    let files = change["files"].as_array().expect("a list");
    files.iter().map(|file| format!("{} {}", file["operation"], file["path"]).replace('"', "")).collect()
}

#[tokio::test]
async fn what_callers_do_to_files_is_a_change_each() {
    let past = Past::start().await;
    past.upload("src", "app.py", "print(1)\n").await;
    past.upload("src", "app.py", "print(2)\nprint(3)\n").await;
    past.app.post(&format!("{}/files/mkdir", past.path), json!({"path": "empty"})).await.ok();
    let moved = json!({"sourcePath": "src/app.py", "destPath": "app.py"});
    past.app.post(&format!("{}/files/move", past.path), moved).await.ok();
    past.app.delete(&format!("{}/files/app.py", past.path)).await.ok();

    let changes = past.changes("").await;
    let all: Vec<_> = changes.iter().map(told).collect();
    let expected: [&[&str]; 5] = [
        &["deleted app.py"],
        &["created app.py", "deleted src/app.py"],
        &["created empty"],
        &["modified src/app.py"],
        &["uploaded src/app.py"],
    ];
    assert_eq!(all, expected);
    let sources: Vec<_> = changes.iter().map(|change| change["routeSource"].as_str().expect("a word")).collect();
    assert_eq!(sources, ["delete", "move", "mkdir", "upload", "upload"]);
    assert_eq!(changes[1]["files"][0]["previousPath"], "src/app.py");
    assert_eq!((&changes[3]["additions"], &changes[3]["deletions"]), (&json!(2), &json!(1)));
    assert_eq!(
        (&changes[2]["files"][0]["entryType"], &changes[2]["sourceKind"]),
        (&json!("directory"), &json!("manual"))
    );

    assert_eq!(past.changes("?operation=uploaded,deleted").await.len(), 3);
    assert_eq!(past.changes("?agentId=agent_x").await.len(), 0);
    assert_eq!(past.changes("?projectId=proj_x").await.len(), 0);
    let page = past.get("/changes?limit=2&offset=1").await;
    assert_eq!((&page["total"], &page["hasMore"], &page["limit"]), (&json!(5), &json!(true), &json!(2)));
    past.app.get(&format!("{}/changes?operation=moved", past.path)).await.failed(400);
}

#[tokio::test]
async fn a_snapshot_tells_what_was_there_and_what_led_to_it() {
    let past = Past::start().await;
    past.upload("", "a.txt", "one\ntwo\n").await;
    past.upload("", "a.txt", "one\n2\n").await;
    past.app.delete(&format!("{}/files/a.txt", past.path)).await.ok();
    let snapshots = past.get("/snapshots").await;
    assert_eq!(snapshots["total_count"], 4, "the empty beginning and three changes");
    let id = |n: usize| snapshots["data"][n]["id"].as_str().expect("an id").to_owned();
    assert_eq!(snapshots["data"][1]["changedPaths"], json!(["a.txt"]));
    assert_eq!(snapshots["data"][3]["parentSnapshotId"], Value::Null);

    let files = past.get(&format!("/snapshots/{}/files", id(1))).await;
    assert_eq!((&files["data"][0]["path"], &files["data"][0]["size"]), (&json!("a.txt"), &json!(6)));
    assert_eq!(past.get(&format!("/snapshots/{}/files", id(0))).await["data"], json!([]));
    let diff = past.get(&format!("/snapshots/{}/diff", id(1))).await;
    let text = "diff --git a/a.txt b/a.txt\n--- a/a.txt\n+++ b/a.txt\n@@ -1,2 +1,2 @@\n one\n-two\n+2\n";
    assert_eq!((diff["diff"].as_str(), &diff["additions"], &diff["deletions"]), (Some(text), &json!(1), &json!(1)));
    assert_eq!(past.get(&format!("/snapshots/{}/diff?path=b", id(1))).await["diff"], "");

    let file = past.get(&format!("/snapshots/{}/file?path=a.txt", id(2))).await;
    assert_eq!(file, json!({"path": "a.txt", "snapshotId": id(2), "content": "one\ntwo\n"}));
    let raw = past.app.get(&format!("{}/snapshots/{}/file?path=/a.txt&format=raw", past.path, id(1))).await;
    assert_eq!((raw.text(), raw.header("content-length")), ("one\n2\n", "6"));
    let change = past.changes("").await[1]["id"].as_str().expect("an id").to_owned();
    assert_eq!(past.get(&format!("/changes/{change}/file?path=a.txt")).await["content"], "one\n2\n");
    assert_eq!(past.get(&format!("/changes/{change}/diff")).await["diff"], text);

    for (rest, status) in [
        (format!("/snapshots/{}/file?path=a.txt", id(0)), 404),
        (format!("/snapshots/{}/file", id(1)), 400),
        (format!("/snapshots/{}/file?path=../x", id(1)), 400),
        ("/snapshots/snap_x/files".to_owned(), 404),
        ("/changes/change_x/diff".to_owned(), 404),
    ] {
        past.app.get(&format!("{}{rest}", past.path)).await.failed(status);
    }
}

#[tokio::test]
async fn a_fork_has_the_files_of_then_and_goes_its_own_way() {
    let past = Past::start().await;
    past.upload("", "a.txt", "then").await;
    let change = past.changes("").await[0]["id"].as_str().expect("an id").to_owned();
    past.upload("", "a.txt", "now").await;
    for (fork, name) in [(format!("/changes/{change}/fork"), "mine"), ("/changes/x/fork".to_owned(), "")] {
        let reply = past.app.post(&format!("{}{fork}", past.path), json!({"name": name})).await;
        if name.is_empty() {
            reply.failed(404);
            continue;
        }
        assert_eq!(reply.status, 201);
        let forked = reply.ok();
        assert_eq!(forked["environment"]["name"], "mine");
        let id = forked["environment"]["id"].as_str().expect("an id");
        let path = format!("/v1/environments/{id}");
        assert_eq!(past.app.get(&format!("{path}/files/a.txt")).await.text(), "then");
        assert_eq!(past.app.get(&format!("{path}/snapshots")).await.ok()["total_count"], 1);
        past.app.delete(&format!("{path}/files/a.txt")).await.ok();
        assert_eq!(past.app.get(&format!("{path}/changes")).await.ok()["total"], 1);
        past.app.delete(&format!("{path}?hard=true")).await.ok();
    }
    assert_eq!(past.app.get(&format!("{}/files/a.txt", past.path)).await.text(), "now");
    let snapshots = past.get("/snapshots").await;
    let oldest = snapshots["data"][1]["id"].as_str().expect("an id");
    assert_eq!(past.get(&format!("/snapshots/{oldest}/file?path=a.txt")).await["content"], "then");
}

#[tokio::test]
async fn what_others_do_beside_an_upload_is_not_the_uploads() {
    let past = Past::start().await;
    past.upload("", "a.txt", "1").await;
    std::fs::write(past.workspace().join("background"), "x").expect("writes");
    past.upload("", "b.txt", "2").await;
    assert_eq!(told(&past.changes("").await[0]), ["uploaded b.txt"]);
    let made = past.app.post(&format!("{}/snapshots/initialize", past.path), json!({})).await;
    assert_eq!((made.status.as_u16(), &made.json()["snapshot"]["changedPaths"]), (201, &json!(["background"])));
    assert_eq!(past.changes("").await[0]["routeSource"], "outside");
}

#[tokio::test]
async fn another_project_finds_nothing_of_it() {
    let past = Past::start().await;
    past.upload("", "a.txt", "1").await;
    let change = past.changes("").await[0].clone();
    let (snapshot, change) = (change["snapshotId"].as_str().expect("an id"), change["id"].as_str().expect("an id"));
    let (_, key) = past.app.another_project().await;
    for rest in [
        "/snapshots".to_owned(),
        "/changes".to_owned(),
        format!("/snapshots/{snapshot}/files"),
        format!("/snapshots/{snapshot}/diff"),
        format!("/snapshots/{snapshot}/file?path=a.txt"),
        format!("/changes/{change}/diff"),
        format!("/changes/{change}/file?path=a.txt"),
    ] {
        let path = format!("{}{rest}", past.path);
        past.app.call_with(&key, axum::http::Method::GET, &path, Body::empty()).await.failed(404);
    }
    for rest in
        ["/snapshots/initialize".to_owned(), format!("/snapshots/{snapshot}/fork"), format!("/changes/{change}/fork")]
    {
        let path = format!("{}{rest}", past.path);
        past.app.call_with(&key, axum::http::Method::POST, &path, "{}").await.failed(404);
    }
}
