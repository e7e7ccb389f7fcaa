//! The built binary as an operator has it: started, started twice, told to stop, killed.

#![allow(clippy::unwrap_used, reason = "in a test, unwrap is the assertion")]

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use tempfile::TempDir;

const ATELIER: &str = env!("CARGO_BIN_EXE_atelier");
const LIMIT: Duration = Duration::from_secs(30);

struct Installation {
    dir: TempDir,
    port: u16,
}

impl Installation {
    fn new() -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        Self { dir: TempDir::new().unwrap(), port: listener.local_addr().unwrap().port() }
    }

    fn data(&self) -> std::path::PathBuf {
        self.dir.path().join("data")
    }

    fn command(&self, name: &str) -> Command {
        let mut command = Command::new(ATELIER);
        command.arg(name).arg("--data-dir").arg(self.data()).arg("--listen").arg(format!("127.0.0.1:{}", self.port));
        for (variable, _) in std::env::vars_os() {
            if variable.to_str().is_some_and(|name| name.starts_with("ATELIER_") || name.starts_with("ANTHROPIC_")) {
                command.env_remove(variable);
            }
        }
        // No model is asked, and no container is started.
        command.env("ANTHROPIC_BASE_URL", "http://127.0.0.1:9").env("ATELIER_SANDBOX__GUESTD", "/bin/true");
        command
    }

    fn run(&self, name: &str, arguments: &[&str]) -> Output {
        self.command(name).args(arguments).output().unwrap()
    }

    fn start(&self) -> Server {
        let log = fs::File::options().create(true).append(true).open(self.dir.path().join("log")).unwrap();
        let child = self.command("serve").stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap();
        let mut server = Server { child };
        wait_for("the server to be healthy", || {
            assert!(server.child.try_wait().unwrap().is_none(), "the server ended: {}", self.log());
            self.get("/health", None) == Some(200)
        });
        server
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    fn key(&self) -> String {
        fs::read_to_string(self.data().join("api-key")).unwrap().trim().to_owned()
    }

    /// Gives the status of a request; `None` if there is no answer.
    fn get(&self, path: &str, key: Option<&str>) -> Option<u16> {
        let url = format!("http://127.0.0.1:{}{path}", self.port);
        let request = async {
            let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(5)).build().unwrap();
            let mut request = client.get(url);
            if let Some(key) = key {
                request = request.bearer_auth(key);
            }
            request.send().await.ok().map(|response| response.status().as_u16())
        };
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(request)
    }

    fn postmaster(&self) -> i32 {
        let text = fs::read_to_string(self.data().join("postgres/data/postmaster.pid")).unwrap();
        text.lines().next().unwrap().trim().parse().unwrap()
    }
}

/// A server that does not outlive its test.
struct Server {
    child: Child,
}

impl Server {
    fn signal(&self, signal: &str) {
        assert!(Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap().success());
    }

