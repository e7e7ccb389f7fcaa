//! MCP servers in runs: real ones from the registries, and one that does what servers must not.

use std::{
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use domain::{
    RunId,
    event::{Detail, Event, Item, Recorded},
    run::{Outcome, RunOptions},
};
use scripted_claude::{Asked, Block, Reply};
use serde_json::{Value, json};

use crate::world::{Server, World};

fn in_home(command: &str) -> Value {
    json!(["-c", format!("cd ~ && exec {command}")])
}

/// The odd server. It is in the home directory, so that nothing of it is in the workspace.
pub(crate) fn odd() -> Value {
    json!({"type": "stdio", "name": "odd", "command": "bash", "args": in_home("python3 odd_server.py")})
}

fn node(name: &str, package: &str, arguments: &str) -> Value {
    let command = format!("node node_modules/@modelcontextprotocol/{package}/dist/index.js {arguments}");
    json!({"type": "stdio", "name": name, "command": "bash", "args": in_home(&command)})
}

fn python(name: &str, module: &str) -> Value {
    let command = format!("env PYTHONPATH=site python3 -m {module}");
    json!({"type": "stdio", "name": name, "command": "bash", "args": in_home(&command)})
}

fn with(servers: &[Value]) -> RunOptions {
    let stored = json!({"mcpServers": servers});
    RunOptions { stored: stored.as_object().cloned().expect("an object"), ..RunOptions::default() }
}

/// Gives the home directory of the world's container on the host, made if it is not there.
fn home(world: &World) -> PathBuf {
    let home = world.path("").parent().expect("a workspace has a parent").join("home");
    std::fs::create_dir_all(&home).expect("makes a directory");
    home
}

pub(crate) async fn world(answer: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> World {
    let world = World::new(answer).await;
    world.warm_up().await;
    std::fs::write(home(&world).join("odd_server.py"), include_str!("mcp/odd_server.py")).expect("writes");
    world
}

/// Puts real servers into the world's home directory; false when there are none to be had.
fn install(world: &World) -> bool {
    let Some(from) = testing::mcp_servers() else { return false };
    for part in ["node_modules", "site"] {
        let status = Command::new("cp").arg("-a").arg(from.join(part)).arg(home(world)).status();
        assert!(status.expect("cp runs").success());
    }
    true
}

async fn ask(world: &World, content: &str, servers: &[Value]) -> (RunId, Outcome) {
    let started = world.send_with(content, with(servers)).await;
    let outcome = world.outcome(&started.run_id).await;
    (started.run_id, outcome)
}

/// Counts the processes of the world's container whose command line holds `text`.
fn count(world: &World, text: &str) -> usize {
    let listed = Command::new("docker")
        .args(["ps", "-q", "--filter", &format!("label=atelier.environment={}", world.environment)])
        .output()
        .expect("docker runs");
    let container = String::from_utf8_lossy(&listed.stdout).trim().to_owned();
    let top = Command::new("docker").args(["top", &container, "-eo", "pid,args"]).output().expect("docker runs");
    String::from_utf8_lossy(&top.stdout).lines().filter(|line| line.contains(text)).count()
}

async fn none_left(world: &World, text: &str) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while count(world, text) > 0 {
        assert!(Instant::now() < deadline, "{text} is left");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn some_run(world: &World, text: &str) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while count(world, text) == 0 {
        assert!(Instant::now() < deadline, "{text} does not run");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Waits until a run has begun the call that never ends: a server killed before that would let the next one begin it.
async fn hangs(world: &World, run: &RunId) {
    let begun = |event: &Recorded| {
        matches!(&event.event, Event::ItemStarted { item: Item::ToolCall(call) } if call.name == "mcp__odd__hang")
            && event.run_id.as_ref() == Some(run)
    };
    world.wait_for(|events| events.iter().any(begun).then_some(())).await;
}

fn tools_of(request: &Value) -> Value {
    let all = request["tools"].as_array().cloned().unwrap_or_default();
    all.into_iter().filter(|tool| tool["name"].as_str().is_some_and(|name| name.starts_with("mcp__"))).collect()
}

/// Calls one tool after another, then ends.
fn one_by_one(calls: Vec<(&'static str, Value)>) -> impl Fn(&Asked) -> Reply + Send + Sync + 'static {
    move |asked| match calls.get(asked.round) {
        Some((name, input)) => Reply::tool(name, input.clone()),
        None => Reply::text("done"),
    }
}

pub(crate) async fn end(world: World, server: Server) {
    server.stop_soft().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_serves_a_run_and_is_gone_with_it_and_a_later_run_knows_it() {
    let world = world(|asked| match (asked.user_text.as_str(), asked.round) {
        ("call", 0) => Reply::tool("mcp__odd__spawn", json!({"b": 1, "a": "x"})),
        _ => Reply::text("done"),
    })
    .await;
    let server = world.server("node_a").await;
    assert_eq!(ask(&world, "call", &[odd()]).await.1, Outcome::Completed { content: "done".into() });
    let calls = world.finished_calls().await;
    let result = calls[0].result.as_ref().expect("has a result");
    assert_eq!(result.text, r#"called spawn with {"a": "x", "b": 1}"#);
    assert!(
        matches!(&result.detail, Some(Detail::Mcp { server, tool, error: None, .. }) if server == "odd" && tool == "spawn")
    );
    none_left(&world, "odd_server.py").await;
    none_left(&world, "sleep 907").await;

    // The second run offers the same tools, byte for byte, and does not start the server: it calls none.
    assert_eq!(ask(&world, "look", &[odd()]).await.1, Outcome::Completed { content: "done".into() });
    let requests: Vec<_> = world.claude.requests().iter().map(|request| tools_of(&request.json())).collect();
    assert_eq!(requests.len(), 3);
    assert!(requests[0].as_array().is_some_and(|tools| tools.len() == 12), "{:#}", requests[0]);
    let bytes: std::collections::BTreeSet<_> = requests.iter().map(Value::to_string).collect();
    assert_eq!(bytes.len(), 1);
    assert_eq!(world.logged("mcp_log").await, Vec::<String>::new());
    println!(r#"{{"test":"mcp_orphans","n":2,"left":0,"pass":true}}"#);
    end(world, server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_are_told_apart_and_never_taken_for_ours() {
    let world = world(|asked| {
        let odd: Vec<_> = asked.tools.iter().filter(|name| name.starts_with("mcp__odd__")).collect();
        match odd.get(asked.round) {
            Some(name) if !["die", "flood", "hang", "change", "spawn"].iter().any(|bad| name.ends_with(bad)) => {
                Reply::tool(name, json!({}))
            }
            Some(_) => Reply::tool("TodoWrite", json!({"todos": []})),
            None => Reply::text("done"),
        }
    })
    .await;
    let server = world.server("node_a").await;
    ask(&world, "go", &[odd()]).await;
    let said: std::collections::BTreeSet<_> = world
        .finished_calls()
        .await
        .into_iter()
        .filter(|call| call.name.starts_with("mcp__"))
        .map(|call| call.result.expect("ended").text)
        .collect();
    let expected = ["Bash", "odd name/é.x", &"x".repeat(120), "a.b", "a_b", "untyped"];
    for name in expected {
        assert!(said.contains(&format!("called {name} with {{}}")), "{name}: {said:#?}");
    }
    end(world, server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_dies_floods_or_hangs_is_a_result_and_no_end() {
    let calls = ["die", "env", "flood", "env", "hang", "env", "die", "die", "die"];
    let names = calls.map(|name| format!("mcp__odd__{name}"));
    let world = world(move |asked| match names.get(asked.round) {
        Some(name) => Reply::tool(name, json!({})),
        None => Reply::text("done"),
    })
    .await;
    let server =
        world.server_with("node_a", |options| options.mcp.connection.call_timeout = Duration::from_secs(3)).await;
    let mut odd = odd();
    odd["env"] = json!({"ODD_VALUE": "alive", "ODD_TOKEN": "canary-hunter2"});
    assert_eq!(ask(&world, "go", &[odd]).await.1, Outcome::Completed { content: "done".into() });
    let said: Vec<_> = world.finished_calls().await.into_iter().map(|call| call.result.expect("ended")).collect();
    let texts: Vec<_> = said.iter().map(|result| result.text.as_str()).collect();
    assert!(texts[0].contains("ended with code 3") && texts[0].contains("odd: giving up"), "{}", texts[0]);
    assert_eq!((texts[1], texts[3], texts[5]), ("alive", "alive", "alive"));
    assert!(texts[2].contains("more than 8388608 bytes"), "{}", texts[2]);
    assert!(texts[4].contains("did not answer within"), "{}", texts[4]);
    assert!(said.iter().step_by(2).all(|result| result.is_error));
    // The first start and three more: then it is not started again.
    assert!(texts[8].contains("is not started again"), "{}", texts[8]);
    none_left(&world, "odd_server.py").await;
    end(world, server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_a_server_is_left_after_a_cancel_or_a_crash() {
    let world = world(|asked| match (asked.user_text.as_str(), asked.round) {
        ("hang", 0) => Reply::tool("mcp__odd__spawn", json!({})),
        ("hang", 1) => Reply::tool("mcp__odd__hang", json!({})),
        _ => Reply::text("done"),
    })
    .await;
    let server = world.server("node_a").await;
    let started = world.send_with("hang", with(&[odd()])).await;
    hangs(&world, &started.run_id).await;
    some_run(&world, "sleep 907").await;
    world.store().cancel_active_run(&world.database.project, &world.thread).await.expect("asks");
    assert_eq!(world.outcome(&started.run_id).await, Outcome::Cancelled);
    none_left(&world, "odd_server.py").await;
    none_left(&world, "sleep 907").await;

    let started = world.send_with("hang", with(&[odd()])).await;
    hangs(&world, &started.run_id).await;
    some_run(&world, "sleep 907").await;
    server.kill();
    none_left(&world, "odd_server.py").await;
    none_left(&world, "sleep 907").await;
    let server = world.server("node_a").await;
    assert!(matches!(world.outcome(&started.run_id).await, Outcome::Completed { .. }));
    end(world, server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn changed_tools_are_offered_with_the_next_turn_though_thinking_is_bound_to_the_old_ones() {
    let world = world(|asked| match asked.round {
        0 => {
            let thinking = Block::Thinking { thinking: "It may change.".into() };
            Reply { blocks: vec![thinking, Block::tool("mcp__odd__change", json!({}))], ..Reply::default() }
        }
        n if n < 20 && !asked.tools.iter().any(|name| name == "mcp__odd__new_tool") => {
            Reply::tool("Bash", json!({"command": "sleep 0.05"}))
        }
        _ if asked.results.iter().all(|result| !result.text.contains("new_tool")) => {
            Reply::tool("mcp__odd__new_tool", json!({}))
        }
        _ => Reply::text("done"),
    })
    .await;
    let server = world.server("node_a").await;
    assert_eq!(ask(&world, "go", &[odd()]).await.1, Outcome::Completed { content: "done".into() });
    let calls = world.finished_calls().await;
    let of_new = calls.iter().find(|call| call.name == "mcp__odd__new_tool").expect("was called");
    assert_eq!(of_new.result.as_ref().expect("ended").text, "called new_tool with {}");
    assert!(world.logged("mcp_log").await.iter().any(|text| text.contains("has other tools than before")));
    // A run without the server is another change, and goes on all the same.
    assert!(matches!(world.ask("and now?").await, Outcome::Completed { .. }));
    end(world, server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_cannot_be_used_is_told_and_the_others_work() {
    let world = world(one_by_one(vec![("mcp__odd__env", json!({}))])).await;
    let server = world.server("node_a").await;
    let servers = [
        odd(),
        json!({"type": "stdio", "name": "missing", "command": "no-such-program"}),
        json!({"type": "stdio", "name": "unset", "command": "${NOT_SET}"}),
        json!({"type": "stdio", "name": "silly", "command": "true"}),
        json!({"type": "stdio", "name": "off", "command": "no-such-program", "enabled": false}),
        json!({"type": "http", "name": "away", "url": "https://example.com/mcp"}),
    ];
    assert!(matches!(ask(&world, "go", &servers).await.1, Outcome::Completed { .. }));
    let logged = world.logged("mcp_log").await.join("\n");
    for (name, why) in [
        ("missing", "no program no-such-program"),
        ("unset", "the variable NOT_SET is not set"),
        ("silly", "cannot be used now"),
        ("away", "no internet access"),
    ] {
        assert!(logged.lines().any(|line| line.contains(name) && line.contains(why)), "{name}: {logged}");
    }
    assert!(!logged.contains("\"off\""));
    end(world, server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_about_a_server_hold_for_its_tools() {
    let world = world(one_by_one(vec![("mcp__odd__env", json!({})), ("mcp__odd__spawn", json!({}))])).await;
    let server = world.server("node_a").await;
    let mut options = with(&[odd()]);
    options.stored.insert("permissionSet".into(), json!({"rules": {"deny": ["mcp__odd__spawn"]}}));
    let started = world.send_with("go", options).await;
    world.outcome(&started.run_id).await;
    let calls = world.finished_calls().await;
    let errors: Vec<_> = calls.iter().map(|call| call.result.as_ref().is_some_and(|result| result.is_error)).collect();
    assert_eq!(errors, [false, true]);
    assert_eq!(count(&world, "sleep 907"), 0);
    end(world, server).await;
}

/// What `server-everything` is asked with, by its name for each tool, and what is to be in the answer.
const EVERYTHING: [(&str, &str, &str); 13] = [
    ("echo", r#"{"message": "hello"}"#, "hello"),
    ("get-annotated-message", r#"{"messageType": "error", "includeImage": true}"#, "PNG image"),
    ("get-env", "{}", "PATH"),
    ("get-resource-links", r#"{"count": 2}"#, "demo://resource"),
    ("get-resource-reference", r#"{"resourceType": "Text", "resourceId": 1}"#, "demo://resource"),
    ("get-structured-content", r#"{"location": "Chicago"}"#, "temperature"),
    ("get-sum", r#"{"a": 2, "b": 3}"#, "5"),
    ("get-tiny-image", "{}", "PNG image"),
    (
        "gzip-file-as-resource",
        r#"{"name": "x.gz", "data": "data:text/plain;base64,aGVsbG8=", "outputType": "resource"}"#,
        "gz",
    ),
    ("toggle-simulated-logging", "{}", "ogging"),
    ("toggle-subscriber-updates", "{}", "pdates"),
    ("trigger-long-running-operation", r#"{"duration": 0.5, "steps": 2}"#, "completed"),
    ("simulate-research-query", r#"{"topic": "x"}"#, ""),
];

/// Calls every tool that the server `all` offers, each once.
fn everything(asked: &Asked) -> Reply {
    let tools: Vec<_> = asked.tools.iter().filter(|name| name.starts_with("mcp__all__")).collect();
    match tools.get(asked.round) {
        Some(name) => {
            let input = EVERYTHING.iter().find(|(tool, ..)| name.ends_with(&format!("__{tool}")));
            let input = input.map_or("{}", |(_, input, _)| input);
            Reply::tool(name, serde_json::from_str(input).expect("JSON"))
        }
        None => Reply::text("done"),
    }
}

/// Asserts what came of [`everything`], and gives how many tools were called.
async fn all_were_called(world: &World) -> usize {
    let calls = world.finished_calls().await;
    let request = world.claude.requests()[0].json();
    let offered: Vec<_> =
        tools_of(&request).as_array().expect("a list").iter().map(|tool| tool["name"].clone()).collect();
    let called: Vec<_> = calls.iter().map(|call| Value::from(call.name.clone())).collect();
    assert_eq!(called, offered);
    for (tool, _, expected) in EVERYTHING {
        let Some(call) = calls.iter().find(|call| call.name == format!("mcp__all__{tool}")) else { continue };
        let result = call.result.as_ref().expect("ended");
        assert!(result.text.contains(expected), "{tool}: {}", result.text);
    }
    for tool in ["resources", "prompts"] {
        let call = calls.iter().find(|call| call.name == format!("mcp__all__{tool}")).expect("is offered");
        let result = call.result.as_ref().expect("ended");
        assert!(!result.is_error && result.text.len() > 50, "{tool}: {}", result.text);
    }
    calls.len()
}

/// How long interpreters may take to start on a machine that does something else as well.
const PATIENCE: Duration = Duration::from_secs(180);

async fn patient(world: &World) -> Server {
    let wait = |options: &mut executor::Options| {
        options.mcp.first_wait = PATIENCE;
        options.mcp.connection.connect_timeout = PATIENCE;
    };
    world.server_with("node_a", wait).await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_tool_of_server_everything_is_called_in_the_container() {
    let world = world(everything).await;
    if !install(&world) {
        return world.end().await;
    }
    let server = patient(&world).await;
    let servers = [node("all", "server-everything", "stdio")];
    assert_eq!(ask(&world, "go", &servers).await.1, Outcome::Completed { content: "done".into() });
    let called = all_were_called(&world).await;
    assert!(called >= 13, "{called} tools");
    none_left(&world, "server-everything").await;
    println!(r#"{{"test":"mcp_everything_stdio","n":{called},"pass":true}}"#);
    end(world, server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_of_both_registries_work_side_by_side() {
    let world = world(one_by_one(vec![
        ("mcp__fs__write_file", json!({"path": "/workspace/a.txt", "content": "by a server"})),
        ("mcp__fs__read_text_file", json!({"path": "/workspace/a.txt"})),
        (
            "mcp__memory__create_entities",
            json!({"entities": [{"name": "Ada", "entityType": "p", "observations": ["x"]}]}),
        ),
        ("mcp__memory__read_graph", json!({})),
        ("Bash", json!({"command": "git init -q /workspace/repo"})),
        ("mcp__git__git_status", json!({"repo_path": "/workspace/repo"})),
        ("mcp__fetch__fetch", json!({"url": "http://127.0.0.1:1/"})),
    ]))
    .await;
    if !install(&world) {
        return world.end().await;
    }
    let server = patient(&world).await;
    let servers = [
        node("fs", "server-filesystem", "/workspace"),
        node("memory", "server-memory", ""),
        python("git", "mcp_server_git"),
        python("fetch", "mcp_server_fetch --ignore-robots-txt"),
    ];
    assert_eq!(ask(&world, "go", &servers).await.1, Outcome::Completed { content: "done".into() });
    let said: Vec<_> = world.finished_calls().await.into_iter().map(|call| call.result.expect("ended").text).collect();
    let logged = world.logged("mcp_log").await;
    assert_eq!(world.file("a.txt").as_deref(), Some("by a server"), "{said:#?} {logged:#?}");
    assert!(said[1].contains("by a server"), "{said:#?}");
    assert!(said[3].contains("Ada"), "{said:#?}");
    assert!(said[5].contains("No commits yet"), "{said:#?}");
    assert!(said[6].contains("127.0.0.1"), "{said:#?} {logged:#?}");
    for process in ["server-filesystem", "server-memory", "mcp_server_git", "mcp_server_fetch"] {
        none_left(&world, process).await;
    }
    // What a server wrote is in the history, as what a shell wrote would be.
    let steps =
        world.store().list_steps(&world.database.project, &world.thread, store::Page::ALL).await.expect("reads");
    assert!(steps.items.iter().any(|step| step.change.title.starts_with("mcp__fs__write_file")));
    end(world, server).await;
}

/// A server on this host; killed with this.
struct OnHost(Child);

impl Drop for OnHost {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn start_on_host(way: &str) -> Option<(OnHost, u16)> {
    let from = testing::mcp_servers()?;
    let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port").port();
    let child = Command::new("node")
        .arg(from.join("node_modules/@modelcontextprotocol/server-everything/dist/index.js"))
        .arg(way)
        .env("PORT", port.to_string())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    // Where there is no Node.js on this host, there is none to try.
    let server = OnHost(child.ok()?);
    let deadline = Instant::now() + Duration::from_secs(30);
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(Instant::now() < deadline, "server-everything does not listen");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Some((server, port))
}

async fn with_internet(world: &World) {
    let change = |environment: &mut domain::environment::Environment| {
        environment.settings.internet_access = true;
        Ok::<_, store::Error>(())
    };
    world.store().update_environment(&world.database.project, &world.environment, None, change).await.expect("changes");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_tool_of_server_everything_is_called_over_http_and_over_events() {
    for (way, server) in [
        ("streamableHttp", json!({"type": "http", "name": "all", "url": "http://127.0.0.1:${PORT}/mcp"})),
        ("sse", json!({"type": "sse", "name": "all", "url": "http://127.0.0.1:${PORT}/sse"})),
        // Told that it is the newer way, it is found to be the older.
        ("sse", json!({"type": "http", "name": "all", "url": "http://127.0.0.1:${PORT}/sse"})),
    ] {
        let world = World::new(everything).await;
        with_internet(&world).await;
        let Some((on_host, port)) = start_on_host(way).await else { return world.end().await };
        let running = world
            .server_with("node_a", |options| options.mcp.allowed = vec!["127.0.0.1".parse().expect("an address")])
            .await;
        let mut options = with(&[server]);
        options.environment_variables.insert("PORT".into(), port.to_string());
        let started = world.send_with("go", options).await;
        assert!(matches!(world.outcome(&started.run_id).await, Outcome::Completed { .. }));
        let called = all_were_called(&world).await;
        assert!(called >= 13, "{called} tools: {:?}", world.logged("mcp_log").await);
        println!(r#"{{"test":"mcp_everything_{way}","n":{called},"pass":true}}"#);
        drop(on_host);
        end(world, running).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_on_private_addresses_are_not_reached() {
    let canary = std::net::TcpListener::bind("127.0.0.1:0").expect("listens");
    canary.set_nonblocking(true).expect("can be asked");
    let port = canary.local_addr().expect("has an address").port();
    let hosts = [
        "127.0.0.1",
        "localhost",
        "[::1]",
        "0.0.0.0",
        "127.1",
        "2130706433",
        "0x7f.1",
        "[::ffff:127.0.0.1]",
        "169.254.169.254",
        "10.0.0.1",
        "192.168.0.1",
        "172.16.0.1",
        "100.100.100.200",
        "[fd00:ec2::254]",
        "017700000001",
    ];
    let world = World::new(|_| Reply::text("done")).await;
    with_internet(&world).await;
    let server = world.server("node_a").await;
    let mut servers = Vec::new();
    for (n, host) in hosts.iter().enumerate() {
        for kind in ["http", "sse"] {
            let url = format!("http://{host}:{port}/mcp");
            servers.push(json!({"type": kind, "name": format!("{kind}{n}"), "url": url}));
        }
    }
    assert!(matches!(ask(&world, "go", &servers).await.1, Outcome::Completed { .. }));
    let refused = world.logged("mcp_log").await;
    let refused = refused.iter().filter(|text| text.contains("is not on the public internet")).count();
    assert_eq!(refused, servers.len());
    assert!(canary.accept().is_err(), "somebody connected");
    println!(r#"{{"test":"S4_mcp","n":{},"hits":0,"pass":true}}"#, servers.len());
    end(world, server).await;
}
