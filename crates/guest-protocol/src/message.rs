//! The JSON messages. Unknown fields are ignored, new fields have defaults, so a field can be added without a new
//! version; a change of meaning is a new [`VERSION`](crate::VERSION).

use serde::{Deserialize, Serialize};

/// What the host wants: the first frame of a connection. Paths are the container's, absolute.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum Request {
    Ping,
    Spawn(Spawn),
    /// Reads up to `limit` bytes from `offset`.
    ReadFile {
        path: String,
        offset: u64,
        limit: u64,
    },
    /// Replaces or creates a file of `size` bytes; parents are made, an existing file keeps its mode.
    WriteFile {
        path: String,
        size: u64,
    },
    /// Starts a command that outlives the connection; both its outputs are appended to the file `output`, which may grow
    /// by `output_limit` bytes before the command is killed.
    StartBackground {
        command: Spawn,
        output: String,
        output_limit: u64,
    },
    BackgroundStatus {
        task: String,
    },
    StopBackground {
        task: String,
    },
    /// Kills every process tree started under this group, background ones too, and answers when they are gone.
    KillGroup {
        group: String,
    },
    /// Kills everything that was started because the disk is fuller than it may be, and answers when it is gone. What is
    /// killed ends as `OverDisk`.
    KillOverDisk,
    /// Lists the TCP ports that something in the container listens on.
    Ports,
    /// Connects to what listens on a port; after `Connected` the connection carries `Data` both ways.
    Connect {
        port: u16,
    },
}

/// A command to start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spawn {
    /// Program (looked up in `PATH`) and arguments, at least the program.
    pub argv: Vec<String>,
    pub cwd: String,
    /// Set on top of the container's environment.
    #[serde(default)]
    pub env: Vec<(String, String)>,
    #[serde(default)]
    pub timeout_ms: Option<u64>,
    /// What `KillGroup` names; any text.
    pub group: String,
    /// Whether `Stdin` frames will come; without, the command reads an empty input.
    #[serde(default)]
    pub stdin: bool,
}

/// What the guest answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "snake_case")]
pub enum Reply {
    Pong(Pong),
    Started { pid: u32 },
    Exited { exit: Exit },
    File { size: u64, modified_ms: i64 },
    Written { created: bool, modified_ms: i64 },
    Background { task: String },
    Task(TaskState),
    Stopped { ran: bool },
    Killed { trees: u64 },
    Ports { ports: Vec<Port> },
    Connected,
    Failed(Failure),
}

/// A TCP port that something listens on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Port {
    pub port: u16,
    /// The process that listens, where the guest may see whose socket it is.
    #[serde(default)]
    pub pid: Option<u32>,
    /// That process's name, as it calls itself.
    #[serde(default)]
    pub process: Option<String>,
}

/// How the guest is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pong {
    /// Commands a host connection waits for.
    pub foreground: u64,
    /// Background commands that have not ended.
    pub background: u64,
    /// Ended commands that left processes behind.
    pub lingering: u64,
    /// Connections to ports that are open.
    #[serde(default)]
    pub forwards: u64,
}

/// A background command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskState {
    /// `None` while it runs.
    pub exit: Option<Exit>,
    pub output_bytes: u64,
}

/// What ended a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "by", content = "value", rename_all = "snake_case")]
pub enum Exit {
    Code(i32),
    Signal(i32),
    TimedOut,
    OutOfMemory,
    OverDisk,
    Killed,
}

/// Why a request was not done. The text is for a log or a model, not to be parsed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    pub code: FailureCode,
    pub message: String,
}

/// Kinds of failure a host acts upon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureCode {
    NotFound,
    IsDirectory,
    NotADirectory,
    PermissionDenied,
    TooLarge,
    DiskFull,
    /// Out of processes, memory, file descriptors or connections.
    Exhausted,
    /// Nothing listens there.
    Refused,
    #[serde(other)]
    Other,
}
