//! Signing in to an MCP server by OAuth: a server and an authorization server of the official SDK for Python, somebody who
//! opens addresses, and runs.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    time::Duration,
};

use domain::{
    EnvironmentId,
    environment::Environment,
    event::Event,
    run::{Outcome, RunOptions},
};
use executor::{
    mcp::{Options, SignIns},
    tools::web,
};
use scripted_claude::{Asked, Reply};
use serde_json::{Value, json};
use store::{
    environments::NewEnvironment,
    runs::{NewRun, Started},
};

use crate::world::{Server, World};

const WHOAMI: &str = "mcp__docs__whoami";

/// The server said more than it should; that is all that anybody sees of it.
const SIGNED_IN: &str = "signed in with [redacted]";

struct OAuthServer {
    child: Child,
    base: String,
}

impl OAuthServer {
    /// `None`, said aloud, when there is none to be had.
    fn start() -> Option<Self> {
        let site = testing::mcp_python_sdk()?.join("site");
        let program = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/runs/mcp/oauth_server.py");
        let started = Command::new("python3").arg(program).env("PYTHONPATH", site).stdout(Stdio::piped()).spawn();
        let mut child = started.expect("python3 is on this host");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("is piped")).read_line(&mut line).expect("it says its port");
        Some(Self { child, base: format!("http://127.0.0.1:{}", line.trim()) })
    }

    /// Changes how it behaves, and gives what it has counted.
    async fn control(&self, asked: Value) -> Value {
        let url = format!("{}/control", self.base);
        let request = client().post(url).header("content-type", "application/json").body(asked.to_string());
        let answer = request.send().await.expect("answers").text().await.expect("to the end");
        serde_json::from_str(&answer).expect("JSON")
    }

    async fn count(&self, what: &str) -> u64 {
        self.control(json!({})).await[what].as_u64().expect("is counted")
    }
}

impl Drop for OAuthServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn client() -> reqwest::Client {
    let builder = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy();
    builder.timeout(Duration::from_secs(30)).build().expect("a client")
}

fn options() -> Options {
    Options {
        allowed: vec!["127.0.0.1".parse().expect("an address")],
        redirect_uri: "https://atelier.example/v1/mcp/callback".into(),
        first_wait: Duration::from_secs(30),
        ..Options::default()
    }
}

/// A world whose environment names the server `docs`, somebody's browser, and what that comes back to.
struct Scene {
    world: World,
    oauth: OAuthServer,
    environment: Environment,
    sign_ins: SignIns,
}

impl Scene {
    async fn start(answer: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Option<Self> {
        let oauth = OAuthServer::start()?;
        let world = World::new(answer).await;
        let environment = reach(&world, &world.environment, &format!("{}/mcp", oauth.base)).await;
        let web = web::Client::new(Vec::new()).expect("a client");
        let sign_ins = SignIns::new(world.store().clone(), web, &options());
        Some(Self { world, oauth, environment, sign_ins })
    }

    async fn server(&self, node: &str) -> Server {
        self.world.server_with(node, |runs| (runs.mcp, runs.concurrent_runs) = (options(), 1)).await
    }

    async fn run(&self) {
        let started = self.world.send("go").await;
        self.end_of(&started).await;
    }

    async fn end_of(&self, started: &Started) {
        assert_eq!(self.world.outcome(&started.run_id).await, Outcome::Completed { content: "done".into() });
    }

    /// Gives what the last call of the last run came to.
    async fn result(&self) -> String {
        self.world.finished_calls().await.pop().expect("a call").result.expect("is finished").text
    }

    /// Gives the addresses that runs have told people to open in the log.
    async fn told(&self) -> Vec<String> {
        let messages = self.world.events().await.into_iter().filter_map(|event| match event.event {
            Event::Log { topic, message, .. } if topic == "mcp_log" => address_in(&message),
            _ => None,
        });
        messages.collect()
    }

    /// Signs in from the beginning to the end.
    async fn sign_in(&self) {
        let address = self.sign_ins.begin(&self.environment, "docs").await.expect("begins");
        let Back { state, code, issuer } = open(address.as_str()).await;
        assert_eq!(self.sign_ins.finish(&state, &code, issuer.as_deref()).await, Ok("docs".to_owned()));
    }

    async fn is_signed_in(&self) -> bool {
        let found = self.world.store().find_mcp_signed_in(&self.environment.id, "docs").await;
        found.expect("reads").is_some()
    }

    async fn end(self, servers: Vec<Server>) {
        for server in servers {
            server.stop_soft().await;
        }
        self.world.end().await;
    }
}

/// Changes where an environment finds the server `docs`.
async fn reach(world: &World, id: &EnvironmentId, url: &str) -> Environment {
    name_servers(world, id, vec![json!({"type": "http", "name": "docs", "url": url})]).await
}

async fn name_servers(world: &World, id: &EnvironmentId, servers: Vec<Value>) -> Environment {
    let change = |environment: &mut Environment| {
        environment.settings.internet_access = true;
        environment.settings.mcp_servers = servers;
        Ok::<_, store::Error>(())
    };
    world.store().update_environment(&world.database.project, id, None, change).await.expect("changes")
}

fn address_in(text: &str) -> Option<String> {
    Some(text.split_once("sign in at ")?.1.split_whitespace().next()?.to_owned())
}

/// What an authorization server sends a browser back with.
struct Back {
    state: String,
    code: String,
    issuer: Option<String>,
}

/// Opens an address as a browser does, and agrees.
async fn open(address: &str) -> Back {
    let response = client().get(address).send().await.expect("answers");
    assert_eq!(response.status(), 302, "{:?}", response.text().await);
    let back: reqwest::Url = response.headers()["location"].to_str().expect("text").parse().expect("a URL");
    assert!(back.as_str().starts_with("https://atelier.example/v1/mcp/callback?"), "{back}");
    let find = |name: &str| back.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned());
    Back { state: find("state").expect("a state"), code: find("code").expect("a code"), issuer: find("iss") }
}

