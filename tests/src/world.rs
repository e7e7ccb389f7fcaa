//! An installation of a test's own, which can be killed, stopped and started again.

use std::{
    fs::{self, File},
    net::{SocketAddr, TcpListener},
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use rand::RngExt;
use scripted_claude::{Options, ScriptedClaude};
use tempfile::TempDir;

use crate::{
    Container, Filler, Memory, Reader, disk::SmallDisk, engine::Installation, eventually, leftovers, processes, script,
};

/// A first start makes a database cluster.
const START_LIMIT: Duration = Duration::from_secs(60);
/// More than the server gives its runs to come to a checkpoint.
const STOP_LIMIT: Duration = Duration::from_secs(25);

/// A server, what it needs, and a client's key to it.
pub struct World {
    pub claude: ScriptedClaude,
    pub key: String,
    /// What the server sends to the model as its key.
    pub model_key: String,
    pub(crate) client: reqwest::Client,
    installation: String,
    listen: SocketAddr,
    settings: Vec<(String, String)>,
    server: Option<Child>,
    is_finished: bool,
    disk: Option<SmallDisk>,
    directory: TempDir,
}

impl World {
    /// Starts a server with the default settings, but without a limit of requests.
    pub async fn start() -> Self {
        Self::with(&[]).await
    }

    /// Starts a server with settings, given as in the environment: `("LOG__LEVEL", "debug")`.
    pub async fn with(settings: &[(&str, &str)]) -> Self {
        let mut world = Self::prepared(settings).await;
        world.first_start().await;
        world
    }

    /// Starts a server on what a backup holds, among which is the key.
    pub async fn restored(backup: &Path, key: &str) -> Self {
        let mut world = Self::prepared(&[]).await;
        let output = world.atelier(&["restore"]).arg(backup).output().expect("atelier runs");
        assert!(output.status.success(), "atelier restore: {}", String::from_utf8_lossy(&output.stderr));
        world.key = key.to_owned();
        world.start_again().await;
        world
    }

    /// Starts a server whose data directory, with the database and the environments in it, is a disk of so many megabytes;
    /// `None` where we may not mount one.
    pub async fn on_small_disk(megabytes: u32, settings: &[(&str, &str)]) -> Option<Self> {
        let mut world = Self::prepared(settings).await;
        world.disk = SmallDisk::mount(&world.data(), megabytes);
        if world.disk.is_none() {
            world.is_finished = true;
            return None;
        }
        world.first_start().await;
        Some(world)
    }

    async fn first_start(&mut self) {
        self.start_again().await;
        let key = fs::read_to_string(self.data().join("api-key")).expect("the first start wrote a key");
        self.key = key.trim().to_owned();
    }

    /// Starts another server beside this one, on the same database (which the settings must name) and the same files.
    pub async fn beside(&self, settings: &[(&str, &str)]) -> Self {
        let mut world = Self::prepared(settings).await;
        let environments = self.data().join("environments");
        fs::create_dir_all(&environments)
            .and_then(|()| fs::create_dir(world.data()))
            .expect("the directories are made");
        std::os::unix::fs::symlink(environments, world.data().join("environments")).expect("the files are shared");
        world.key.clone_from(&self.key);
        world.start_again().await;
        world
    }

    async fn prepared(settings: &[(&str, &str)]) -> Self {
        let claude =
            ScriptedClaude::start(script::follow_messages(), Options::default()).await.expect("the model starts");
        let random: u64 = rand::rng().random();
        let installation = format!("system-{random:x}");
        let settings = [("LIMITS__REQUESTS_PER_WINDOW", "0"), ("SANDBOX__INSTALLATION", &installation)]
            .iter()
            .chain(settings)
            .map(|(name, value)| (format!("ATELIER_{name}"), (*value).to_owned()))
            .collect();
        // Every wait of a test has its own end.
        let client = reqwest::Client::builder().connect_timeout(Duration::from_secs(5));
        // What the server keeps open is not to be what we keep open.
        let client = client.pool_idle_timeout(Duration::from_secs(5)).build().expect("a client");
        let world = Self {
            claude,
            key: String::new(),
            model_key: format!("sk-ant-test-{random:016x}"),
            client,
            installation,
            listen: free_address(),
            settings,
            server: None,
            is_finished: false,
            disk: None,
            directory: tempfile::Builder::new().prefix("atelier-").tempdir().expect("a temporary directory"),
        };
        fs::create_dir(world.temporary()).expect("the directory is made");
        world
    }

    /// Starts the server on the same data, and waits until it serves.
    pub async fn start_again(&mut self) {
        assert!(self.server.is_none(), "the server runs");
        let log = File::options().create(true).append(true).open(self.log_path()).expect("the log opens");
        let both = log.try_clone().expect("the log opens");
        let listen = self.listen.to_string();
        let mut command = self.atelier(&["serve", "--listen", &listen]);
        self.server = Some(command.stdin(Stdio::null()).stdout(log).stderr(both).spawn().expect("the server starts"));
        let url = self.url("/ready");
        let client = self.client.clone();
        eventually("the server is ready", START_LIMIT, async || {
            let server = self.server.as_mut().expect("was just started");
            let ended = server.try_wait().expect("the server can be waited for");
            assert!(ended.is_none(), "the server ended with {ended:?}");
            client.get(&url).send().await.is_ok_and(|response| response.status().is_success())
        })
        .await;
    }

    /// Runs the program with the installation's settings.
    pub fn atelier(&self, arguments: &[&str]) -> Command {
        let mut command = self.client(arguments);
        command.arg("--data-dir").arg(self.data());
        command
    }

    /// Gives a command of the program that is not told of the data directory: a client.
    pub fn client(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(program("ATELIER_BIN", "atelier"));
        command.args(arguments).env_clear();
        for name in ["PATH", "HOME", "DOCKER_HOST"] {
            command.envs(std::env::var_os(name).map(|value| (name, value)));
        }
        // Its own, so that what is left in it is the server's.
        command.env("TMPDIR", self.temporary());
        // A backtrace that nobody asked for is what makes a log readable after a failure.
        command.env("RUST_BACKTRACE", "1");
        command.env("ANTHROPIC_BASE_URL", self.claude.url()).env("ANTHROPIC_API_KEY", &self.model_key);
        command.env("ATELIER_SANDBOX__GUESTD", program("ATELIER_SANDBOX__GUESTD", "../guestd/guestd"));
        command.envs(self.settings.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Kills the server as a crash would.
    pub fn kill(&mut self) {
        let mut server = self.server.take().expect("the server runs");
        server.kill().expect("it can be killed");
        assert_eq!(server.wait().expect("it ends").signal(), Some(Signal::SIGKILL as i32));
    }

    /// Asks the server to stop and waits until it has.
    pub async fn stop(&mut self) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        self.ended().await
    }

    /// Lets the server stand still until [`World::thaw`].
    pub fn freeze(&self) {
        self.signal(Signal::SIGSTOP);
    }

    pub fn thaw(&self) {
        self.signal(Signal::SIGCONT);
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.pid()).expect("a pid");
        kill(Pid::from_raw(pid), signal).expect("it can be signalled");
    }

    /// Waits until the server has ended.
    pub async fn ended(&mut self) -> ExitStatus {
        let mut server = self.server.take().expect("the server runs");
        let mut status = None;
        eventually("the server stops", STOP_LIMIT, async || {
            status = server.try_wait().expect("the server can be waited for");
            status.is_some()
        })
        .await;
        status.expect("it has ended")
    }

    /// Stops everything and asserts that it stops well and leaves nothing behind: no process, no lease, no container, no
    /// network, no temporary file.
    pub async fn finish(mut self) {
        if self.server.is_some() {
            let status = self.stop().await;
            assert!(status.success(), "the server stops with {status}");
        }
        assert_eq!(self.processes(), Vec::<String>::new(), "processes are left by the server");
        let leases = match self.setting("DATABASE__URL") {
            Some(url) => leftovers::leases_in(&url.parse().expect("a URL")).await,
            None => leftovers::leases(&self.data()).await,
        };
        assert_eq!(leases, Vec::<String>::new(), "leases are left by the server");
        let down = self.atelier(&["down"]).output().expect("atelier runs");
        assert!(down.status.success(), "atelier down: {}", String::from_utf8_lossy(&down.stderr));
        assert_eq!(self.containers(), Vec::new(), "containers are left");
        assert_eq!(self.engine().networks(), Vec::<String>::new(), "networks are left");
        let log = self.log();
        assert!(!log.contains("panicked at"), "the server panicked:\n{log}");
        assert_eq!(leftovers::entries(&self.temporary()), Vec::<String>::new(), "temporary files are left");
        let directory = self.directory.path().to_owned();
        self.is_finished = true;
        drop(self);
        assert!(!directory.exists(), "{} is left", directory.display());
    }

    /// Gives what reads streams of this world, also while the world itself is being changed.
    pub fn reader(&self) -> Reader {
        Reader { client: self.client.clone(), base: self.url(""), key: self.key.clone() }
    }

    /// Takes all that is left of the data directory's disk.
    pub fn fill_disk(&self) -> Filler {
        self.disk.as_ref().expect("a world on a small disk").fill()
    }

    /// Gives how much memory the server holds now and has held at most, in bytes; its database has processes of its own.
    pub fn memory(&self) -> Memory {
        Memory::of(self.pid())
    }

    /// Plants a container that this installation's servers know nothing of.
    pub fn plant_orphan(&self, is_running: bool) -> Container {
        self.engine().plant(is_running)
    }

    /// Gives the server's process id.
    pub fn pid(&self) -> u32 {
        self.server.as_ref().expect("the server runs").id()
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.listen)
    }

    /// Gives the data directory.
    pub fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// Gives what the servers of this world have logged.
    pub fn log(&self) -> String {
        fs::read(self.log_path()).map(|log| String::from_utf8_lossy(&log).into_owned()).unwrap_or_default()
    }

    /// Lists the containers of this installation.
    pub fn containers(&self) -> Vec<Container> {
        self.engine().containers()
    }

    /// Gives the only container of this installation.
    pub fn container(&self) -> Container {
        let mut containers = self.containers();
        assert_eq!(containers.len(), 1, "one container: {containers:?}");
        containers.remove(0)
    }

    /// Lists the processes of this installation outside of containers.
    pub fn processes(&self) -> Vec<String> {
        processes::of(&self.data())
    }

    fn engine(&self) -> Installation<'_> {
        Installation { name: &self.installation, socket: self.setting("SANDBOX__DOCKER_SOCKET") }
    }

    fn setting(&self, name: &str) -> Option<&str> {
        let name = format!("ATELIER_{name}");
        self.settings.iter().rfind(|(known, _)| *known == name).map(|(_, value)| value.as_str())
    }

    fn temporary(&self) -> PathBuf {
        self.directory.path().join("tmp")
    }

    fn log_path(&self) -> PathBuf {
        self.directory.path().join("server.log")
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(mut server) = self.server.take() {
            // Its Postgres goes with it.
            let _ = server.kill();
            let _ = server.wait();
        }
        self.engine().remove_all();
        // Before the directory that it is mounted on.
        self.disk = None;
        if std::thread::panicking() {
            let log = self.log();
            // Statements of a log that tells everything are longer than they are of use.
            let lines: Vec<String> = log.lines().map(|line| line.chars().take(400).collect()).collect();
            eprintln!("the server's log ends with:\n{}", lines[lines.len().saturating_sub(60)..].join("\n"));
        } else {
            assert!(self.is_finished, "a test ends with finish(), which looks for what is left");
        }
    }
}

/// Gives the program that `variable` names, or the one that was built beside the tests.
fn program(variable: &str, name: &str) -> PathBuf {
    let named = std::env::var_os(variable).filter(|path| !path.is_empty()).map(PathBuf::from);
    let path = named.unwrap_or_else(|| {
        let test = std::env::current_exe().expect("a test is a program");
        // target/debug/deps/test-hash
        test.ancestors().nth(2).unwrap_or(Path::new(".")).join(name)
    });
    path.canonicalize().unwrap_or_else(|err| panic!("{} is not built ({variable}): {err}", path.display()))
}

/// Gives a free address below the ports that the system gives to clients, one of which could take it between two starts.
fn free_address() -> SocketAddr {
    loop {
        let address = SocketAddr::from(([127, 0, 0, 1], rand::rng().random_range(20_000..32_000)));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}
