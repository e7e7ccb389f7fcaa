//! The daemon: listens, gives each connection its task, and ends with the container.

use std::{fs, io, os::unix::fs::PermissionsExt, path::Path, rc::Rc, time::Duration};

use guest_protocol::{Failure, FailureCode, Kind, Pong, Reply, Request};
use rustix::process::{getpid, set_child_subreaper};
use tokio::{
    net::{UnixListener, UnixStream},
    runtime::Builder,
    signal::unix::{SignalKind, signal},
    task::{LocalSet, spawn_local},
    time::{sleep, timeout},
};

use crate::{
    command::Commands,
    connection::{Incoming, Outgoing, split},
    failure::other,
    files, foreground,
    forward::{self, Forwards},
    ports,
    tasks::Tasks,
};

/// How long a new connection may stay silent.
const REQUEST_LIMIT: Duration = Duration::from_secs(10);

/// Serves on `socket` until SIGTERM.
pub(crate) fn run(socket: &Path) -> io::Result<()> {
    let runtime = Builder::new_current_thread().enable_io().enable_time().build()?;
    LocalSet::new().block_on(&runtime, serve(socket))
}

#[derive(Default)]
struct Daemon {
    commands: Rc<Commands>,
    tasks: Tasks,
    forwards: Forwards,
}

async fn serve(socket: &Path) -> io::Result<()> {
    // As pid 1 we are that already; an engine with a shared pid namespace may start us as another.
    set_child_subreaper(Some(getpid()))?;
    let mut terminate = signal(SignalKind::terminate())?;
    let daemon = Rc::new(Daemon::default());
    let commands = Rc::clone(&daemon.commands);
    spawn_local(async move { commands.reaper.run(|pid| commands.supervisors().contains(&pid)).await });
    daemon.commands.make_ready();

    let listener = listen(socket)?;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = terminate.recv() => break,
        };
        match accepted {
            Ok((stream, _)) => drop(spawn_local(answer(Rc::clone(&daemon), stream))),
            // Out of descriptors or memory: what runs goes on, and the host asks again.
            Err(err) => {
                eprintln!("guestd: cannot accept: {err}");
                sleep(Duration::from_millis(50)).await;
            }
        }
    }
    daemon.commands.kill_all().await;
    Ok(())
}

/// Binds beside the path and renames, so that a socket that can be seen is one that answers.
fn listen(socket: &Path) -> io::Result<UnixListener> {
    let unborn = socket.with_extension("new");
    let _ = fs::remove_file(&unborn);
    let listener = UnixListener::bind(&unborn)?;
    fs::set_permissions(&unborn, fs::Permissions::from_mode(0o600))?;
    fs::rename(&unborn, socket)?;
    Ok(listener)
}

async fn answer(daemon: Rc<Daemon>, stream: UnixStream) {
    let (mut host, mut out) = split(stream);
    let Ok(Ok(Some(frame))) = timeout(REQUEST_LIMIT, host.next()).await else { return };
    let done = match frame.json(Kind::Request) {
        Ok(request) => daemon.handle(request, host, out).await,
        Err(err) => out.reply(&Reply::Failed(other(err.to_string()))).await,
    };
    // A host that went away needs no answer.
    drop(done);
}

impl Daemon {
    async fn handle(&self, request: Request, mut host: Incoming, mut out: Outgoing) -> io::Result<()> {
        let commands = &self.commands;
        match request {
            Request::Ping => out.reply(&Reply::Pong(self.pong())).await,
            Request::Spawn(spawn) => foreground::run(commands, &spawn, host, out).await,
            Request::ReadFile { path, offset, limit } => files::read(&path, offset, limit, &mut out).await,
            Request::WriteFile { path, size } => files::write(&path, size, &mut host, &mut out).await,
            Request::StartBackground { command, output, output_limit } => {
                let reply = match self.tasks.start(commands, &command, &output, output_limit).await {
                    Ok(task) => Reply::Background { task },
                    Err(failed) => Reply::Failed(failed),
                };
                out.reply(&reply).await
            }
            Request::BackgroundStatus { task } => {
                let unknown = || {
                    let message = format!("there is no background command {task}");
                    Reply::Failed(Failure { code: FailureCode::NotFound, message })
                };
                out.reply(&self.tasks.state(&task).map_or_else(unknown, Reply::Task)).await
            }
            Request::StopBackground { task } => {
                let ran = self.tasks.stop(commands, &task).await;
                out.reply(&Reply::Stopped { ran }).await
            }
            Request::KillGroup { group } => {
                let trees = commands.kill_group(&group).await as u64;
                out.reply(&Reply::Killed { trees }).await
            }
            Request::KillOverDisk => {
                let trees = commands.kill_over_disk().await as u64;
                out.reply(&Reply::Killed { trees }).await
            }
            Request::Ports => out.reply(&Reply::Ports { ports: ports::list() }).await,
            Request::Connect { port } => forward::run(&self.forwards, port, host, out).await,
        }
    }

    fn pong(&self) -> Pong {
        let running = self.commands.list();
        let ended = running.iter().filter(|command| command.exit().is_some()).count();
        let background = self.tasks.running();
        let foreground = running.len().saturating_sub(ended + background);
        Pong {
            foreground: foreground as u64,
            background: background as u64,
            lingering: ended as u64,
            forwards: self.forwards.open(),
        }
    }
}
