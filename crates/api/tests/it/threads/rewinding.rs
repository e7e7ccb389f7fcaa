//! Going on from an earlier point of a conversation.

use serde_json::json;
use store::transcript::Entry;

use super::*;

/// Plays a run: one reply to the message.
async fn answer(store: &Store, message: &str, reply: &str) {
    let mut claimed = claim(store).await;
    let text = |text: &str| json!([{"type": "text", "text": text}]).to_string();
    let transcript =
        vec![("system", json!(["be good"]).to_string()), ("user", text(message)), ("assistant", text(reply))];
    let checkpoint = Checkpoint { transcript, ..Checkpoint::default() };
    store.checkpoint(&mut claimed.lease, &checkpoint).await.expect("writes");
    let outcome = Outcome::Completed { content: reply.into() };
    store.finish_run(&claimed.lease, &outcome, SPENT).await.expect("finishes");
}

impl App {
    async fn say(&self, path: &str, body: Value, reply: &str) {
        let message = body["content"].as_str().expect("a message").to_owned();
        let mut body = body;
        body["stream"] = json!(false);
        self.post(path, body).await.ok();
        answer(&self.database.store, &message, reply).await;
    }

    async fn contents(&self, path: &str) -> Vec<String> {
        let list = self.get(path).await.ok();
        let data = list["data"].as_array().expect("a list");
        assert_eq!(list["total_count"], data.len());
        data.iter().map(|message| message["content"].as_str().expect("text").to_owned()).collect()
    }

    /// What the model would read.
    async fn read(&self, thread: &str) -> String {
        let entries = self.database.store.load_transcript(&thread.parse().expect("an id")).await.expect("reads");
        let shown = |entry: &Entry| {
            let blocks: Value = serde_json::from_str(&entry.blocks).expect("JSON");
            blocks[0]["text"].as_str().map(str::to_owned)
        };
        entries.iter().filter_map(shown).collect::<Vec<_>>().join(" ")
    }
}

#[tokio::test]
async fn a_thread_goes_on_from_before_an_edited_message_and_keeps_what_was_said() {
    let app = App::start().await;
    let thread = app.thread().await;
    let path = format!("/threads/{thread}/messages");
    for (message, reply) in [("u1", "a1"), ("u2", "a2"), ("u3", "a3")] {
        app.say(&path, json!({"content": message}), reply).await;
    }
    let second = app.get(&path).await.ok()["data"][2]["id"].clone();
    app.say(&path, json!({"content": "u2b", "editMessageId": second}), "a2b").await;
    assert_eq!(app.contents(&path).await, ["u1", "a1", "u2b", "a2b"]);
    assert_eq!(app.read(&thread).await, "u1 a1 u2b a2b");
    let all = app.contents(&format!("{path}?includeSuperseded=true")).await;
    assert_eq!(all, ["u1", "a1", "u2", "a2", "u3", "a3", "u2b", "a2b"]);
    let read = app.get(&format!("/threads/{thread}")).await.ok();
    assert_eq!(
        (read["thread"]["messageCount"].clone(), read["thread"]["lastMessagePreview"].clone()),
        (4.into(), "a2b".into())
    );
    assert_eq!(read["thread"]["messages"].as_array().map(Vec::len), Some(4));
    let read = app.get(&format!("/threads/{thread}?includeSuperseded=1")).await.ok();
    assert!(read["thread"]["messages"][2]["supersededAt"].is_string());

    // Before an answer: the question stays and is asked anew. Then on, then back over everything, then nowhere.
    app.say(&path, json!({"content": "and?", "truncateAtMessageIndex": 1}), "a1b").await;
    assert_eq!(app.read(&thread).await, "u1 and? a1b");
    app.say(&path, json!({"content": "u5"}), "a5").await;
    assert_eq!(app.read(&thread).await, "u1 and? a1b u5 a5");
    assert_eq!(app.contents(&path).await, ["u1", "and?", "a1b", "u5", "a5"]);
    app.say(&path, json!({"content": "u6", "truncateAtMessageIndex": 5}), "a6").await;
    assert_eq!(app.read(&thread).await, "u1 and? a1b u5 a5 u6 a6");
    app.say(&path, json!({"content": "new", "truncateAtMessageIndex": 0}), "start").await;
    assert_eq!(app.read(&thread).await, "new start");
    assert_eq!(app.contents(&path).await, ["new", "start"]);
}

#[tokio::test]
async fn a_rewind_that_cannot_be_leaves_the_thread_as_it_was() {
    let app = App::start().await;
    let thread = app.thread().await;
    let path = format!("/threads/{thread}/messages");
    app.say(&path, json!({"content": "u1"}), "a1").await;
    let messages = app.get(&path).await.ok();
    let refused = |body: Value, status: u16| {
        let (app, path) = (&app, &path);
        async move {
            let mut body = body;
            body["content"] = "x".into();
            app.post(path, body).await.failed(status)
        }
    };
    refused(json!({"truncateAtMessageIndex": 3}), 400).await;
    refused(json!({"truncateAtMessageIndex": -1}), 400).await;
    refused(json!({"editMessageId": messages["data"][1]["id"]}), 400).await;
    refused(json!({"editMessageId": "msg_0198c0f2a7d07d1c9f7b1f5b5b0c2a11"}), 404).await;
    refused(json!({"editMessageId": "5"}), 404).await;
    app.post(&path, json!({"content": "u2", "stream": false})).await.ok();
    refused(json!({"truncateAtMessageIndex": 0}), 409).await;
    answer(&app.database.store, "u2", "a2").await;
    assert_eq!(app.contents(&path).await, ["u1", "a1", "u2", "a2"]);
    assert_eq!(app.read(&thread).await, "u1 a1 u2 a2");
}

#[tokio::test]
async fn a_repeated_edit_is_one_edit() {
    let app = App::start().await;
    let thread = app.thread().await;
    let path = format!("/threads/{thread}/messages");
    app.say(&path, json!({"content": "u1"}), "a1").await;
    let headers = [("idempotency-key", "edit")];
    let body = json!({"content": "u1b", "truncateAtMessageIndex": 0, "stream": false});
    app.open(Method::POST, &path, &headers, body.clone()).await.rest().await;
    answer(&app.database.store, "u1b", "a1b").await;
    assert_eq!(app.open(Method::POST, &path, &headers, body).await.status, 202);
    assert_eq!(app.contents(&path).await, ["u1b", "a1b"]);
}
