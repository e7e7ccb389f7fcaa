//! Steps: what the runs of a thread did to files, going back to it, and threads made of it.

use std::{fs, path::PathBuf};

use domain::{
    EnvironmentId,
    change::{Author, Source},
};
use ledger::{Ledger, Writer};

use super::*;

/// What a turn does to files: `None` removes one.
type Turn<'a> = &'a [(&'a str, Option<&'a [u8]>)];

/// A thread whose runs change files; the executor's part is played here.
struct Work {
    app: App,
    ledger: Ledger,
    thread: String,
    environment: EnvironmentId,
}

impl Work {
    async fn start() -> Self {
        let app = App::start().await;
        let environment = app.environment().await;
        let made = app.post("/threads", json!({"environmentId": environment, "title": "Work"})).await.ok();
        let thread = made["thread"]["id"].as_str().expect("an id").to_owned();
        let ledger = Ledger::new(app.database.store.clone(), app.sandboxes.clone(), ledger::Options::default());
        Self { app, ledger, thread, environment }
    }

    fn workspace(&self, environment: &str) -> PathBuf {
        self.app.database.directory().join("environments").join(environment).join("workspace")
    }

    fn path(&self, file: &str) -> PathBuf {
        self.workspace(self.environment.as_str()).join(file)
    }

