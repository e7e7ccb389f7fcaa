//! Running git: bounded in time and output, asking nobody, and again where another git held a lock.

use std::time::Duration;

use tokio::time::sleep;

use super::{Error, Options, Token, scrub};
use crate::{Command, Exit, Sandbox, Stream};

/// The most that is kept of what git complains about.
const MAX_COMPLAINT_BYTES: usize = 64 * 1024;
/// How often a command that found a lock is run again, each time after twice the wait: 6 s in all.
const MAX_RETRIES: u32 = 7;
const FIRST_WAIT: Duration = Duration::from_millis(50);

/// What holds for every command. English, so that what it complains about can be told apart.
const ENV: [(&str, &str); 9] = [
    ("LC_ALL", "C.UTF-8"),
    ("LANGUAGE", ""),
    ("GIT_TERMINAL_PROMPT", "0"),
    ("GIT_ASKPASS", "false"),
    ("SSH_ASKPASS", "false"),
    ("GIT_PAGER", "cat"),
    ("GIT_EDITOR", "true"),
    ("GIT_SSH_COMMAND", "ssh -o BatchMode=yes -o ConnectTimeout=10"),
    // What can run a program by its URL is not among them.
    ("GIT_ALLOW_PROTOCOL", "https:http:ssh:git:file"),
];

/// Settings of every command. Those of the command line win over a repository's own.
const CONFIG: [(&str, &str); 4] =
    [("core.quotePath", "false"), ("color.ui", "false"), ("core.fsmonitor", "false"), ("safe.directory", "*")];

const WITH_INPUT: &str = r#"input=$(mktemp) && trap 'rm -f "$input"' EXIT && cat >"$input" && git "$@" <"$input""#;

/// What a shell says of a program that is not there.
const NO_PROGRAM: i32 = 127;

/// One call of git, or of a script around it.
pub(super) struct Call {
    argv: Vec<String>,
    cwd: String,
    env: Vec<(String, String)>,
    input: Option<Vec<u8>>,
    token: Option<Token>,
    /// Reaches another machine.
    is_transfer: bool,
    /// Changes nothing, and so takes no locks.
    is_reading: bool,
}

impl Call {
    /// `args` are git's; what a client named must be checked, or stand behind `--`.
    pub(super) fn new<'a>(cwd: &str, args: impl IntoIterator<Item = &'a str>) -> Self {
        let argv = std::iter::once("git").chain(args).map(str::to_owned).collect();
        Self {
            argv,
            cwd: cwd.to_owned(),
            env: Vec::new(),
            input: None,
            token: None,
            is_transfer: false,
            is_reading: false,
        }
    }

    /// A shell script with its arguments.
    pub(super) fn script<'a>(cwd: &str, script: &'a str, args: impl IntoIterator<Item = &'a str>) -> Self {
        let mut call = Self::new(cwd, []);
        call.argv = ["sh", "-c", script, "git"].into_iter().chain(args).map(str::to_owned).collect();
        call
    }

    pub(super) fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Gives git an input, all of which is taken before git begins: it may end without having read it.
    pub(super) fn input(mut self, input: impl Into<Vec<u8>>) -> Self {
        self.input = Some(input.into());
        let git = std::mem::take(&mut self.argv);
        self.argv = ["sh", "-c", WITH_INPUT].map(str::to_owned).into_iter().chain(git).collect();
        self
    }

    /// Names files, whatever characters they hold, as the standard input of `--pathspec-from-file=-`.
    pub(super) fn files(self, files: &[String]) -> Self {
        self.env("GIT_LITERAL_PATHSPECS", "1").input(files.join("\0"))
    }

    pub(super) fn reading(mut self) -> Self {
        self.is_reading = true;
        self
    }

    pub(super) fn transfer(mut self, token: Option<&Token>) -> Self {
        self.is_transfer = true;
        self.token = token.cloned();
        self
    }
}

/// What a command that ended by itself has said.
pub(super) struct Output {
    pub(super) code: i32,
    pub(super) stdout: Vec<u8>,
    /// What it complains about, fit for a client.
    pub(super) complaint: String,
    /// It said more than is read, and was stopped.
    pub(super) is_cut: bool,
}

impl Output {
    /// Gives what was said, if all went well.
    pub(super) fn well(self) -> Result<Self, Error> {
        if self.code == 0 || self.is_cut { Ok(self) } else { Err(Error::Failed(self.complaint)) }
    }
}

pub(super) async fn run(
    sandbox: &Sandbox,
    options: &Options,
    env: &[(String, String)],
    call: Call,
) -> Result<Output, Error> {
    let timeout = if call.is_transfer { options.transfer_timeout } else { options.timeout };
    let command = Command {
        argv: call.argv.clone(),
        cwd: call.cwd.clone(),
        env: environment(env, &call),
        timeout: Some(timeout),
        group: "git".to_owned(),
        stdin: call.input.is_some(),
    };
    let mut wait = FIRST_WAIT;
    for retry in 0.. {
        let output = once(sandbox, options, &call, command.clone(), timeout).await?;
        if output.code == 0 || !is_locked(&output.complaint) {
            return Ok(output);
        }
        if retry == MAX_RETRIES {
            break;
        }
        sleep(wait).await;
        wait *= 2;
    }
    let message =
        "Another git works on this repository and holds its lock. If none does, remove the .lock file in .git";
    Err(Error::conflict("git_locked", message))
}

