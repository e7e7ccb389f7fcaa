//! The installation that is measured: the real program, started as a user would.

use std::{
    fs::{self, File},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use rand::RngExt;
use sandbox::{Sandbox, Sandboxes};
use scripted_claude::{Checks, Options, Script, ScriptedClaude};
use tempfile::TempDir;

use crate::client::Client;

/// A first start makes a database cluster.
const START_LIMIT: Duration = Duration::from_secs(120);
const STOP_LIMIT: Duration = Duration::from_secs(30);

/// A server, its model, and a client of it. Dropping it kills the server and removes its containers.
pub(crate) struct System {
    pub client: Client,
    pub model: ScriptedClaude,
    /// Marks what is ours on the engine.
    installation: String,
    pub guestd: PathBuf,
    server: Option<Child>,
    atelier: PathBuf,
    data: PathBuf,
    _directory: Option<TempDir>,
}

impl System {
    /// Starts a server with its data below `keep`, or in a directory that goes away.
    pub(crate) async fn start(keep: Option<&Path>) -> anyhow::Result<Self> {
        let atelier = program("ATELIER_BIN", "atelier")?;
        let guestd = program("ATELIER_SANDBOX__GUESTD", "../guestd/guestd")?;
        let options =
            Options { checks: Checks::Lenient, keeps_requests: false, keeps_timings: true, ..Options::default() };
        let script = Script::builtin("bench", "/workspace").context("the script is built in")?;
        let model = ScriptedClaude::start(script, options).await?;
        let directory = match keep {
            Some(_) => None,
            None => Some(tempfile::Builder::new().prefix("atelier-bench-").tempdir()?),
        };
        let place = keep.or(directory.as_ref().map(TempDir::path)).context("there is a directory")?;
        let place = std::path::absolute(place)?;
        fs::create_dir_all(&place)?;
        // Free now; whoever takes it in the next milliseconds makes the start fail, which says so.
        let listen = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let mut system = Self {
            client: Client::new(format!("http://{listen}"))?,
            model,
            installation: format!("bench-{:08x}", rand::rng().random::<u32>()),
            guestd,
            server: None,
            atelier,
            data: place.join("data"),
            _directory: directory,
        };
        let log = File::create(place.join("server.log"))?;
        let mut command = system.command("serve");
        command.args(["--listen", &listen.to_string()]).stdin(Stdio::null());
        system.server = Some(command.stdout(log.try_clone()?).stderr(log).spawn().context("cannot start the server")?);
        system.wait_until_ready(&place).await?;
        let key = fs::read_to_string(system.data.join("api-key")).context("the first start wrote no key")?;
        system.client.key = key.trim().to_owned();
        Ok(system)
    }

    async fn wait_until_ready(&mut self, place: &Path) -> anyhow::Result<()> {
        let began_at = Instant::now();
        while !self.client.is_ready().await {
            let server = self.server.as_mut().context("the server was started")?;
            if let Some(ended) = server.try_wait()? {
                let log = fs::read_to_string(place.join("server.log")).unwrap_or_default();
                bail!("the server ended ({ended}):\n{log}");
            }
            ensure!(began_at.elapsed() < START_LIMIT, "the server is not ready after {START_LIMIT:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// The program with this installation's settings.
    fn command(&self, subcommand: &str) -> Command {
        let mut command = Command::new(&self.atelier);
        command.arg(subcommand).arg("--data-dir").arg(&self.data).env_clear();
        for name in ["PATH", "HOME", "DOCKER_HOST", "TMPDIR"] {
            command.envs(std::env::var_os(name).map(|value| (name, value)));
        }
        // The thread of 500 turns is one run, at prices of the real back end.
        let settings = [
            ("ANTHROPIC_BASE_URL", self.model.url()),
            ("ANTHROPIC_API_KEY", "sk-ant-bench".to_owned()),
            ("ATELIER_LIMITS__REQUESTS_PER_WINDOW", "0".to_owned()),
            ("ATELIER_RUNS__MAX_TURNS", "1000".to_owned()),
            ("ATELIER_RUNS__MAX_COST", "0".to_owned()),
            ("ATELIER_SANDBOX__INSTALLATION", self.installation.clone()),
        ];
        command.envs(settings).env("ATELIER_SANDBOX__GUESTD", &self.guestd);
        command
    }

    /// The server's process.
    pub(crate) fn pid(&self) -> u32 {
        self.server.as_ref().map_or(0, Child::id)
    }

    pub(crate) fn data(&self) -> &Path {
        &self.data
    }

    /// Stops the server in order and removes its containers.
    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        let Some(mut server) = self.server.take() else { return Ok(()) };
        kill(Pid::from_raw(i32::try_from(server.id())?), Signal::SIGTERM)?;
        let began_at = Instant::now();
        while server.try_wait()?.is_none() {
            if began_at.elapsed() > STOP_LIMIT {
                self.server = Some(server);
                bail!("the server does not stop");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        ensure!(self.down(), "`atelier down` failed");
        Ok(())
    }

    /// Reaches into the running container of an environment of the server's.
    pub(crate) async fn sandbox(&self, environment: &str) -> anyhow::Result<Sandbox> {
        let options = sandbox::Options {
            data_dir: self.data.clone(),
            installation: self.installation.clone(),
            guestd: self.guestd.clone(),
            ..sandbox::Options::default()
        };
        let running = Sandboxes::connect(options).await?.running(&environment.parse()?).await?;
        running.into_iter().next().context("the container does not run")
    }

    /// The mark of what the baselines make on the engine.
    pub(crate) fn own_installation(&self) -> String {
        format!("{}-own", self.installation)
    }

    /// Removes what the server and the baselines made on the engine, however the call ended.
    fn down(&self) -> bool {
        let is_down = |installation: String| {
            let mut command = self.command("down");
            command.env("ATELIER_SANDBOX__INSTALLATION", installation).stdin(Stdio::null());
            command.output().is_ok_and(|output| output.status.success())
        };
        // Both, whatever becomes of the first.
        is_down(self.installation.clone()) & is_down(self.own_installation())
    }
}

impl Drop for System {
    fn drop(&mut self) {
        if let Some(mut server) = self.server.take() {
            // Its Postgres goes with it.
            let _ = server.kill();
            let _ = server.wait();
            self.down();
        }
    }
}

/// Gives the program that `variable` names, or the one that was built beside this one.
fn program(variable: &str, name: &str) -> anyhow::Result<PathBuf> {
    let named = std::env::var_os(variable).filter(|path| !path.is_empty()).map(PathBuf::from);
    let path = match named {
        Some(path) => path,
        None => std::env::current_exe()?.parent().unwrap_or(Path::new(".")).join(name),
    };
    path.canonicalize().with_context(|| format!("{} is not built ({variable} may name another)", path.display()))
}