    /// Sends a message, whose run makes these turns and then answers.
    async fn run(&self, content: &str, turns: &[Turn<'_>]) {
        let claimed = self.begin(content, turns).await;
        finish(&self.app.database.store, &claimed, completed(&format!("done: {content}"))).await;
    }

    async fn begin(&self, content: &str, turns: &[Turn<'_>]) -> Claimed {
        let path = format!("/threads/{}/messages", self.thread);
        self.app.post(&path, json!({"content": content, "stream": false})).await.ok();
        let mut claimed = claim(&self.app.database.store).await;
        self.ledger.capture(&self.environment).await.expect("captures");
        for (n, turn) in turns.iter().enumerate() {
            let author = Author {
                source: Source::Run,
                thread_id: Some(claimed.run.thread_id.clone()),
                run_id: Some(claimed.run.id.clone()),
                message_id: claimed.run.message_id.clone(),
                agent_id: None,
                key_id: None,
            };
            let title = format!("{content} {n}");
            let writer = Writer { author, title, named: Default::default(), may_write_all: true };
            let working = self.ledger.begin(&self.environment, writer);
            for (file, content) in *turn {
                let file = self.path(file);
                fs::create_dir_all(file.parent().expect("a directory")).expect("makes");
                match content {
                    Some(content) => fs::write(file, content).expect("writes"),
                    None => fs::remove_file(file).expect("removes"),
                }
            }
            drop(working);
            self.ledger.capture(&self.environment).await.expect("captures");
        }
        let entry = |role, text: &str| (role, json!([{"type": "text", "text": text}]).to_string());
        let transcript = vec![entry("user", content), entry("assistant", "done")];
        let checkpoint = Checkpoint { transcript, ..Checkpoint::default() };
        self.app.database.store.checkpoint(&mut claimed.lease, &checkpoint).await.expect("the lease is good");
        claimed
    }

    async fn get(&self, rest: &str) -> Value {
        self.app.get(&format!("/v1/threads/{}{rest}", self.thread)).await.ok()
    }

    async fn post(&self, rest: &str, body: Value) -> crate::app::Reply {
        self.app.post(&format!("/v1/threads/{}{rest}", self.thread), body).await
    }

    async fn steps(&self, thread: &str) -> Vec<Value> {
        let list = self.app.get(&format!("/threads/{thread}/steps")).await.ok();
        list["data"].as_array().expect("a list").clone()
    }

    /// Gives the ids of the thread's steps.
    async fn ids(&self) -> Vec<String> {
        self.steps(&self.thread).await.iter().map(|step| text(&step["id"])).collect()
    }

    async fn messages(&self, thread: &Value) -> Vec<String> {
        let list = self.app.get(&format!("/threads/{}/messages", text(thread))).await.ok();
        list["data"].as_array().expect("a list").iter().map(|message| text(&message["content"])).collect()
    }

    /// Gives all that is in an environment: each file with its content, sorted.
    fn files(&self, environment: &str) -> Vec<(String, Vec<u8>)> {
        let root = self.workspace(environment);
        // One in which nothing has happened yet has no directory.
        let (mut files, mut directories) = (Vec::new(), Vec::from_iter(root.exists().then(|| root.clone())));
        while let Some(directory) = directories.pop() {
            for entry in fs::read_dir(directory).expect("lists") {
                let path = entry.expect("an entry").path();
                if path.is_dir() {
                    directories.push(path);
                } else {
                    let name = path.strip_prefix(&root).expect("below").to_str().expect("UTF-8").to_owned();
                    files.push((name, fs::read(path).expect("reads")));
                }
            }
        }
        files.sort();
        files
    }

    fn own_files(&self) -> Vec<(String, Vec<u8>)> {
        self.files(self.environment.as_str())
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("a text: {value}")).to_owned()
}

fn named(files: &[(&str, &[u8])]) -> Vec<(String, Vec<u8>)> {
    files.iter().map(|(name, content)| ((*name).to_owned(), content.to_vec())).collect()
}

const BINARY: &[u8] = &[0, 159, 146, 150, 10, 0, 255];

/// Three steps by two messages: `src/a` and a binary file, `src/a` again, then `src/a` goes and `b` comes.
async fn worked() -> Work {
    let work = Work::start().await;
    work.run("one", &[&[("src/a", Some(b"1\n2\n")), ("bin", Some(BINARY))], &[("src/a", Some(b"1\ntwo\n"))]]).await;
    work.run("two", &[&[("src/a", None), ("b", Some(b"b\n"))]]).await;
    work
}

#[tokio::test]
async fn steps_tell_what_each_turn_did() {
    let work = worked().await;
    let steps = work.get("/steps").await;
    assert_eq!(
        (&steps["object"], &steps["total_count"], &steps["has_more"]),
        (&json!("list"), &json!(3), &json!(false))
    );
    let steps = steps["data"].as_array().expect("a list");
    let told: Vec<_> = steps.iter().map(|step| (step["sequence"].clone(), text(&step["title"]))).collect();
    assert_eq!(told, [(json!(1), "one 0".into()), (json!(2), "one 1".into()), (json!(3), "two 0".into())]);
    let messages = work.get("/messages").await;
    let sources: Vec<_> = steps.iter().map(|step| &step["sourceMessageId"]).collect();
    let (one, two) = (&messages["data"][0]["id"], &messages["data"][2]["id"]);
    assert_eq!(sources, [one, one, two]);
    assert_eq!(steps[1]["snapshotBeforeId"], steps[0]["snapshotAfterId"]);
    assert_eq!((&steps[0]["stepKind"], &steps[0]["eventType"]), (&json!("file_change"), &Value::Null));
    assert_eq!(steps[2]["metadata"]["changedPaths"], json!(["b", "src/a"]));
    assert_eq!((&steps[1]["metadata"]["additions"], &steps[1]["metadata"]["deletions"]), (&json!(1), &json!(1)));
    let page = work.get("/steps?limit=1&offset=1&compact=true").await;
    assert_eq!((&page["data"][0]["id"], &page["data"][0]["metadata"]), (&steps[1]["id"], &Value::Null));
    assert_eq!((&page["total_count"], &page["has_more"]), (&json!(3), &json!(true)));

    let ids = work.ids().await;
    let files = work.get(&format!("/steps/{}/files?prefix=src", ids[1])).await;
    assert_eq!(
        (&files["threadId"], &files["stepId"], &files["prefix"]),
        (&json!(work.thread), &json!(ids[1]), &json!("src"))
    );
    assert_eq!((&files["data"][0]["path"], &files["data"][0]["size"]), (&json!("src/a"), &json!(6)));
    let diff = work.get(&format!("/steps/{}/diff", ids[1])).await;
    let expected = "diff --git a/src/a b/src/a\n--- a/src/a\n+++ b/src/a\n@@ -1,2 +1,2 @@\n 1\n-2\n+two\n";
    assert_eq!((diff["diff"].as_str(), &diff["sequence"], &diff["additions"]), (Some(expected), &json!(2), &json!(1)));
    assert_eq!((&diff["snapshotBeforeId"], &diff["changedPaths"]), (&steps[1]["snapshotBeforeId"], &json!(["src/a"])));
    assert_eq!(work.get(&format!("/steps/{}/diff?path=b", ids[2])).await["changedPaths"], json!(["b"]));
    let file = work.get(&format!("/steps/{}/file?path=src/a", ids[0])).await;
    assert_eq!(
        file,
        json!({"stepId": ids[0], "path": "src/a", "snapshotId": steps[0]["snapshotAfterId"], "content": "1\n2\n"})
    );
    let path = format!("/threads/{}/steps/{}/file/download?path=bin", work.thread, ids[2]);
    let raw = work.app.get(&path).await;
    assert_eq!((raw.body.as_slice(), raw.header("content-type")), (BINARY, "application/octet-stream"));

    let history = work.get("/files/history?path=/workspace/src/a").await;
    assert_eq!(
        (&history["path"], &history["total_count"], &history["has_more"]),
        (&json!("src/a"), &json!(3), &json!(false))
    );
    let kinds: Vec<_> =
        history["data"].as_array().expect("a list").iter().map(|step| text(&step["changeKind"])).collect();
    assert_eq!(kinds, ["deleted", "modified", "created"]);
    assert_eq!(history["data"][1]["stepId"], json!(ids[1]));
    assert_eq!(work.get("/files/history?path=src/a&limit=1&offset=2").await["data"][0]["sequence"], 1);

    for (rest, status) in [
        (format!("/steps/{}/file?path=src/a", ids[2]), 404),
        (format!("/steps/{}/file?path=src", ids[0]), 409),
        (format!("/steps/{}/file", ids[0]), 400),
        (format!("/steps/{}/file/download?path=../x", ids[0]), 400),
        ("/files/history".to_owned(), 400),
        ("/steps/step_x/files".to_owned(), 404),
    ] {
        work.app.get(&format!("/threads/{}{rest}", work.thread)).await.failed(status);
    }
    // A step belongs to its own thread.
    let other = work.app.thread().await;
    work.app.get(&format!("/threads/{other}/steps/{}/diff", ids[0])).await.failed(404);
}

#[tokio::test]
async fn going_back_and_forth_gives_the_same_bytes_and_loses_nothing() {
    let work = worked().await;
    let ids = work.ids().await;
    let last = work.own_files();
    assert_eq!(last, named(&[("b", b"b\n"), ("bin", BINARY)]));
    // Known to no snapshot yet.
    fs::write(work.path("stray"), "by hand").expect("writes");

    let reply = work.post(&format!("/steps/{}/revert", ids[0]), json!({"revertedChangeStepId": ids[1]})).await.ok();
    assert_eq!(work.own_files(), named(&[("bin", BINARY), ("src/a", b"1\n2\n")]));
    assert_eq!((&reply["revertedToStepId"], &reply["revertedChangeStepId"]), (&json!(ids[0]), &json!(ids[1])));
    assert_eq!((&reply["thread"]["id"], &reply["environmentId"]), (&json!(work.thread), &json!(work.environment)));
    assert_eq!(reply["notRestored"], json!([]));
    let steps = work.steps(&work.thread).await;
    assert_eq!((steps.len(), &steps[3]["id"]), (4, &reply["revertStepId"]));
    assert_eq!((&steps[3]["eventType"], &steps[3]["title"]), (&json!("revert"), &json!("Reverted step 2")));
    assert_eq!((&steps[3]["sourceMessageId"], &steps[3]["snapshotAfterId"]), (&Value::Null, &reply["snapshotId"]));
    let before =
        format!("/environments/{}/snapshots/{}/file?path=stray", work.environment, text(&steps[3]["snapshotBeforeId"]));
    assert_eq!(work.app.get(&before).await.ok()["content"], "by hand", "it can be had back");

    let again = work.post(&format!("/steps/{}/revert", ids[0]), json!({})).await.ok();
    assert_eq!(
        (&again["revertStepId"], &again["snapshotId"]),
        (&Value::Null, &reply["snapshotId"]),
        "it is so already"
    );
    let body = json!({"historyActionType": "reapply", "revertedChangeStepId": ids[1]});
    let reply = work.post(&format!("/steps/{}/revert", ids[2]), body).await.ok();
    assert_eq!(work.own_files(), last);
    let steps = work.steps(&work.thread).await;
    assert_eq!((&steps[4]["id"], &steps[4]["title"]), (&reply["revertStepId"], &json!("Reapplied step 2")));
    assert_eq!(steps[4]["eventType"], "reapply");

    // One step is taken back by its own name, and going back is taken back like any step.
    work.post(&format!("/steps/{}/revert", ids[2]), json!({"revertedChangeStepId": ids[2]})).await.ok();
    assert_eq!(work.own_files(), named(&[("bin", BINARY), ("src/a", b"1\ntwo\n")]));
    let reverted = work.ids().await[5].clone();
    work.post(&format!("/steps/{reverted}/revert"), json!({"revertedChangeStepId": reverted})).await.ok();
    assert_eq!(work.own_files(), last);
    // The first, too.
    work.post(&format!("/steps/{}/revert", ids[0]), json!({"revertedChangeStepId": ids[0]})).await.ok();
    assert_eq!(work.own_files(), []);

    for (step, body, status) in [
        (&ids[0], json!({"historyActionType": "undo"}), 400),
        (&ids[0], json!({"revertedFilePath": "../x"}), 400),
        (&ids[0], json!({"revertedFilePath": "/workspace"}), 400),
        (&ids[0], json!({"revertedChangeStepId": "step_x"}), 404),
        (&"step_x".to_owned(), json!({}), 404),
    ] {
        work.post(&format!("/steps/{step}/revert"), body).await.failed(status);
    }
}

#[tokio::test]
async fn one_file_goes_back_alone_even_while_a_run_works() {
    let work = worked().await;
    let ids = work.ids().await;
    let claimed = work.begin("three", &[&[("c", Some(b"c\n"))]]).await;
    let refused = work.post(&format!("/steps/{}/revert", ids[0]), json!({})).await;
    assert!(refused.failed(409).contains(claimed.run.id.as_str()));
    assert_eq!(refused.json()["code"], "environment_busy");
    let body = json!({"revertedFilePath": "/workspace/src/a", "revertedFileName": "a"});
    work.post(&format!("/steps/{}/revert", ids[0]), body).await.ok();
    let expected = named(&[("b", b"b\n"), ("bin", BINARY), ("c", b"c\n"), ("src/a", b"1\n2\n")]);
    assert_eq!(work.own_files(), expected);
    let steps = work.steps(&work.thread).await;
    assert_eq!(steps[4]["title"], "Reverted a to step 1");
    assert_eq!(steps[4]["metadata"]["changedPaths"], json!(["src/a"]));
    finish(&work.app.database.store, &claimed, completed("done")).await;
    // What a step had taken away goes away again, and a directory goes as one.
    let body = json!({"revertedFilePath": "src", "historyActionType": "reapply"});
    work.post(&format!("/steps/{}/revert", ids[2]), body).await.ok();
    assert_eq!(work.own_files(), named(&[("b", b"b\n"), ("bin", BINARY), ("c", b"c\n")]));
    assert_eq!(work.steps(&work.thread).await[5]["metadata"]["changedPaths"], json!(["src/a"]));
}

#[tokio::test]
async fn a_fork_from_a_step_has_what_there_was_and_goes_its_own_way() {
    let work = worked().await;
    let ids = work.ids().await;
    let last = work.own_files();
    for (step, mode, messages, steps, files) in [
        // In the middle of its run: what was asked, but no answer.
        (0, json!("historical"), vec!["one"], 1, named(&[("bin", BINARY), ("src/a", b"1\n2\n")])),
        (1, Value::Null, vec!["one", "done: one"], 2, named(&[("bin", BINARY), ("src/a", b"1\ntwo\n")])),
        (0, json!("latest"), vec!["one", "done: one", "two", "done: two"], 3, last.clone()),
    ] {
        let body = json!({"mode": mode, "title": "Fork", "environmentName": "Its own"});
        let reply = work.post(&format!("/steps/{}/fork", ids[step]), body).await;
        assert_eq!(reply.status, StatusCode::CREATED);
        let fork = reply.ok();
        assert_eq!((&fork["thread"]["title"], &fork["environmentName"]), (&json!("Fork"), &json!("Its own")));
        assert_eq!(fork["forkMode"], mode.as_str().unwrap_or("historical"));
        assert_eq!(
            (work.messages(&fork["thread"]["id"]).await, fork["messagesCopied"].as_u64()),
            (messages.iter().map(|message| (*message).to_owned()).collect(), Some(messages.len() as u64))
        );
        let environment = text(&fork["environmentId"]);
        assert_eq!(fork["thread"]["environmentId"], json!(environment));
        assert_eq!(work.files(&environment), files);
        let copied = work.steps(&text(&fork["thread"]["id"])).await;
        assert_eq!(copied.len(), steps);
        // Its steps show the same, name its own messages, and can be gone back to in its own files.
        let path = format!("/threads/{}", text(&fork["thread"]["id"]));
        assert_ne!(copied[0]["id"], json!(ids[0]));
        let own = work.app.get(&format!("{path}/messages")).await.ok();
        assert_eq!(copied[0]["sourceMessageId"], own["data"][0]["id"]);
        let step = format!("{path}/steps/{}", text(&copied[0]["id"]));
        assert_eq!(work.app.get(&format!("{step}/file?path=src/a")).await.ok()["content"], "1\n2\n");
        work.app.post(&format!("{step}/revert"), json!({"revertedChangeStepId": copied[0]["id"]})).await.ok();
        assert_eq!(work.files(&environment), []);
        assert_eq!(work.own_files(), last, "the original's are as they were");
    }
    for body in [json!({"mode": "other"}), json!({"title": "x".repeat(501)})] {
        work.post(&format!("/steps/{}/fork", ids[0]), body).await.failed(400);
    }
    assert_eq!(work.app.get("/environments").await.ok()["total_count"], 4, "what was refused left none");
}

#[tokio::test]
async fn a_copy_takes_the_files_that_it_is_told_to() {
    let work = worked().await;
    // Nobody's of the thread, and later than its messages.
    fs::write(work.path("later"), "later").expect("writes");
    let then = named(&[("bin", BINARY), ("src/a", b"1\ntwo\n")]);
    let now = named(&[("b", b"b\n"), ("bin", BINARY), ("later", b"later")]);
    let own = named(&[("b", b"b\n"), ("bin", BINARY)]);
    let new = |more: Value| {
        let mut body = json!({"environmentTarget": "new_forked_environment"});
        body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        body
    };
    for (route, body, mode, files, steps) in [
        ("copy", new(json!({})), "latest", &now, 3),
        ("copy", new(json!({"fileCopyMode": "all"})), "latest", &now, 3),
        ("copy", new(json!({"fileCopyMode": "thread_only"})), "latest", &own, 3),
        ("copy", new(json!({"fileCopyMode": "none"})), "latest", &Vec::new(), 3),
        ("copy", new(json!({"truncateAtMessageIndex": 2})), "historical", &then, 2),
        ("fork-from-message", new(json!({"truncateAtMessageIndex": 2})), "historical", &then, 2),
        ("fork-from-message", new(json!({"truncateAtMessageIndex": 0})), "historical", &Vec::new(), 0),
    ] {
        let reply = work.post(&format!("/{route}"), body.clone()).await;
        assert_eq!(reply.status, StatusCode::CREATED, "{body}");
        let copy = reply.ok();
        assert_eq!((&copy["forkMode"], copy["snapshotId"].is_string()), (&json!(mode), body["fileCopyMode"] != "none"));
        assert_eq!(&work.files(&text(&copy["environmentId"])), files, "{route} {body}");
        assert_eq!(work.steps(&text(&copy["thread"]["id"])).await.len(), steps, "{route} {body}");
    }

    // Into one that is there: over what is of the same name, and nothing goes.
    let other = work.app.post("/environments", json!({"name": "Other"})).await.ok();
    let other = text(&other["environment"]["id"]);
    work.app.post(&format!("/environments/{other}/files/mkdir"), json!({"path": "kept"})).await.ok();
    fs::write(work.workspace(&other).join("kept/file"), "kept").expect("writes");
    fs::write(work.workspace(&other).join("b"), "another b").expect("writes");
    let kept = ("kept/file".to_owned(), b"kept".to_vec());
    for (more, files) in [
        (json!({}), named(&[("b", b"another b")])),
        (json!({"fileCopyMode": "thread_only"}), own.clone()),
        (json!({"fileCopyMode": "all"}), now.clone()),
    ] {
        let mut body = json!({"targetEnvironmentId": other});
        body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        let copy = work.post("/copy", body).await.ok();
        assert_eq!((&copy["forkMode"], &copy["environmentId"]), (&json!("existing_environment"), &json!(other)));
        let mut expected = files;
        expected.push(kept.clone());
        expected.sort();
        assert_eq!(work.files(&other), expected, "{more}");
    }
    let changes = work.app.get(&format!("/environments/{other}/changes")).await.ok();
    let titles: Vec<_> =
        changes["data"].as_array().expect("a list").iter().map(|change| text(&change["title"])).collect();
    assert_eq!(
        titles,
        ["Copied with a thread", "Copied with a thread", "Changed outside of runs", "Made the directory kept"]
    );
    let lost = format!("/environments/{other}/snapshots/{}/file?path=b", text(&changes["data"][2]["snapshotId"]));
    assert_eq!(work.app.get(&lost).await.ok()["content"], "another b", "what was there can be had back");
    assert_eq!(work.own_files(), now, "the original's are as they were");
}

#[tokio::test]
async fn a_step_is_not_gone_back_to_in_an_environment_it_was_never_in() {
    let work = worked().await;
    let ids = work.ids().await;
    let other = work.app.post("/environments", json!({"name": "Other"})).await.ok();
    let other = text(&other["environment"]["id"]);
    work.app.patch(&format!("/threads/{}", work.thread), json!({"environmentId": other})).await.ok();
    work.app.post(&format!("/environments/{other}/files/mkdir"), json!({"path": "kept"})).await.ok();
    let refused = work.post(&format!("/steps/{}/revert", ids[0]), json!({})).await;
    assert_eq!((refused.status.as_u16(), &refused.json()["code"]), (409, &json!("another_environment")));
    // It can still be looked at.
    assert_eq!(work.get(&format!("/steps/{}/file?path=src/a", ids[0])).await["content"], "1\n2\n");
}

#[tokio::test]
async fn a_key_to_threads_alone_sees_what_a_step_did_and_no_other_files() {
    let work = worked().await;
    let ids = work.ids().await;
    let made = work.app.post("/api-keys", json!({"name": "k", "scopes": ["threads:write"]})).await.ok();
    let key = text(&made["key"]);
    let path = format!("/threads/{}", work.thread);
    let step = format!("{path}/steps/{}", ids[0]);
    work.app.call_with(&key, Method::GET, &format!("{step}/diff"), "").await.ok();
    work.app.call_with(&key, Method::POST, &format!("{path}/copy"), "{}").await.ok();
    for (method, path, body) in [
        (Method::GET, format!("{step}/files"), json!({})),
        (Method::GET, format!("{step}/file?path=bin"), json!({})),
        (Method::GET, format!("{step}/file/download?path=bin"), json!({})),
        (Method::POST, format!("{step}/revert"), json!({})),
        (Method::POST, format!("{step}/fork"), json!({})),
        (Method::POST, format!("{path}/copy"), json!({"environmentTarget": "new_forked_environment"})),
    ] {
        let refused = work.app.call_with(&key, method, &path, body.to_string()).await.failed(403);
        assert!(refused.contains("environments:"), "{path}: {refused}");
    }
}
