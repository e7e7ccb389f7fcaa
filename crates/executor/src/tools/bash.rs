//! Bash: runs a command in the container.
//!
//! Each call is a shell of its own; only the working directory goes on from call to call. Standard error is joined to
//! standard output inside the container, so both come in the order in which they were written.

use std::time::Duration;

use domain::event::Detail;
use sandbox::{Command, Error, Exit, Process, Sandbox};
use serde::Deserialize;
use tokio::time::{Instant, sleep_until, timeout};

use super::{
    Call, Context, Definition, Outcome, ToolError, background,
    context::WORKSPACE,
    for_model,
    input::{self, boolean, number},
    output::{MAX_INLINE_CHARS, Output, Shown},
    progress::Progress,
    spill::Spill,
    text,
};

pub(super) const DEFINITION: Definition = (
    "Bash",
    "Runs a command with bash in the computer and gives its output, standard error included, in the order in which it \
     was written. Non-interactive: standard input is empty, so pass what a program would ask for (-y, --no-input).

- Each call is a new shell: variables, functions and aliases are gone with the next call; only the working directory \
stays. It begins as /workspace.
- timeout is in milliseconds, 120000 by default and 600000 at most; when it is over, the command is killed with \
everything it started.
- Output of more than 30000 characters is given as its beginning and end, and the whole is written to a file that is \
named in the result. Escape sequences are removed, and progress bars appear as their last state.
- A command that exits with another code than 0 is an error that begins with `Exit code N`.
- For what does not end by itself (servers, watchers) set run_in_background. You get a task id and a file to which the \
output goes: read it with Read, end the task with TaskStop. A background task has no time limit unless you give timeout, \
and goes on after your reply. Starting with `&` works too, with the output redirected to a file.
- Use Read, Write, Edit, Glob and Grep instead of cat, echo, sed, find and grep: they are faster and their results are \
easier to work with.
- description says in five to ten words what the command does, for the people who watch.",
    r#"{"type":"object","properties":{"command":{"type":"string","description":"The command to run"},"timeout":{"type":"integer","description":"Time limit in milliseconds (default 120000, at most 600000)"},"description":{"type":"string","description":"What the command does, in five to ten words"},"run_in_background":{"type":"boolean","description":"Start the command and return at once"}},"required":["command"],"additionalProperties":false}"#,
);

const DEFAULT_TIMEOUT_MS: u64 = 120_000;
const MAX_TIMEOUT_MS: u64 = 600_000;
const MAX_BACKGROUND_TIMEOUT_MS: u64 = 7_200_000;

/// The kernel takes 128 KiB for one argument.
const MAX_COMMAND_BYTES: usize = 100_000;

/// Raw output kept here before it is known whether it needs a file.
const MAX_HELD_BYTES: usize = 256 * 1024;

/// How long killing may take until a stopped call returns all the same; what is left is the group's end.
const KILL_LIMIT: Duration = Duration::from_secs(2);

/// Notes where the shell was when it ended, however it ended, without a process more. One line, so that the lines in the
/// shell's complaints are the command's own.
const FOREGROUND: &str = r#"exec 2>&1; trap 'pwd -P >"$ATELIER_CWD" 2>/dev/null' EXIT; eval "$1""#;

const BACKGROUND: &str = "eval \"$1\"";

/// For programs that would ask a person, or draw for one.
const ENV: [(&str, &str); 7] = [
    ("TERM", "dumb"),
    ("PAGER", "cat"),
    ("GIT_PAGER", "cat"),
    ("GIT_EDITOR", "true"),
    ("GIT_TERMINAL_PROMPT", "0"),
    ("DEBIAN_FRONTEND", "noninteractive"),
    ("PYTHONUNBUFFERED", "1"),
];

#[derive(Deserialize)]
struct Input {
    command: String,
    #[serde(default, deserialize_with = "number")]
    timeout: Option<u64>,
    #[serde(default, deserialize_with = "boolean")]
    run_in_background: Option<bool>,
}

pub(super) async fn call(cx: &Context, call: Call<'_>) -> Result<Outcome, ToolError> {
    let input: Input = input::parse("Bash", call.input)?;
    check(&input)?;
    let sandbox = tokio::select! {
        biased;
        () = call.stop.cancelled() => return Err(ToolError::Stopped),
        sandbox = cx.sandbox() => sandbox?,
    };
    if input.run_in_background.unwrap_or(false) {
        let timeout = input.timeout.map(Duration::from_millis);
        let command = command(cx, BACKGROUND, &input.command, timeout);
        return background::start(cx, &sandbox, command, &input.command).await;
    }
    let limit = Duration::from_millis(input.timeout.unwrap_or(DEFAULT_TIMEOUT_MS));
    let command = command(cx, FOREGROUND, &input.command, Some(limit));
    let (sandbox, process) = tokio::select! {
        biased;
        // The process dies with the connection that asked for it.
        () = call.stop.cancelled() => return Err(ToolError::Stopped),
        spawned = spawn(cx, sandbox, command) => spawned?,
    };
    let ran = follow(cx, &call, &sandbox, process).await?;
    note_cwd(cx, &sandbox).await;
    Ok(outcome(&input.command, limit, ran))
}

