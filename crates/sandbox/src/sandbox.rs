//! A running container, and what can be asked of it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use domain::EnvironmentId;
use guest_protocol::{Exit, Frame, Kind, Reply, Request, Spawn};

use crate::{
    Error, Process,
    guest::{ANSWER_LIMIT, Guest, unexpected},
    slot::Uses,
};

/// A background command is killed when its output file has grown by this much.
const MAX_BACKGROUND_OUTPUT: u64 = 5_000_000_000;

/// How long killing may take until we stop waiting: the daemon gives up on a process stuck in the kernel after 10 s.
const KILL_LIMIT: Duration = Duration::from_secs(15);

/// A command to run in a sandbox.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Command {
    /// Program (looked up in `PATH`) and arguments.
    pub argv: Vec<String>,
    /// Absolute; empty is the workspace.
    pub cwd: String,
    /// Set on top of the container's environment.
    pub env: Vec<(String, String)>,
    /// Kills the whole process tree when the command has not ended by then.
    pub timeout: Option<Duration>,
    /// What [`Sandbox::kill_group`] names: the run.
    pub group: String,
    /// Whether [`Process::write_stdin`] will be used. Without, the command reads an empty input.
    pub stdin: bool,
}

/// Leaves out what the variables hold: secrets, among other things.
impl std::fmt::Debug for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<&str> = self.env.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("Command")
            .field("argv", &self.argv)
            .field("cwd", &self.cwd)
            .field("env", &names)
            .field("timeout", &self.timeout)
            .field("group", &self.group)
            .field("stdin", &self.stdin)
            .finish()
    }
}

/// A part of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileContent {
    pub bytes: Bytes,
    /// Of the whole file, in bytes.
    pub size: u64,
    pub modified_ms: i64,
}

/// What writing a file did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// False when it replaced a file.
    pub created: bool,
    pub modified_ms: i64,
}

/// A background command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Task {
    /// `None` while it runs.
    pub exit: Option<Exit>,
    /// Written to its output file so far.
    pub output_bytes: u64,
}

/// A running container whose daemon answers. Cheap to clone.
///
/// Everything here fails with [`Error::Gone`] once the container has ended.
#[derive(Debug, Clone)]
pub struct Sandbox {
    inner: Arc<Inner>,
}

struct Inner {
    environment: EnvironmentId,
    container: String,
    guest: Guest,
    uses: Arc<Uses>,
    is_gone: AtomicBool,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sandbox").field("environment", &self.environment).field("container", &self.container).finish()
    }
}

impl Sandbox {
    pub(crate) fn new(environment: EnvironmentId, container: String, guest: Guest, uses: Arc<Uses>) -> Self {
        Self { inner: Arc::new(Inner { environment, container, guest, uses, is_gone: AtomicBool::new(false) }) }
    }

    /// The environment this is the container of.
    pub fn environment(&self) -> &EnvironmentId {
        &self.inner.environment
    }

    /// The engine's id of the container.
    pub fn container(&self) -> &str {
        &self.inner.container
    }

    /// Tells whether both are the same start of the same container, as this process knows it.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }

    /// Starts a command and gives the process once it runs.
    ///
    /// # Errors
    /// `NotFound` names the program or the working directory.
    pub async fn spawn(&self, command: Command) -> Result<Process, Error> {
        let in_use = self.inner.uses.command();
        let timeout = command.timeout;
        let mut connection = self.ask(&Request::Spawn(spawn(command))).await?;
        match self.note(connection.reply(ANSWER_LIMIT).await)? {
            Reply::Started { .. } => Ok(Process::new(self.clone(), connection, timeout, in_use)),
            _ => Err(unexpected()),
        }
    }

    /// Reads up to `limit` bytes from `offset` of the file at `path`, an absolute path inside the container.
    ///
    /// All of it is held in memory, so `limit` is what the caller can bear, whatever the file's size is said to be.
    ///
    /// # Errors
    /// `NotFound`, `IsDirectory`, `NotADirectory`, `PermissionDenied`; `Other` for what is not a regular file.
    pub async fn read_file(&self, path: &str, offset: u64, limit: u64) -> Result<FileContent, Error> {
        let mut connection = self.ask(&Request::ReadFile { path: path.to_owned(), offset, limit }).await?;
        let Reply::File { size, modified_ms } = self.note(connection.reply(ANSWER_LIMIT).await)? else {
            return Err(unexpected());
        };
        let mut bytes = BytesMut::new();
        loop {
            let Frame { kind, body } = self.note(connection.frame_within(ANSWER_LIMIT).await)?;
            match kind {
                Kind::Data if (bytes.len() + body.len()) as u64 <= limit => bytes.extend_from_slice(&body),
                Kind::End => return Ok(FileContent { bytes: bytes.freeze(), size, modified_ms }),
                // A failure in the middle comes as a reply.
                _ => return Err(crate::guest::reply(&Frame { kind, body }).err().unwrap_or_else(unexpected)),
            }
        }
    }

