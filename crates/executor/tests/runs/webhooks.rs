//! Webhooks: what happens is told at least once and under one id, by one of several servers, and to nobody in private.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use chrono::Utc;
use domain::{
    WebhookId, signature,
    webhook::{Delivery, DeliveryState},
};
use scripted_claude::Reply;
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use store::{Page, webhooks::NewWebhook};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpListener,
};

use crate::world::World;

/// What came in one request.
#[derive(Debug, Clone)]
struct Told {
    headers: BTreeMap<String, String>,
    body: String,
}

impl Told {
    fn id(&self) -> &str {
        &self.headers["webhook-id"]
    }

    /// Tells whether it is signed with this secret.
    fn is_signed(&self, secret: &SecretString) -> bool {
        let [timestamp, given] = ["webhook-timestamp", "webhook-signature"].map(|name| &self.headers[name]);
        signature::is_standard(secret.expose_secret(), self.id(), timestamp, self.body.as_bytes(), given, Utc::now())
    }
}

/// How a request is answered, by its number: the whole answer, or nothing for ever.
type Answer = fn(usize) -> Option<&'static str>;

const TAKEN: &str = "HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n";
const BROKEN: &str = "HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
const GONE: &str = "HTTP/1.1 410 Gone\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

/// Somebody who is told.
struct Receiver {
    url: String,
    told: Arc<Mutex<Vec<Told>>>,
    _task: tokio_util::task::AbortOnDropHandle<()>,
}

impl Receiver {
    async fn start(answer: Answer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/hook", listener.local_addr().expect("an address"));
        let told: Arc<Mutex<Vec<Told>>> = Arc::default();
        let counting = Arc::clone(&told);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let told = Arc::clone(&counting);
                tokio::spawn(async move {
                    let mut stream = BufReader::new(stream);
                    let (mut headers, mut line) = (BTreeMap::new(), String::new());
                    while stream.read_line(&mut line).await.is_ok_and(|len| len > 2) {
                        if let Some((name, value)) = line.trim_end().split_once(": ") {
                            headers.insert(name.to_lowercase(), value.to_owned());
                        }
                        line.clear();
                    }
                    let length = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
                    let mut body = vec![0; length];
                    if stream.read_exact(&mut body).await.is_err() {
                        return;
                    }
                    let body = String::from_utf8(body).expect("UTF-8");
                    let number = {
                        let mut told = told.lock().expect("not poisoned");
                        told.push(Told { headers, body });
                        told.len()
                    };
                    match answer(number) {
                        Some(answer) => stream.write_all(answer.as_bytes()).await.expect("is read"),
                        None => std::future::pending().await,
                    }
                    stream.shutdown().await.ok();
                });
            }
        });
        Self { url, told, _task: tokio_util::task::AbortOnDropHandle::new(task) }
    }

    fn told(&self) -> Vec<Told> {
        self.told.lock().expect("not poisoned").clone()
    }

    /// Gives how often each delivery came.
    fn counts(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        self.told().iter().for_each(|told| *counts.entry(told.id().to_owned()).or_default() += 1);
        counts
    }
}

async fn webhook(world: &World, url: &str, events: &[&str]) -> (WebhookId, SecretString) {
    let new = NewWebhook {
        url: url.to_owned(),
        description: None,
        events: events.iter().map(|&event| event.to_owned()).collect(),
        enabled: true,
    };
    let (webhook, secret) = world.store().create_webhook(&world.database.project, new).await.expect("a webhook");
    (webhook.id, secret)
}

async fn deliveries(world: &World, webhook: &WebhookId) -> Vec<Delivery> {
    let page = Page { limit: 1000, offset: 0 };
    world.store().list_deliveries(&world.database.project, webhook, None, page).await.expect("reads").items
}