fn check(input: &Input) -> Result<(), ToolError> {
    let in_background = input.run_in_background.unwrap_or(false);
    let most = if in_background { MAX_BACKGROUND_TIMEOUT_MS } else { MAX_TIMEOUT_MS };
    match input.timeout {
        _ if input.command.trim().is_empty() => Err(for_model("command is empty.")),
        _ if input.command.contains('\0') => Err(for_model("command holds a NUL character.")),
        _ if input.command.len() > MAX_COMMAND_BYTES => Err(for_model(format!(
            "command is longer than {MAX_COMMAND_BYTES} bytes. Write it to a file with Write and run that."
        ))),
        Some(0) => Err(for_model("timeout must be at least 1 millisecond.")),
        Some(timeout) if timeout > most && in_background => {
            Err(for_model(format!("timeout must be at most {most} milliseconds.")))
        }
        Some(timeout) if timeout > most => Err(for_model(format!(
            "timeout must be at most {most} milliseconds. For longer work set run_in_background."
        ))),
        _ => Ok(()),
    }
}

fn command(cx: &Context, script: &str, text: &str, timeout: Option<Duration>) -> Command {
    let defaults = ENV.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let mut env: Vec<_> = defaults.chain(cx.env.iter().cloned()).collect();
    env.push(("ATELIER_CWD".to_owned(), cwd_file(cx)));
    Command {
        argv: ["bash", "-c", script, "bash", text].map(str::to_owned).to_vec(),
        cwd: cx.cwd(),
        env,
        timeout,
        group: cx.group.clone(),
        stdin: false,
    }
}

async fn spawn(cx: &Context, sandbox: Sandbox, mut command: Command) -> Result<(Sandbox, Process), ToolError> {
    match sandbox.spawn(command.clone()).await {
        Ok(process) => Ok((sandbox, process)),
        Err(Error::NotFound(what) | Error::NotADirectory(what)) if what == command.cwd && what != WORKSPACE => {
            cx.set_cwd(WORKSPACE.to_owned());
            Err(for_model(format!(
                "The working directory {what} does not exist any more. The command was not run. The working directory \
                 is {WORKSPACE} again."
            )))
        }
        Err(Error::NotFound(what)) if what == "bash" => {
            // An image of the user's own choice may have nothing but a POSIX shell.
            "sh".clone_into(&mut command.argv[0]);
            Ok((sandbox.clone(), sandbox.spawn(command).await?))
        }
        Err(err) => Err(err.into()),
    }
}

struct Ran {
    exit: Exit,
    shown: Shown,
    lines: u64,
    /// Where the whole of a long output is.
    whole: Option<String>,
}

/// Takes the command's output until it has ended, or kills it.
async fn follow(cx: &Context, call: &Call<'_>, sandbox: &Sandbox, mut process: Process) -> Result<Ran, ToolError> {
    let mut output = Output::redacted(cx.redactor.clone());
    let mut progress = Progress::new(call.show);
    let mut held: Vec<u8> = Vec::new();
    let mut spill: Option<Result<Spill, Error>> = None;
    let stopped = call.stop.cancelled();
    tokio::pin!(stopped);
    loop {
        let due_at = progress.due_at();
        let chunk = tokio::select! {
            biased;
            () = &mut stopped => {
                // Dropping what is late kills it too.
                let _ = timeout(KILL_LIMIT, process.kill()).await;
                return Err(ToolError::Stopped);
            }
            () = async { sleep_until(due_at.expect("guarded")).await }, if due_at.is_some() => {
                progress.flush(Instant::now());
                continue;
            }
            chunk = process.next() => chunk?,
        };
        let Some(chunk) = chunk else { break };
        progress.push(&output.push(&chunk.bytes));
        let keep = async {
            match &mut spill {
                None if !output.is_long() && held.len() + chunk.bytes.len() <= MAX_HELD_BYTES => {
                    held.extend_from_slice(&chunk.bytes);
                }
                None => {
                    held.extend_from_slice(&chunk.bytes);
                    spill = Some(Spill::start(sandbox, &cx.group, &std::mem::take(&mut held)).await);
                }
                Some(Ok(file)) => {
                    if let Err(err) = file.push(&chunk.bytes).await {
                        spill = Some(Err(err));
                    }
                }
                Some(Err(_)) => {}
            }
        };
        tokio::select! {
            biased;
            () = &mut stopped => {
                let _ = timeout(KILL_LIMIT, process.kill()).await;
                return Err(ToolError::Stopped);
            }
            () = keep => {}
        }
    }
    progress.flush(Instant::now());
    output.end();
    if spill.is_none() && output.is_long() {
        spill = Some(Spill::start(sandbox, &cx.group, &held).await);
    }
    let whole = match spill {
        None => None,
        Some(Ok(file)) => Some(file.finish(output.bytes()).await),
        Some(Err(err)) => Some(Err(err)),
    };
    let whole = whole.map(|result| result.unwrap_or_else(|err| format!("The whole output could not be kept: {err}")));
    let exit = process.exit().expect("next() gave None, so the exit is known");
    let (shown, lines) = output.finish();
    Ok(Ran { exit, shown, lines, whole })
}