/// Calls the tools named, one after another, as far as they are offered; then says that it is done.
fn calls(tools: &'static [&'static str]) -> impl Fn(&Asked) -> Reply + Send + Sync + 'static {
    move |asked| match tools.get(asked.round) {
        Some(tool) if asked.tools.iter().any(|offered| offered == tool) => Reply::tool(tool, json!({})),
        _ => Reply::text("done"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_says_where_to_sign_in_and_whoever_has_done_so_has_for_later_runs() {
    let Some(scene) = Scene::start(calls(&[WHOAMI])).await else { return };
    let server = scene.server("node_a").await;

    // The runs go on without the server. The second tells the same address: it registers nobody.
    scene.run().await;
    scene.run().await;
    let told = scene.told().await;
    assert_eq!(told.len(), 2);
    assert_eq!(told[0], told[1]);
    let Back { state, code, issuer } = open(&told[0]).await;
    assert!(issuer.is_some());
    assert_eq!(scene.sign_ins.finish(&state, &code, issuer.as_deref()).await, Ok("docs".to_owned()));

    scene.run().await;
    assert_eq!(scene.result().await, SIGNED_IN);
    let counts = scene.oauth.control(json!({})).await;
    assert_eq!(counts, json!({"registered": 1, "exchanged": 1, "refreshed": 0, "called": 1, "elsewhere": 0}));

    // Nothing of it is anywhere in the database as it is, nor with the model.
    let pool = scene.world.database.pool().await;
    let tables: Vec<String> =
        sqlx::query_scalar("select table_name::text from information_schema.tables where table_schema = 'public'")
            .fetch_all(&pool)
            .await
            .expect("reads");
    assert!(tables.iter().any(|table| table == "mcp_tokens"));
    for table in tables {
        let select = format!("select coalesce(string_agg(t::text, ' '), '') from \"{table}\" t");
        let rows: String = sqlx::query_scalar(sqlx::AssertSqlSafe(select)).fetch_one(&pool).await.expect("reads");
        assert!(!rows.contains("canary-"), "{table} holds a token");
    }
    let asked: String = scene.world.claude.requests().iter().map(|request| request.json().to_string()).collect();
    assert!(asked.contains(SIGNED_IN) && !asked.contains("canary-"));
    scene.end(vec![server]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_renewed_when_they_are_over_and_when_they_are_refused() {
    let Some(scene) = Scene::start(calls(&[WHOAMI, "mcp__docs__forget_access", WHOAMI])).await else { return };
    let server = scene.server("node_a").await;
    scene.oauth.control(json!({"seconds": 2})).await;
    scene.sign_in().await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    scene.oauth.control(json!({"seconds": 3600})).await;

    // Over by the clock before the run; refused within it, on a connection that is there: the call is done once.
    scene.run().await;
    let calls = scene.world.finished_calls().await;
    let results: Vec<_> = calls.iter().map(|call| call.result.as_ref().expect("is finished").text.as_str()).collect();
    assert_eq!(results, [SIGNED_IN, "forgotten", SIGNED_IN]);
    let counts = scene.oauth.control(json!({})).await;
    assert_eq!(counts, json!({"registered": 1, "exchanged": 1, "refreshed": 2, "called": 2, "elsewhere": 0}));

    // What is taken back there is asked for anew, and dropped here.
    scene.oauth.control(json!({"revoke": true})).await;
    assert!(scene.is_signed_in().await);
    scene.run().await;
    let result = scene.result().await;
    assert!(address_in(&result).is_some(), "{result}");
    assert!(!scene.is_signed_in().await);
    assert_eq!(scene.oauth.count("called").await, 2);
    scene.end(vec![server]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_is_named_is_used_with_its_secret_or_without() {
    let Some(mut scene) = Scene::start(calls(&[WHOAMI])).await else { return };
    let server = scene.server("node_a").await;
    for (method, secret) in [("client_secret_basic", Some("canary-client")), ("none", None)] {
        let client = json!({
            "client_id": method, "client_secret": secret, "redirect_uris": [options().redirect_uri], "scope": "read",
            "token_endpoint_auth_method": method, "grant_types": ["authorization_code", "refresh_token"],
        });
        scene.oauth.control(json!({"client": client, "seconds": 2})).await;
        let url = format!("{}/mcp", scene.oauth.base);
        let mut named = json!({"type": "http", "name": "docs", "url": url, "clientId": method});
        if let Some(secret) = secret {
            named["clientSecret"] = secret.into();
        }
        scene.environment = name_servers(&scene.world, &scene.environment.id, vec![named]).await;
        scene.sign_in().await;
        tokio::time::sleep(Duration::from_secs(3)).await;
        scene.oauth.control(json!({"seconds": 3600})).await;
        scene.run().await;
        assert_eq!(scene.result().await, SIGNED_IN, "{method}");
    }
    let counts = scene.oauth.control(json!({})).await;
    assert_eq!(counts, json!({"registered": 0, "exchanged": 2, "refreshed": 2, "called": 2, "elsewhere": 0}));
    scene.end(vec![server]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_back_with_a_state_of_another_or_twice_or_from_elsewhere_is_refused() {
    let Some(scene) = Scene::start(calls(&[])).await else { return };
    let sign_ins = &scene.sign_ins;
    let begin = async |environment: &Environment| {
        open(sign_ins.begin(environment, "docs").await.expect("begins").as_str()).await
    };
    let finish = async |state: &str, code: &str, issuer: Option<&str>| sign_ins.finish(state, code, issuer).await;

    let first = begin(&scene.environment).await;
    assert!(finish("guessed", &first.code, first.issuer.as_deref()).await.is_err());

    // Another authorization server; the state is used up all the same.
    assert!(finish(&first.state, &first.code, Some("https://evil.example")).await.is_err());
    assert!(finish(&first.state, &first.code, first.issuer.as_deref()).await.is_err());

    // A code that somebody got for another environment.
    let store = scene.world.store();
    let new =
        NewEnvironment { name: "other".into(), settings: Default::default(), secrets: Vec::new(), is_default: false };
    let other = store.create_environment(&scene.world.database.project, new).await.expect("an environment");
    let other = reach(&scene.world, &other.id, &format!("{}/mcp", scene.oauth.base)).await;
    let (mine, theirs) = (begin(&scene.environment).await, begin(&other).await);
    assert!(finish(&theirs.state, &mine.code, mine.issuer.as_deref()).await.is_err());
    assert!(store.find_mcp_signed_in(&other.id, "docs").await.expect("reads").is_none());
    assert_eq!(scene.oauth.count("exchanged").await, 0);

    // The right one, and once.
    assert_eq!(finish(&mine.state, &mine.code, mine.issuer.as_deref()).await, Ok("docs".to_owned()));
    assert!(finish(&mine.state, &mine.code, mine.issuer.as_deref()).await.is_err());
    assert!(store.find_mcp_signed_in(&other.id, "docs").await.expect("reads").is_none());

    // Too late.
    let late = begin(&scene.environment).await;
    let pool = scene.world.database.pool().await;
    sqlx::query("update mcp_sign_ins set expires_at = now()").execute(&pool).await.expect("writes");
    assert!(finish(&late.state, &late.code, late.issuer.as_deref()).await.is_err());
    assert_eq!(scene.oauth.count("exchanged").await, 1);
    scene.end(Vec::new()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_the_server_names_is_reached_on_a_private_network() {
    let Some(scene) = Scene::start(calls(&[])).await else { return };
    let elsewhere = scene.oauth.base.replace("127.0.0.1", "127.0.0.2") + "/elsewhere";
    assert!(client().get(&elsewhere).send().await.expect("answers").status().is_success());

    // 127.0.0.1 is allowed here, 127.0.0.2 is not, and no token is sent on.
    for target in [elsewhere, format!("{}/elsewhere", scene.oauth.base)] {
        let address = scene.sign_ins.begin(&scene.environment, "docs").await.expect("begins");
        let Back { state, code, issuer } = open(address.as_str()).await;
        scene.oauth.control(json!({"token_redirect": target})).await;
        assert!(scene.sign_ins.finish(&state, &code, issuer.as_deref()).await.is_err());
        assert!(!scene.is_signed_in().await);
    }
    assert_eq!(scene.oauth.count("elsewhere").await, 1);

    // Where nothing is allowed, nothing is even begun.
    let web = web::Client::new(Vec::new()).expect("a client");
    let strict = SignIns::new(scene.world.store().clone(), web, &Options::default());
    let refused = strict.begin(&scene.environment, "docs").await.expect_err("is refused");
    assert!(refused.contains("is not on the public internet"), "{refused}");
    scene.end(Vec::new()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_servers_that_need_a_new_token_at_once_one_renews_it() {
    let Some(scene) = Scene::start(calls(&[WHOAMI])).await else { return };
    let servers = vec![scene.server("node_a").await, scene.server("node_b").await];
    scene.oauth.control(json!({"seconds": 2})).await;
    scene.sign_in().await;
    // Each can drive one run at a time; what the server has is known from here on.
    scene.run().await;
    scene.oauth.control(json!({"seconds": 3600, "holds_renewals": true})).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let before = scene.oauth.control(json!({})).await;

    let other = scene.world.new_thread().await;
    let new = NewRun { messages: vec!["go".into()], options: RunOptions::default(), ..NewRun::default() };
    let store = scene.world.store();
    let first = scene.world.send("go").await;
    let second = store.start_run(&scene.world.database.project, &other, new).await.expect("a run");
    // Both are at work before either has a token.
    let pool = scene.world.database.pool().await;
    let deadline = tokio::time::Instant::now() + Duration::from_secs(15);
    let at_work = "select count(*) from runs where started_at is not null and completed_at is null";
    while sqlx::query_scalar::<_, i64>(at_work).fetch_one(&pool).await.expect("reads") < 2 {
        assert!(tokio::time::Instant::now() < deadline, "the servers take one run each");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    scene.oauth.control(json!({"holds_renewals": false})).await;
    scene.end_of(&first).await;
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    let second_result = loop {
        let events = store.list_events(&other, 0, None, 10_000).await.expect("reads");
        let has_ended = |event: &domain::event::Recorded| {
            matches!(&event.event, Event::RunFinished { .. }) && event.run_id.as_ref() == Some(&second.run_id)
        };
        if events.iter().any(has_ended) {
            break format!("{events:?}");
        }
        assert!(tokio::time::Instant::now() < deadline, "not within a minute: {events:#?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!(scene.result().await, SIGNED_IN);
    assert!(second_result.contains(SIGNED_IN), "{second_result}");
    let after = scene.oauth.control(json!({})).await;
    let more = |what: &str| after[what].as_u64().expect("counts") - before[what].as_u64().expect("counts");
    assert_eq!((more("refreshed"), more("called"), more("exchanged")), (1, 2, 0));
    println!("renewals by two servers at once: {}", more("refreshed"));
    scene.end(servers).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sign_in_is_forgotten_when_somebody_says_so_and_with_the_address_and_the_environment() {
    let Some(scene) = Scene::start(calls(&[WHOAMI])).await else { return };
    let server = scene.server("node_a").await;
    let (store, id) = (scene.world.store(), &scene.environment.id);
    scene.sign_in().await;
    scene.run().await;
    assert_eq!(scene.result().await, SIGNED_IN);

    // With what was begun.
    let address = scene.sign_ins.begin(&scene.environment, "docs").await.expect("begins");
    let Back { state, code, issuer } = open(address.as_str()).await;
    assert!(store.forget_mcp_tokens(id, "docs").await.expect("writes"));
    assert!(!store.forget_mcp_tokens(id, "docs").await.expect("writes"));
    assert!(scene.sign_ins.finish(&state, &code, issuer.as_deref()).await.is_err());
    scene.run().await;
    let result = scene.result().await;
    assert!(address_in(&result).is_some(), "{result}");

    // A change of something else keeps it, another address does not.
    scene.sign_in().await;
    let rename = |environment: &mut Environment| {
        environment.name = "renamed".into();
        Ok::<_, store::Error>(())
    };
    store.update_environment(&scene.world.database.project, id, None, rename).await.expect("changes");
    assert!(scene.is_signed_in().await);
    reach(&scene.world, id, "https://mcp.example.com/").await;
    assert!(!scene.is_signed_in().await);

    reach(&scene.world, id, &format!("{}/mcp", scene.oauth.base)).await;
    scene.sign_in().await;
    store.delete_environment(&scene.world.database.project, id, false).await.expect("deletes");
    let pool = scene.world.database.pool().await;
    let left: i64 =
        sqlx::query_scalar("select (select count(*) from mcp_tokens) + (select count(*) from mcp_sign_ins)")
            .fetch_one(&pool)
            .await
            .expect("reads");
    assert_eq!(left, 0);
    scene.end(vec![server]).await;
}
