//! An installation of its own for each test.

use std::{
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use bollard::Docker;
use domain::EnvironmentId;
use sandbox::{Command, Exit, Network, Options, Process, Sandbox, Sandboxes, Spec, Stream};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

/// Everything a test has; dropping it removes what the test made and asserts that nothing is left.
pub(crate) struct World {
    pub(crate) options: Options,
    pub(crate) sandboxes: Sandboxes,
    pub(crate) environment: EnvironmentId,
    _data: TempDir,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut Options)) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let data = tempfile::tempdir().expect("a temporary directory");
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let guestd = std::env::var_os("ATELIER_TEST_GUESTD").map(PathBuf::from);
        let guestd = guestd.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/guestd/guestd"));
        let mut options = Options {
            data_dir: data.path().to_owned(),
            installation: format!("test-{}-{number}", std::process::id()),
            guestd: guestd.canonicalize().expect("guestd is built: `make guestd`"),
            image: std::env::var("ATELIER_TEST_IMAGE").unwrap_or_else(|_| "atelier-workspace:latest".to_owned()),
            ..Options::default()
        };
        change(&mut options);
        let sandboxes = Sandboxes::connect(options.clone()).await.expect("an engine");
        Self { options, sandboxes, environment: EnvironmentId::generate(), _data: data }
    }

    /// What the test's environment is made from, unless the test says otherwise.
    pub(crate) fn spec(&self) -> Spec {
        Spec {
            environment: self.environment.clone(),
            image: None,
            built: None,
            network: Network::None,
            limits: None,
            env: Vec::new(),
        }
    }

    pub(crate) async fn open(&self) -> Sandbox {
        self.sandboxes.open(&self.spec()).await.expect("opens")
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let options = self.options.clone();
        let cleaned = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let sandboxes = Sandboxes::connect(options.clone()).await.expect("an engine");
                sandboxes.stop_all().await.expect("everything stops");
                leftovers(&options).await
            })
        });
        let leftovers = cleaned.join().expect("cleans up");
        if !std::thread::panicking() {
            assert_eq!(leftovers, Vec::<String>::new());
        }
    }
}

/// Lists what is left of an installation: containers, networks, firewall rules and mounts.
async fn leftovers(options: &Options) -> Vec<String> {
    let installation = options.installation.as_str();
    let engine = Docker::connect_with_defaults().expect("an engine").negotiate_version().await.expect("an engine");
    let all = bollard::query_parameters::ListContainersOptionsBuilder::new().all(true).build();
    let containers = engine.list_containers(Some(all)).await.expect("lists");
    let names = containers.into_iter().flat_map(|container| container.names.unwrap_or_default());
    let networks = engine.list_networks(None).await.expect("lists").into_iter().filter_map(|network| network.name);
    let mut left: Vec<String> = names.chain(networks).filter(|name| name.contains(installation)).collect();
    let interface = interface(installation);
    left.extend(firewall().lines().filter(|rule| rule.contains(&interface)).map(str::to_owned));
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("readable");
    let data_dir = options.data_dir.to_string_lossy().into_owned();
    left.extend(mounts.lines().filter(|mount| mount.contains(&data_dir)).map(str::to_owned));
    left
}

/// Gives the name of an installation's bridge.
pub(crate) fn interface(installation: &str) -> String {
    let hash: String = Sha256::digest(installation)[..4].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("atl{hash}")
}

/// Gives the host's filter rules.
pub(crate) fn firewall() -> String {
    let output = std::process::Command::new("iptables").args(["-w", "10", "-S"]).output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default()
}

pub(crate) fn bash(script: &str) -> Command {
    Command {
        argv: ["bash", "-c", script].map(str::to_owned).to_vec(),
        group: "run_test".to_owned(),
        timeout: Some(Duration::from_secs(60)),
        ..Command::default()
    }
}

/// Runs to the end and gives standard output, standard error and the exit.
pub(crate) async fn finish(process: &mut Process) -> (String, String, Exit) {
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    while let Some(chunk) = process.next().await.expect("the container lives") {
        match chunk.stream {
            Stream::Stdout => stdout.extend_from_slice(&chunk.bytes),
            Stream::Stderr => stderr.extend_from_slice(&chunk.bytes),
        }
    }
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    (text(stdout), text(stderr), process.exit().expect("known at the end"))
}

/// Runs a script to its end and gives what it said on both outputs, and the exit.
pub(crate) async fn run(sandbox: &Sandbox, script: &str) -> (String, Exit) {
    let mut process = sandbox.spawn(bash(script)).await.expect("starts");
    let (stdout, stderr, exit) = finish(&mut process).await;
    (stdout + &stderr, exit)
}

/// Counts the processes in the container, without the daemon and the two supervisors it needs to be asked: its spare
/// one and the asker's.
pub(crate) async fn processes(sandbox: &Sandbox) -> usize {
    let script = r#"for p in /proc/[0-9]*; do { read -r c < $p/comm; } 2>/dev/null && echo "$c"; done"#;
    let (names, _) = run(sandbox, script).await;
    let (supervisors, others): (Vec<&str>, Vec<&str>) = names.lines().partition(|name| *name == "exe");
    let commands = others.iter().filter(|name| **name != "guestd").count();
    commands - 1 + supervisors.len().saturating_sub(2)
}

/// Waits until `condition` holds; fails after `limit`.
pub(crate) async fn eventually(limit: Duration, mut condition: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while !condition().await {
        assert!(start.elapsed() < limit, "it does not happen within {limit:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