    /// Puts `content` at `path`, an absolute path inside the container.
    ///
    /// Parents are made; readers see the old file or the new one; an existing file keeps its mode and owner; a link is
    /// written through.
    ///
    /// # Errors
    /// `IsDirectory`, `NotADirectory` (for a parent), `PermissionDenied`, `DiskFull`; `Other` over a pipe or device.
    pub async fn write_file(&self, path: &str, content: &[u8]) -> Result<Written, Error> {
        let mut connection =
            self.ask(&Request::WriteFile { path: path.to_owned(), size: content.len() as u64 }).await?;
        self.note(connection.send(Kind::Data, content).await)?;
        self.note(connection.mark(Kind::End).await)?;
        match self.note(connection.reply(ANSWER_LIMIT).await)? {
            Reply::Written { created, modified_ms } => Ok(Written { created, modified_ms }),
            _ => Err(unexpected()),
        }
    }

    /// Starts a command that outlives this process, both its outputs appended to the file `output_path`, and gives its id.
    ///
    /// `timeout` holds for it too; it is killed when its output grows beyond 5 GB. Ids are good for the life of the
    /// container.
    pub async fn start_background(&self, command: Command, output_path: &str) -> Result<String, Error> {
        let request = Request::StartBackground {
            command: spawn(command),
            output: output_path.to_owned(),
            output_limit: MAX_BACKGROUND_OUTPUT,
        };
        match self.call(&request, ANSWER_LIMIT).await? {
            Reply::Background { task } => Ok(task),
            _ => Err(unexpected()),
        }
    }

    /// Tells how a background command is; `None` if this container has none of that id.
    pub async fn background(&self, task: &str) -> Result<Option<Task>, Error> {
        match self.call(&Request::BackgroundStatus { task: task.to_owned() }, ANSWER_LIMIT).await {
            Ok(Reply::Task(state)) => Ok(Some(Task { exit: state.exit, output_bytes: state.output_bytes })),
            Ok(_) => Err(unexpected()),
            Err(Error::NotFound(_)) => Ok(None),
            Err(err) => Err(err),
        }
    }

    /// Kills a background command with its whole process tree; false when nothing of it was left.
    pub async fn stop_background(&self, task: &str) -> Result<bool, Error> {
        match self.call(&Request::StopBackground { task: task.to_owned() }, KILL_LIMIT).await? {
            Reply::Stopped { ran } => Ok(ran),
            _ => Err(unexpected()),
        }
    }

    /// Kills every process tree started under `group`, background ones too, and returns when all are gone.
    ///
    /// Gives how many trees that were. A container that has ended has none, so `Gone` may be taken for 0.
    pub async fn kill_group(&self, group: &str) -> Result<usize, Error> {
        match self.call(&Request::KillGroup { group: group.to_owned() }, KILL_LIMIT).await? {
            Reply::Killed { trees } => Ok(trees as usize),
            _ => Err(unexpected()),
        }
    }

    /// Kills everything that runs, since the disk is fuller than it may be, and returns when all is gone.
    ///
    /// Commands end as [`Exit::OverDisk`]. Gives how many process trees that were.
    pub(crate) async fn kill_over_disk(&self) -> Result<usize, Error> {
        match self.call(&Request::KillOverDisk, KILL_LIMIT).await? {
            Reply::Killed { trees } => Ok(trees as usize),
            _ => Err(unexpected()),
        }
    }

    pub(crate) fn uses(&self) -> &Arc<Uses> {
        &self.inner.uses
    }

    /// Tells whether the container is known to have ended.
    pub(crate) fn is_gone(&self) -> bool {
        self.inner.is_gone.load(Ordering::Relaxed)
    }

    pub(crate) fn set_gone(&self) {
        self.inner.is_gone.store(true, Ordering::Relaxed);
    }

    pub(crate) async fn ping(&self, limit: Duration) -> Result<guest_protocol::Pong, Error> {
        self.note(self.inner.guest.ping(limit).await)
    }

    /// Remembers an end that an answer brought to light.
    pub(crate) fn note<T>(&self, result: Result<T, Error>) -> Result<T, Error> {
        if matches!(result, Err(Error::Gone)) {
            self.set_gone();
        }
        result
    }

    pub(crate) async fn ask(&self, request: &Request) -> Result<crate::guest::Connection, Error> {
        self.inner.uses.touch();
        self.note(self.inner.guest.ask(request).await)
    }

    pub(crate) async fn call(&self, request: &Request, limit: Duration) -> Result<Reply, Error> {
        let mut connection = self.ask(request).await?;
        self.note(connection.reply(limit).await)
    }
}

fn spawn(command: Command) -> Spawn {
    Spawn {
        argv: command.argv,
        cwd: if command.cwd.is_empty() { crate::container::WORKSPACE.to_owned() } else { command.cwd },
        env: command.env,
        timeout_ms: command.timeout.map(|timeout| u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX)),
        group: command.group,
        stdin: command.stdin,
    }
}

#[cfg(test)]
mod tests {
    use super::Command;

    #[test]
    fn what_variables_hold_is_not_shown() {
        let env = vec![("TOKEN".to_owned(), "hunter2".to_owned())];
        let shown = format!("{:?}", Command { argv: vec!["true".to_owned()], env, ..Command::default() });
        assert!(shown.contains("TOKEN") && shown.contains("true") && !shown.contains("hunter2"), "{shown}");
    }
}
