//! Ten secrets are bound to an environment, and what could be stolen is looked through: they are in the environment of the
//! commands that are given them, and nowhere else.

use std::{fs, path::Path, process::Command};

use rand::RngExt;
use reqwest::Method;
use scripted_claude::Reply;
use serde_json::{Value, json};
use system_tests::World;

const SECRETS: usize = 10;

/// What is looked for, and where it was found.
struct Search {
    secrets: Vec<(String, String)>,
    places: usize,
    hits: Vec<String>,
}

impl Search {
    fn look(&mut self, place: &str, content: impl AsRef<[u8]>) {
        self.places += 1;
        let content = content.as_ref();
        for (key, value) in &self.secrets {
            if content.windows(value.len()).any(|window| window == value.as_bytes()) {
                self.hits.push(format!("{key} in {place}"));
            }
        }
    }

    /// Looks through a directory with everything below it, whatever the files are.
    fn look_below(&mut self, place: &str, directory: &Path) {
        self.places += 1;
        for (key, value) in &self.secrets {
            if let Some(found) = output(Command::new("grep").args(["-raslF", "--", value]).arg(directory)) {
                self.hits.push(format!("{key} in {place}: {found}"));
            }
        }
    }
}

/// Gives what a program says, if it says so with success.
fn output(command: &mut Command) -> Option<String> {
    let output = command.output().unwrap_or_else(|err| panic!("{command:?}: {err}"));
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

fn docker(arguments: &[&str]) -> String {
    output(Command::new("docker").args(arguments)).unwrap_or_else(|| panic!("docker {arguments:?} fails"))
}

fn dump(world: &World) -> String {
    let newest = fs::read_dir("/usr/lib/postgresql").ok().and_then(|entries| {
        entries.filter_map(|entry| Some(entry.ok()?.path().join("bin/pg_dump"))).filter(|path| path.exists()).max()
    });
    let mut command = Command::new(newest.unwrap_or_else(|| "pg_dump".into()));
    command.args(["-p", "5432", "-U", "atelier", "-h"]).arg(world.data().join("postgres/data")).arg("atelier");
    output(&mut command).expect("the database is dumped")
}

#[tokio::test(flavor = "multi_thread")]
async fn bound_secrets_are_in_the_environment_of_commands_and_nowhere_else() {
    let mut world = World::with(&[("LOG__LEVEL", "debug")]).await;
    let environment = world.environment(false).await;
    let path = format!("/v1/environments/{environment}");
    let secrets: Vec<(String, String)> = (0..SECRETS)
        .map(|number| (format!("STOLEN_{number}"), format!("canary-{:032x}", rand::rng().random::<u128>())))
        .collect();
    let bytes: usize = secrets.iter().map(|(_, value)| value.len()).sum();
    let mut search = Search { secrets, places: 0, hits: Vec::new() };
    for (key, value) in search.secrets.clone() {
        let said = world.post(&format!("{path}/secrets"), json!({"key": key, "value": value})).await;
        search.look("the answer to setting one", said.to_string());
    }
    // Not a secret, and so where all else is: it shows that we look in the right places.
    let plain = json!({"environmentVariables": [{"key": "PLAIN", "value": "plain-to-see"}]});
    let patched = world.call(Method::PATCH, &path, Some(plain)).await;
    assert_eq!(patched.status, 200, "{patched:?}");

    let thread = world.thread(&environment).await;
    let count = "env | grep ^STOLEN_ | cut -d= -f2 | tr -d '\\n' | wc -c";
    assert_eq!(world.bash(&thread, count).await, (bytes.to_string(), false), "commands are given them");
    // Into a file that the agent keeps for later, by every way there is inside; what it counts are values found.
    let steal = "{ cat /proc/1/environ /proc/1/cmdline; cat /proc/[0-9]*/cmdline; cat /proc/self/mountinfo; \
                 find / -xdev -newer /proc/1 -type f -not -path '/proc/*' -not -path '/sys/*' -exec cat {} +; } \
                 2>/dev/null | tr '\\0' '\\n' | grep -c 'canar[y]-'; true";
    assert_eq!(world.bash(&thread, steal).await, ("0".to_owned(), false), "nothing inside holds them");
    // While a command has them, nobody else does.
    let (_, failed) = world.bash(&thread, "nohup sleep 300 >/dev/null 2>&1 & sleep 0.1").await;
    assert!(!failed);
    let container = world.container().0;
    let commands: Vec<String> = docker(&["top", &container, "-eo", "pid,comm"])
        .lines()
        .filter_map(|line| line.trim().strip_suffix("sleep").map(|pid| pid.trim().to_owned()))
        .collect();
    for process in fs::read_dir("/proc").expect("there is /proc").flatten() {
        let pid = process.file_name().to_string_lossy().into_owned();
        if pid.bytes().all(|byte| byte.is_ascii_digit()) && !commands.contains(&pid) {
            for file in ["environ", "cmdline"] {
                let read = fs::read(process.path().join(file)).unwrap_or_default();
                search.look(&format!("{file} of process {pid}"), read);
            }
        }
    }

    search.look("what the engine knows of the container", docker(&["inspect", &container]));
    search.look("the container's log", docker(&["logs", &container]));
    let image = docker(&["inspect", "-f", "{{.Image}}", &container]);
    search.look("the image", docker(&["image", "inspect", image.trim()]));
    search.look("the image's layers", docker(&["history", "--no-trunc", image.trim()]));
    let layer = docker(&["inspect", "-f", "{{index .GraphDriver.Data \"UpperDir\"}}", &container]);
    if Path::new(layer.trim()).is_dir() {
        search.look_below("the container's layer", Path::new(layer.trim()));
    }

    // What clients read, and what they are told when something is wrong.
    world.claude.set_script(scripted_claude::Script::sequence([Reply::status(401)]));
    world.try_send(&thread, "Fail, please.").await.expect("accepted").rest().await;
    for path in [
        path.clone(),
        format!("{path}/secrets"),
        format!("{path}/status"),
        "/v1/environments".to_owned(),
        format!("/v1/threads/{thread}"),
        format!("/v1/threads/{thread}/messages"),
        format!("/v1/threads/{thread}/logs"),
        "/metrics".to_owned(),
        "/health".to_owned(),
    ] {
        let answer = world.call(Method::GET, &path, None).await;
        search.look(&path, answer.text);
    }
    let value = search.secrets[0].1.clone();
    for body in [
        json!({"key": "A-B", "value": value}),
        json!({"key": "A", "value": [value]}),
        json!({"key": "A", "value": {"value": value}}),
        json!({"value": value}),
    ] {
        let refused = world.call(Method::POST, &format!("{path}/secrets"), Some(body)).await;
        assert_eq!(refused.status, 400, "{refused:?}");
        search.look("an error", refused.text);
    }
    let refused = world.call(Method::PATCH, &path, Some(json!({"secrets": [value]}))).await;
    search.look("an error", refused.text);
    let log: Vec<Value> = world.log_of(&thread).await.into_iter().map(|frame| frame.data).collect();
    search.look("the events", Value::from(log).to_string());

    let dump = dump(&world);
    assert!(dump.contains("STOLEN_3") && dump.contains("plain-to-see"), "the dump is of our database");
    search.look("the dump of the database", dump);
    search.look_below("the data directory", &world.data());
    assert!(world.stop().await.success());
    // The log of transactions is written out by now.
    search.look_below("the data directory, stopped", &world.data());
    search.look("the server's log", world.log());
    println!(
        "{{\"test\": \"S6\", \"secrets\": {SECRETS}, \"n\": {}, \"hits\": {}, \"pass\": {}}}",
        search.places,
        search.hits.len(),
        search.hits.is_empty()
    );
    assert_eq!(search.hits, Vec::<String>::new());
    world.finish().await;
}
