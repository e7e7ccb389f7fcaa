//! Calls that wait for permission, over restarts and races: made exactly once, or never.

use std::time::Duration;

use reqwest::Method;
use scripted_claude::Reply;
use serde_json::{Value, json};
use system_tests::{World, eventually, message};
use testing::{Report, times};
use tokio::time::Instant;

/// A run that asks about its only call.
struct Asking {
    thread: String,
    file: String,
    request: String,
}

impl Asking {
    async fn begin(world: &World, environment: &str, number: usize) -> Self {
        let (thread, file) = (world.thread(environment).await, format!("asked-{number}"));
        let call = Reply::tool("Bash", json!({ "command": format!("echo made >> /workspace/{file}") }));
        let content = message(&[call, Reply::text("It is decided.")]);
        let body = json!({ "content": content, "stream": false, "permissionSet": { "rules": { "ask": ["Bash"] } } });
        world.post(&format!("/v1/threads/{thread}/messages"), body).await;
        let request = Self::waiting(world, &thread).await;
        Self { thread, file, request }
    }

    /// Waits until the thread waits, and gives the request's id.
    async fn waiting(world: &World, thread: &str) -> String {
        let path = format!("/v1/threads/{thread}/permission-requests");
        let mut request = None;
        eventually("a call waits", Duration::from_secs(30), async || {
            request = world.get(&path).await["data"][0]["requestId"].as_str().map(str::to_owned);
            request.is_some() && world.status(thread).await == "permission_asked"
        })
        .await;
        request.expect("was found")
    }

    async fn decide(&self, world: &World, decision: &str) -> Value {
        let path = format!("/v1/threads/{}/permission-requests/{}/decision", self.thread, self.request);
        let answer = world.call(Method::POST, &path, Some(json!({ "decision": decision }))).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()
    }

    /// How often the call was made.
    async fn made(&self, world: &World, environment: &str) -> usize {
        world.file(environment, &self.file).await.unwrap_or_default().lines().count()
    }
}

/// `ATELIER_TEST_APPROVALS` sets how many runs wait.
#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_waits_over_three_restarts_is_made_once_or_never_whoever_decides() {
    let waiting = times("ATELIER_TEST_APPROVALS", 12);
    let mut world = World::start().await;
    let environment = world.environment(false).await;
    let mut all = Vec::new();
    for number in 0..waiting {
        all.push(Asking::begin(&world, &environment, number).await);
    }
    for restart in 0..3 {
        // Twice as an operator does it, once as a crash does.
        if restart == 1 {
            world.kill();
        } else {
            assert!(world.stop().await.success());
        }
        world.start_again().await;
        for asking in &all {
            assert_eq!(Asking::waiting(&world, &asking.thread).await, asking.request, "it waits for the same decision");
            assert_eq!(asking.made(&world, &environment).await, 0, "nobody has allowed it");
        }
    }

    let mut report = Report::new("approvals");
    for (number, asking) in all.iter().enumerate() {
        let began = Instant::now();
        report.n += 1;
        if number % 3 == 0 {
            // Stopped first, decided then.
            world.post(&format!("/v1/threads/{}/cancel", asking.thread), json!({})).await;
            let (status, _) = world.settled(&asking.thread, Duration::from_secs(30)).await;
            assert_eq!(status, "cancelled");
            let late = asking.decide(&world, "allow").await;
            assert_eq!((&late["ok"], &late["active"]), (&json!(false), &json!(false)), "{late}");
            report.doubled += asking.made(&world, &environment).await;
            // Nothing of it stays behind: the thread goes on.
            let frames = world.run(&asking.thread, &[Reply::text("Next.")]).await;
            assert_eq!(frames.last().map(|frame| &frame.data["run"]["status"]), Some(&json!("completed")));
            continue;
        }
        // Four at once, of two opinions: one of them decides, and all are told the same.
        let wishes = ["allow", "deny", "allow", "deny"];
        let answers = futures::future::join_all(wishes.iter().map(|wish| asking.decide(&world, wish))).await;
        let deciders = answers.iter().filter(|answer| answer["active"] == json!(true)).count();
        assert_eq!(deciders, 1, "{answers:?}");
        let holds = answers[0]["decision"].as_str().expect("a word").to_owned();
        assert!(answers.iter().all(|answer| answer["decision"] == holds.as_str()), "{answers:?}");
        let (status, _) = world.settled(&asking.thread, Duration::from_secs(30)).await;
        report.stuck += usize::from(status != "completed");
        let (made, wanted) = (asking.made(&world, &environment).await, usize::from(holds == "allow"));
        report.lost += wanted.saturating_sub(made);
        report.doubled += made.saturating_sub(wanted);
        report.sample(began.elapsed());
        // And once more, when all is over.
        let late = asking.decide(&world, if holds == "allow" { "deny" } else { "allow" }).await;
        assert_eq!((&late["active"], &late["decision"]), (&json!(false), &json!(holds)), "{late}");
        assert_eq!(asking.made(&world, &environment).await, made);
    }
    report.finish();
    world.finish().await;
}