/// The file to which a run's shells write where they were. Commands of one run never overlap.
fn cwd_file(cx: &Context) -> String {
    format!("/tmp/.atelier-cwd-{}", cx.group)
}

async fn note_cwd(cx: &Context, sandbox: &Sandbox) {
    // Without a readable answer the directory stays what it was: the shell was killed, or replaced itself.
    let Ok(file) = sandbox.read_file(&cwd_file(cx), 0, 8192).await else { return };
    let Ok(cwd) = std::str::from_utf8(&file.bytes) else { return };
    let cwd = cwd.strip_suffix('\n').unwrap_or(cwd);
    if cwd.starts_with('/') && cwd.len() <= 4096 && !cwd.contains('\0') {
        cx.set_cwd(cwd.to_owned());
    }
}

fn outcome(command: &str, limit: Duration, ran: Ran) -> Outcome {
    let Ran { exit, shown, lines, whole } = ran;
    let (code, first) = match exit {
        Exit::Code(0) => (Some(0), None),
        Exit::Code(code) => (Some(code), Some(format!("Exit code {code}"))),
        Exit::Signal(signal) => {
            (Some(128 + signal), Some(format!("Exit code {}\nThe shell was ended by signal {signal}.", 128 + signal)))
        }
        Exit::TimedOut => (None, Some(format!("Command timed out after {}", duration(limit)))),
        Exit::OutOfMemory => (
            Some(137),
            Some("Exit code 137\nThe command was killed because the computer ran out of memory.".to_owned()),
        ),
        Exit::OverDisk => (
            Some(137),
            Some(
                "Exit code 137\nEverything that ran was killed because the computer's disk is fuller than it may be. \
                 Remove what is not needed before you go on."
                    .to_owned(),
            ),
        ),
        Exit::Killed => (None, Some("The command was killed from outside.".to_owned())),
    };
    let output = match (shown, whole) {
        (Shown::Whole(text), None) => text,
        // Short as text, but made of many bytes.
        (Shown::Whole(text), Some(whole)) => format!("{text}\n[{whole}.]"),
        (Shown::Parts { head, tail, left_out_chars }, whole) => {
            let whole = whole.unwrap_or_else(|| "The rest was not kept".to_owned());
            format!(
                "{}\n\n[{left_out_chars} characters left out here, more than {MAX_INLINE_CHARS} came ({lines} lines). \
                 {whole}; look into it with Read (offset, limit) or Grep.]\n\n{tail}",
                head.trim_end_matches('\n')
            )
        }
    };
    let output = output.trim_end().trim_start_matches('\n');
    let text = match (&first, output) {
        (None, "") => "(The command ended without output.)".to_owned(),
        (None, output) => output.to_owned(),
        (Some(first), "") => first.clone(),
        (Some(first), output) => format!("{first}\n{output}"),
    };
    let detail = Detail::Command {
        command: text::shorten(command, 4000),
        exit_code: code,
        output: text::cap(output.to_owned(), MAX_INLINE_CHARS),
    };
    Outcome { is_error: first.is_some(), ..Outcome::text(text, Some(detail)) }
}

/// Says a time limit as people do.
fn duration(limit: Duration) -> String {
    match limit.as_millis() {
        ms if ms < 1000 => format!("{ms}ms"),
        ms if ms < 60_000 => format!("{}s", limit.as_secs_f64()),
        ms => format!("{}m {}s", ms / 60_000, ms % 60_000 / 1000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ran(exit: Exit, text: &str) -> Ran {
        Ran { exit, shown: Shown::Whole(text.to_owned()), lines: 1, whole: None }
    }

    #[test]
    fn how_a_command_ended_is_said_in_words() {
        let limit = Duration::from_secs(120);
        for (exit, text, expected, code) in [
            (Exit::Code(0), "hi\n", "hi", Some(0)),
            (Exit::Code(0), "\n\n  indented\n", "  indented", Some(0)),
            (Exit::Code(0), "", "(The command ended without output.)", Some(0)),
            (Exit::Code(2), "bad\n", "Exit code 2\nbad", Some(2)),
            (Exit::Code(1), "", "Exit code 1", Some(1)),
            (Exit::Signal(11), "", "Exit code 139\nThe shell was ended by signal 11.", Some(139)),
            (Exit::TimedOut, "half", "Command timed out after 2m 0s\nhalf", None),
            (
                Exit::OutOfMemory,
                "x",
                "Exit code 137\nThe command was killed because the computer ran out of memory.\nx",
                Some(137),
            ),
            (Exit::Killed, "", "The command was killed from outside.", None),
        ] {
            let outcome = outcome("c", limit, ran(exit, text));
            assert_eq!(outcome.to_text(), expected);
            assert_eq!(outcome.is_error, exit != Exit::Code(0));
            assert!(matches!(outcome.detail, Some(Detail::Command { exit_code, .. }) if exit_code == code));
        }
        assert_eq!(duration(Duration::from_millis(500)), "500ms");
        assert_eq!(duration(Duration::from_millis(1500)), "1.5s");
    }
}
