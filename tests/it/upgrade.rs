//! What an earlier version kept is there after an upgrade, and goes on.
//!
//! `fixtures/` holds a backup for each version that an installation may come from, and beside it what that version's API
//! said of everything. A new one is made by that version's program:
//!
//! ```sh
//! ATELIER_BIN=old/atelier ATELIER_TEST_FIXTURE=tests/fixtures/NAME cargo test -p system-tests --test it -- --ignored makes_a_fixture
//! ```

use std::{fs, path::Path, time::Duration};

use scripted_claude::Reply;
use serde_json::{Map, Value, json};
use system_tests::World;
use testing::Report;

/// What follows from the moment or from the version, and is not kept.
const NOT_KEPT: [&str; 3] = [".environment.status", ".enforcement", ".trigger.webhookUrl"];

/// What the database was filled with, by path.
const SEEN: &str = "seen.json";

#[tokio::test(flavor = "multi_thread")]
#[ignore = "makes what the other test reads, with the program of an earlier version"]
async fn makes_a_fixture() {
    let into =
        std::env::var("ATELIER_TEST_FIXTURE").expect("ATELIER_TEST_FIXTURE names a directory that is to be made");
    let into = Path::new(&into);
    fs::create_dir(into).expect("the directory is made");
    let world = World::start().await;
    let id = |made: &Value, name: &str| made[name]["id"].as_str().expect("an id").to_owned();
    let body = json!({
        "name": "kept", "internetAccess": false, "secrets": [{"key": "TOKEN", "value": "a-secret-value"}],
        "environmentVariables": [{"key": "PLAIN", "value": "seen"}],
        "mcpServers": [{"type": "http", "name": "docs", "url": "https://mcp.example.com/mcp", "bearerToken": "a-token"}],
    });
    let environment = id(&world.post("/v1/environments", body).await, "environment");
    let skill = json!({"name": "Greeter", "description": "Greets.", "markdown": "Say hello."});
    let skill = id(&world.post("/v1/skills", skill).await, "skill");
    let agent = json!({
        "name": "Reviewer", "model": "claude-sonnet-4-5", "instructions": "Be brief.", "enabledSkills": [skill],
        "maxCost": 2.5,
    });
    let agent = id(&world.post("/v1/agents", agent).await, "agent");
    let body = json!({"environmentId": environment, "agentId": agent, "title": "Kept", "metadata": {"a": [1, null]}});
    let thread = id(&world.post("/v1/threads", body).await, "thread");
    world.bash(&thread, "mkdir -p src && echo one > src/file; ln -s src/file link; chmod 750 src/file").await;
    world.bash(&thread, "echo two >> src/file; printf %s \"$TOKEN\" | sha256sum > ~/sum").await;
    world.run(&thread, &[Reply::text("It is done.")]).await;
    let schedule = json!({
        "name": "Daily", "agentId": agent, "agentName": "Reviewer", "environmentId": environment, "task": "Look",
        "scheduleType": "recurring", "cronExpression": "0 9 * * MON-FRI", "timezone": "Europe/Berlin", "enabled": false,
    });
    let schedule = id(&world.post("/v1/schedules", schedule).await, "schedule");
    let trigger = json!({
        "name": "On push", "environmentId": environment, "source": "github", "event": "push",
        "action": {"type": "send_message", "message": "New: {{event.payload.ref}}"}, "filters": {"branch": "main"},
    });
    let trigger = id(&world.post("/v1/triggers", trigger).await, "trigger");

    let mut seen = Map::new();
    let threads = ["", "/messages", "/steps", "/runs", "/events?limit=1000", "/logs"];
    let of_thread = threads.iter().map(|rest| format!("/v1/threads/{thread}{rest}"));
    let others = [
        format!("/v1/agents/{agent}"),
        format!("/v1/environments/{environment}"),
        format!("/v1/skills/{skill}"),
        format!("/v1/schedules/{schedule}"),
        format!("/v1/triggers/{trigger}"),
        // Of all time: another time would be another one tomorrow.
        "/v1/costs/summary?period=all".to_owned(),
    ];
    for path in of_thread.chain(others) {
        let body = world.get(&path).await;
        seen.insert(path, body);
    }
    let seen = json!({"key": world.key, "thread": thread, "environment": environment, "seen": seen});
    fs::write(into.join(SEEN), format!("{seen:#}\n")).expect("is written");
    let output = world.atelier(&["backup"]).arg(into.join("backup")).output().expect("atelier runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_earlier_version_kept_is_there_and_goes_on() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    // Values of the API's answers that were compared.
    let mut report = Report::new("upgrade");
    for fixture in fs::read_dir(fixtures).expect("the directory is there") {
        let fixture = fixture.expect("is readable").path();
        let seen = fs::read_to_string(fixture.join(SEEN)).expect("a fixture says what was seen");
        let seen: Value = serde_json::from_str(&seen).expect("it is JSON");
        let text = |name: &str| seen[name].as_str().expect("a text");
        let world = World::restored(&fixture.join("backup"), text("key")).await;
        for (path, before) in seen["seen"].as_object().expect("by path") {
            report.n += assert_kept(path, before, &world.get(path).await);
        }
        let (thread, environment) = (text("thread"), text("environment"));
        assert_eq!(world.file(environment, "src/file").await.as_deref(), Some("one\ntwo\n"));
        // The secret too: the command has it, and it is the one of then.
        let command =
            "stat -c '%a %N' src/file link; printf %s \"$TOKEN\" | sha256sum | cmp - ~/sum && echo \"$PLAIN\"";
        let said = "750 'src/file'\n777 'link' -> 'src/file'\nseen";
        assert_eq!(world.bash(thread, command).await, (said.to_owned(), false));
        let steps = world.get(&format!("/v1/threads/{thread}/steps")).await;
        assert_eq!(world.settled(thread, Duration::from_secs(60)).await.0, "completed", "{steps:#}");
        world.finish().await;
    }
    report.finish();
}

/// Asserts that everything which was there before still is, and counts it. There may be more.
fn assert_kept(at: &str, before: &Value, now: &Value) -> usize {
    match (before, now) {
        (Value::Object(before), Value::Object(now)) => before
            .iter()
            .map(|(name, value)| (format!("{at}.{name}"), value, now.get(name)))
            .filter(|(at, _, _)| !NOT_KEPT.iter().any(|not_kept| at.ends_with(not_kept)))
            .map(|(at, before, now)| assert_kept(&at, before, now.unwrap_or_else(|| panic!("{at} is gone"))))
            .sum(),
        (Value::Array(before), Value::Array(now)) => {
            assert_eq!(before.len(), now.len(), "{at}: {now:#?}");
            before
                .iter()
                .zip(now)
                .enumerate()
                .map(|(n, (before, now))| assert_kept(&format!("{at}[{n}]"), before, now))
                .sum()
        }
        _ => {
            assert_eq!(before, now, "{at}");
            1
        }
    }
}