    /// Waits for its end and gives the exit code.
    fn end(mut self) -> Option<i32> {
        let deadline = Instant::now() + Duration::from_secs(15);
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(Instant::now() < deadline, "the server does not end");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn wait_for(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !holds() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Tells whether anything but a zombie works in the directory, as every Postgres process does.
fn is_in_use(directory: &Path) -> bool {
    let mut processes = fs::read_dir("/proc").unwrap().flatten();
    processes.any(|process| fs::read_link(process.path().join("cwd")).is_ok_and(|cwd| cwd.starts_with(directory)))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_server_starts_keeps_others_off_and_stops() {
    let installation = Installation::new();
    let server = installation.start();
    let key = installation.key();
    assert_eq!(installation.get("/v1/agents", Some(&key)), Some(200));
    assert_eq!(installation.get("/v1/agents", Some("tb_wrong")), Some(401));
    assert!(!installation.log().contains(&key), "the key is in the log");
    let mode = |name: &str| fs::metadata(installation.data().join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("."), mode("api-key"), mode("secret.key")), (0o700, 0o600, 0o600));

    let second = installation.run("serve", &[]);
    assert_eq!(second.status.code(), Some(1));
    assert!(text(&second.stderr).contains("another server (process "), "{}", text(&second.stderr));

    server.signal("-TERM");
    assert_eq!(server.end(), Some(0), "{}", installation.log());
    assert!(!is_in_use(&installation.data()), "Postgres is left");
    assert!(!installation.data().join("atelier.pid").exists());
}

#[test]
fn a_killed_server_leaves_nothing_behind_and_starts_again() {
    let installation = Installation::new();
    let server = installation.start();
    let key = installation.key();
    server.signal("-KILL");
    assert_eq!(server.end(), None);
    // Its Postgres is told by the kernel.
    wait_for("Postgres to end with its server", || !is_in_use(&installation.data()));

    let server = installation.start();
    assert_eq!(installation.get("/v1/agents", Some(&key)), Some(200), "the first key is still the key");
    server.signal("-INT");
    assert_eq!(server.end(), Some(0));
}

#[test]
fn a_killed_postgres_comes_back_under_a_running_server() {
    let installation = Installation::new();
    let server = installation.start();
    let key = installation.key();
    let first = installation.postmaster();
    assert!(Command::new("kill").args(["-KILL", &first.to_string()]).status().unwrap().success());
    wait_for("the server to work again", || {
        installation.get("/v1/agents", Some(&key)) == Some(200) && installation.postmaster() != first
    });
    server.signal("-TERM");
    assert_eq!(server.end(), Some(0), "{}", installation.log());
    assert!(!is_in_use(&installation.data()));
}

#[test]
fn keys_are_made_and_revoked_beside_a_running_server_and_without_one() {
    let installation = Installation::new();
    let made = installation.run("keys", &["create", "--name", "early"]);
    assert!(made.status.success(), "{}", text(&made.stderr));
    let early = text(&made.stdout).trim().to_owned();

    let server = installation.start();
    // There was a key already, so none was made at start.
    assert!(!installation.data().join("api-key").exists());
    assert_eq!(installation.get("/agents", Some(&early)), Some(200));
    let late = text(&installation.run("keys", &["create", "--expires", "1d"]).stdout).trim().to_owned();
    assert_eq!(installation.get("/agents", Some(&late)), Some(200));
    let revoked = installation.run("keys", &["revoke", &early[..11]]);
    assert!(revoked.status.success(), "{}", text(&revoked.stderr));
    assert_eq!(installation.get("/agents", Some(&early)), Some(401));
    let listed = text(&installation.run("keys", &["list"]).stdout);
    assert!(listed.contains("early") && !listed.contains(&early) && !listed.contains(&late), "{listed}");
    server.signal("-TERM");
    assert_eq!(server.end(), Some(0));
}

#[test]
fn an_address_that_others_reach_is_refused_without_a_key() {
    let installation = Installation::new();
    let mut command = installation.command("serve");
    // The later flag would be an error; the environment is below the flag, so a command of its own.
    command = {
        let mut open = Command::new(ATELIER);
        open.arg("serve").arg("--data-dir").arg(installation.data()).args(["--listen", "0.0.0.0:0"]);
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => open.env(name, value),
                None => open.env_remove(name),
            };
        }
        open
    };
    let refused = command.output().unwrap();
    assert_eq!(refused.status.code(), Some(1));
    let said = text(&refused.stderr);
    assert!(said.contains("there is no valid API key") && said.contains("atelier keys create"), "{said}");
    assert!(!is_in_use(&installation.data()));
}

#[test]
fn down_stops_what_runs_and_is_content_with_nothing() {
    let installation = Installation::new();
    let nothing = installation.run("down", &[]);
    assert!(nothing.status.success());
    assert!(text(&nothing.stdout).starts_with("nothing runs"), "{}", text(&nothing.stdout));

    let server = installation.start();
    let down = installation.run("down", &[]);
    assert!(down.status.success(), "{}", text(&down.stderr));
    assert!(text(&down.stdout).contains("stopped the server (process "), "{}", text(&down.stdout));
    assert_eq!(server.end(), Some(0));

    // As after a power failure: a number that is somebody else's by now.
    fs::write(installation.data().join("atelier.pid"), "1\n").unwrap();
    let again = installation.run("down", &[]);
    assert!(again.status.success(), "{}", text(&again.stderr));
    assert!(text(&again.stdout).contains("no server runs on"), "{}", text(&again.stdout));
}

#[test]
fn wrong_usage_and_an_absent_server_have_exit_codes_of_their_own() {
    let installation = Installation::new();
    let mut wrong = installation.command("config");
    let wrong = wrong.env("ATELIER_RUNS__LEASE", "soon").output().unwrap();
    assert_eq!(wrong.status.code(), Some(2));
    assert!(text(&wrong.stderr).starts_with("atelier: the setting runs.lease"), "{}", text(&wrong.stderr));

    let client = |key: &str| {
        let mut command = Command::new(ATELIER);
        command.args(["run", "go", "--url"]).arg(format!("http://127.0.0.1:{}", installation.port));
        command.env("ATELIER_API_KEY", key).current_dir(installation.dir.path()).output().unwrap()
    };
    assert_eq!(client("").status.code(), Some(2), "no key");
    assert_eq!(client("tb_1").status.code(), Some(3), "no server");
}