/// Waits until the deliveries are as wanted.
async fn until(world: &World, webhook: &WebhookId, wanted: impl Fn(&[Delivery]) -> bool) -> Vec<Delivery> {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    loop {
        let found = deliveries(world, webhook).await;
        if wanted(&found) {
            return found;
        }
        assert!(tokio::time::Instant::now() < deadline, "not within a minute: {found:#?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn all(state: DeliveryState) -> impl Fn(&[Delivery]) -> bool {
    move |deliveries| !deliveries.is_empty() && deliveries.iter().all(|delivery| delivery.state == state)
}

/// Lets webhooks reach this machine, and tries again soon.
fn reaching(options: &mut executor::Options) {
    options.webhooks.allowed = vec!["127.0.0.0/8".parse().expect("a network")];
    options.webhooks.first_pause = Duration::from_millis(10);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_run_is_told_until_somebody_takes_it_under_one_id() {
    let world = World::new(|_| Reply::text("a secret answer")).await;
    let receiver = Receiver::start(|number| Some(if number <= 3 { BROKEN } else { TAKEN })).await;
    let (id, secret) = webhook(&world, &receiver.url, &["run.completed"]).await;
    let (others, _) = webhook(&world, &receiver.url, &["run.failed"]).await;
    let server = world.server_with("node_a", reaching).await;
    world.ask("hello").await;
    let done = until(&world, &id, all(DeliveryState::Delivered)).await;
    assert_eq!((done.len(), done[0].attempts, done[0].last_status), (1, 4, Some(204)));
    assert!(deliveries(&world, &others).await.is_empty(), "it does not want to be told that");
    let told = receiver.told();
    assert_eq!(told.len(), 4);
    for one in &told {
        assert_eq!((one.id(), one.body.as_str()), (done[0].id.as_str(), done[0].payload.as_str()));
        assert!(one.is_signed(&secret), "{one:?}");
        assert!(!one.body.contains("secret answer"));
    }
    let body: Value = serde_json::from_str(&told[0].body).expect("JSON");
    assert_eq!((&body["type"], &body["data"]["threadId"]), (&"run.completed".into(), &world.thread.as_str().into()));

    // Again, with two secrets.
    let project = &world.database.project;
    let (_, new) =
        world.store().rotate_webhook_secret(project, &id, Duration::from_secs(60)).await.expect("is changed");
    world.store().resend_delivery(project, &id, &done[0].id).await.expect("is sent again");
    until(&world, &id, |found| found[0].attempts == 5 && found[0].state == DeliveryState::Delivered).await;
    let told = receiver.told();
    assert_eq!(told[4].id(), done[0].id.as_str());
    assert!(told[4].is_signed(&secret) && told[4].is_signed(&new) && !told[3].is_signed(&new));
    server.stop_soft().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_servers_tell_each_thing_once() {
    let world = World::new(|_| Reply::text("done")).await;
    let receiver = Receiver::start(|_| Some(TAKEN)).await;
    let (id, _) = webhook(&world, &receiver.url, &["*"]).await;
    for _ in 0..100 {
        world.store().test_webhook(&world.database.project, &id).await.expect("is written");
    }
    let servers = [world.server_with("node_a", reaching).await, world.server_with("node_b", reaching).await];
    let done = until(&world, &id, all(DeliveryState::Delivered)).await;
    let counts = receiver.counts();
    assert_eq!((done.len(), counts.len()), (100, 100));
    assert!(counts.values().all(|count| *count == 1), "{counts:?}");
    println!("told by two servers: {} of {}, each once", receiver.told().len(), done.len());
    for server in servers {
        server.stop_soft().await;
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_server_was_telling_is_told_by_another() {
    let world = World::new(|_| Reply::text("done")).await;
    // The first server never learns whether it was taken.
    let receiver = Receiver::start(|number| (number > 1).then_some(TAKEN)).await;
    let (id, _) = webhook(&world, &receiver.url, &["*"]).await;
    world.store().test_webhook(&world.database.project, &id).await.expect("is written");
    let server = world.server_with("node_a", reaching).await;
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    while receiver.told().is_empty() {
        assert!(tokio::time::Instant::now() < deadline, "nothing is told");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    server.kill();
    let other = world.server_with("node_b", reaching).await;
    // As if the time that the first one had for it were over.
    sqlx::query("update webhook_deliveries set next_attempt_at = now()")
        .execute(&world.database.pool().await)
        .await
        .expect("writes");
    let done = until(&world, &id, all(DeliveryState::Delivered)).await;
    assert_eq!(receiver.counts(), BTreeMap::from([(done[0].id.to_string(), 2)]));
    other.stop_soft().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn private_addresses_are_not_told_and_what_nobody_takes_is_given_up_with_a_reason() {
    let world = World::new(|_| Reply::text("done")).await;
    let receiver = Receiver::start(|_| Some(TAKEN)).await;
    let port = receiver.url.rsplit(':').next().expect("a port").to_owned();
    let urls = [
        receiver.url.clone(),
        format!("http://localhost:{port}"),
        format!("http://[::1]:{port}"),
        format!("http://[::ffff:127.0.0.1]:{port}"),
        format!("http://2130706433:{port}"),
        "http://169.254.169.254/latest".to_owned(),
        "http://10.0.0.1/".to_owned(),
    ];
    let mut hooks = Vec::new();
    for url in &urls {
        let (id, _) = webhook(&world, url, &["*"]).await;
        world.store().test_webhook(&world.database.project, &id).await.expect("is written");
        hooks.push(id);
    }
    let server = world
        .server_with("node_a", |options| {
            options.webhooks.first_pause = Duration::from_millis(10);
            options.webhooks.patience = Duration::from_millis(300);
        })
        .await;
    for id in &hooks {
        let done = until(&world, id, all(DeliveryState::Failed)).await;
        let why = done[0].last_error.as_deref().expect("a reason");
        assert!(why.contains("is not on the public internet"), "{why}");
        assert!(done[0].attempts >= 1 && done[0].completed_at.is_some());
    }
    assert_eq!(receiver.told().len(), 0);
    println!("private addresses: {}, requests that reached one: 0", urls.len());
    server.stop_soft().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_is_not_followed_and_who_is_gone_is_told_no_more() {
    let world = World::new(|_| Reply::text("done")).await;
    let target = Receiver::start(|_| Some(TAKEN)).await;
    let gone = Receiver::start(|_| Some(GONE)).await;
    // The answer is fixed text, so the redirect goes to a name and the count is on the one that redirects.
    let redirecting = Receiver::start(|_| {
        Some("HTTP/1.1 307 Temporary Redirect\r\nlocation: /there\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
    })
    .await;
    let (to_gone, _) = webhook(&world, &gone.url, &["*"]).await;
    let (redirected, _) = webhook(&world, &redirecting.url, &["*"]).await;
    for id in [&to_gone, &redirected] {
        world.store().test_webhook(&world.database.project, id).await.expect("is written");
    }
    let server = world
        .server_with("node_a", |options| {
            reaching(options);
            options.webhooks.patience = Duration::ZERO;
        })
        .await;
    let done = until(&world, &redirected, all(DeliveryState::Failed)).await;
    assert!(done[0].last_error.as_deref().is_some_and(|why| why.contains("redirects are not followed")), "{done:?}");
    assert_eq!((redirecting.told().len(), target.told().len()), (1, 0));
    until(&world, &to_gone, all(DeliveryState::Failed)).await;
    let webhook =
        world.store().find_webhook(&world.database.project, &to_gone).await.expect("reads").expect("is there");
    assert!(!webhook.enabled && webhook.disabled_reason.is_some(), "{webhook:?}");
    server.stop_soft().await;
    world.end().await;
}