async fn once(
    sandbox: &Sandbox,
    options: &Options,
    call: &Call,
    command: Command,
    timeout: Duration,
) -> Result<Output, Error> {
    let mut process = sandbox.spawn(command).await.map_err(|err| match err {
        crate::Error::NotFound(what) if what == "git" => Error::NoGit,
        crate::Error::NotFound(what) | crate::Error::NotADirectory(what) if what == call.cwd => {
            Error::NoSuchDirectory(what.trim_start_matches("/workspace/").to_owned())
        }
        err => Error::Sandbox(err),
    })?;
    if let Some(input) = &call.input {
        for chunk in input.chunks(32 * 1024) {
            process.write_stdin(chunk).await?;
        }
        process.close_stdin().await?;
    }
    let (mut stdout, mut complaint) = (Vec::new(), Vec::new());
    while let Some(chunk) = process.next().await? {
        match chunk.stream {
            Stream::Stdout => stdout.extend_from_slice(&chunk.bytes),
            Stream::Stderr => {
                complaint.extend_from_slice(&chunk.bytes);
                // The end says why.
                let over = complaint.len().saturating_sub(MAX_COMPLAINT_BYTES);
                complaint.drain(..over);
            }
        }
        if stdout.len() > options.max_output_bytes {
            stdout.truncate(options.max_output_bytes);
            process.kill().await?;
            return Ok(Output { code: -1, stdout, complaint: String::new(), is_cut: true });
        }
    }
    let complaint = scrub::complaint(&complaint, call.token.as_ref());
    match process.exit() {
        Some(Exit::Code(NO_PROGRAM)) => Err(Error::NoGit),
        Some(Exit::Code(code)) => Ok(Output { code, stdout, complaint, is_cut: false }),
        Some(Exit::TimedOut) => Err(Error::TimedOut(timeout)),
        Some(Exit::OutOfMemory) => Err(Error::Failed("the computer's memory is not enough".to_owned())),
        Some(Exit::OverDisk) => Err(Error::Failed("the computer's disk is full".to_owned())),
        Some(Exit::Killed | Exit::Signal(_)) | None => Err(Error::Failed("it was killed".to_owned())),
    }
}

/// Gives the variables of a command, each once: those of the environment, and over them ours.
fn environment(env: &[(String, String)], call: &Call) -> Vec<(String, String)> {
    let mut config: Vec<(&str, &str)> = CONFIG.to_vec();
    let lent = call.token.as_ref().map(Token::config).unwrap_or_default();
    config.extend(lent.iter().map(|(key, value)| (key.as_str(), value.as_str())));
    let mut all: std::collections::BTreeMap<String, String> = env.iter().cloned().collect();
    // Where a repository is, is found by where we look.
    all.retain(|name, _| !matches!(name.as_str(), "GIT_DIR" | "GIT_WORK_TREE" | "GIT_INDEX_FILE"));
    all.extend(ENV.map(|(name, value)| (name.to_owned(), value.to_owned())));
    all.insert("GIT_CONFIG_COUNT".to_owned(), config.len().to_string());
    for (n, (key, value)) in config.into_iter().enumerate() {
        all.insert(format!("GIT_CONFIG_KEY_{n}"), key.to_owned());
        all.insert(format!("GIT_CONFIG_VALUE_{n}"), value.to_owned());
    }
    if call.is_reading {
        all.insert("GIT_OPTIONAL_LOCKS".to_owned(), "0".to_owned());
    }
    all.extend(call.token.as_ref().map(Token::variables).into_iter().flatten());
    all.extend(call.env.iter().cloned());
    all.into_iter().collect()
}

/// Tells whether git gave up because another one was at work.
fn is_locked(complaint: &str) -> bool {
    let is_held = complaint.contains(".lock': File exists")
        || complaint.contains("could not lock config file")
        || complaint.contains("cannot lock ref");
    // A branch `a/b` beside a branch `a` will not do the next time either.
    is_held && !complaint.contains("; cannot create")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_told_from_what_stays_wrong() {
        assert!(is_locked("fatal: Unable to create '/workspace/.git/index.lock': File exists."));
        assert!(is_locked("error: could not lock config file .git/config: File exists"));
        assert!(!is_locked("fatal: cannot lock ref 'refs/heads/a/b': 'refs/heads/a' exists; cannot create 'a/b'"));
        assert!(!is_locked("fatal: not a git repository"));
    }

    #[test]
    fn what_an_environment_sets_does_not_move_git_elsewhere() {
        let env = [("GIT_DIR", "/etc"), ("HTTPS_PROXY", "http://proxy"), ("GIT_ASKPASS", "/workspace/steal")];
        let env = env.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let all = environment(&env, &Call::new("/workspace", ["status"]));
        let get = |name: &str| all.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
        assert_eq!(get("GIT_DIR"), None);
        assert_eq!(get("HTTPS_PROXY"), Some("http://proxy"));
        assert_eq!(get("GIT_ASKPASS"), Some("false"));
        assert_eq!(get("GIT_CONFIG_COUNT"), Some("4"));
    }
}
