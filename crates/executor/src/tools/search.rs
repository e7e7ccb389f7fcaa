//! Running ripgrep in the container: what Glob and Grep have in common.
//!
//! Results are taken one by one as they come, so a search that finds millions costs no memory here, and one that has found
//! enough is ended.

use std::{ops::ControlFlow, time::Duration};

use sandbox::{Command, Error, Exit, Stream};

use super::{Context, ToolError, for_model, text};

/// Runs ripgrep, which walks in parallel, and gives each file's time beside its name. The records end with NUL: a name may
/// hold anything else.
pub(super) const WITH_TIMES: &str = r#"rg "$@" | xargs -0 -r stat --printf '%.9Y %n\0'"#;

const TIME_LIMIT: Duration = Duration::from_secs(30);

/// A record longer than this is cut; paths and lines (see `--max-columns`) are shorter.
const MAX_RECORD_BYTES: usize = 64 * 1024;

const MAX_COMPLAINT_BYTES: usize = 2048;

/// How a search ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// Everything was searched.
    Complete,
    /// The caller had enough.
    Enough,
    TimedOut,
}

/// Runs `argv` in `cwd` and gives each of its output's records, ended by `separator`, to `take`.
///
/// `start` makes the state for `take`: anew if the container ended and the search is done again.
pub(super) async fn run<S>(
    cx: &Context,
    argv: Vec<String>,
    cwd: &str,
    separator: u8,
    start: impl Fn() -> S,
    take: impl Fn(&mut S, &[u8]) -> ControlFlow<()>,
) -> Result<(S, End), ToolError> {
    let command = Command {
        argv,
        cwd: cwd.to_owned(),
        env: Vec::new(),
        timeout: Some(TIME_LIMIT),
        group: cx.group.clone(),
        stdin: false,
    };
    let (command, start, take) = (&command, &start, &take);
    let found = cx.with_sandbox(|sandbox| async move {
        let mut process = sandbox.spawn(command.clone()).await?;
        let (mut state, mut record, mut complaint, mut found) = (start(), Vec::new(), Vec::new(), false);
        while let Some(chunk) = process.next().await? {
            if chunk.stream == Stream::Stderr {
                let room = MAX_COMPLAINT_BYTES.saturating_sub(complaint.len());
                complaint.extend_from_slice(&chunk.bytes[..chunk.bytes.len().min(room)]);
                continue;
            }
            let mut rest = &chunk.bytes[..];
            while let Some(end) = rest.iter().position(|&byte| byte == separator) {
                extend(&mut record, &rest[..end]);
                rest = &rest[end + 1..];
                found = true;
                if take(&mut state, &record).is_break() {
                    return Ok((state, End::Enough, None));
                }
                record.clear();
            }
            extend(&mut record, rest);
        }
        found |= !record.is_empty();
        if !record.is_empty() && take(&mut state, &record).is_break() {
            return Ok((state, End::Enough, None));
        }
        let end = if process.exit() == Some(Exit::TimedOut) { End::TimedOut } else { End::Complete };
        // Beside results, a file that went away meanwhile is of no interest.
        let complaint = Some(complaint).filter(|complaint| !found && !complaint.is_empty());
        Ok((state, end, complaint))
    });
    match found.await {
        Ok((_, End::Complete, Some(complaint))) => Err(refused(&complaint)),
        Ok((state, end, _)) => Ok((state, end)),
        Err(Error::NotFound(what)) if what == "rg" || what == "sh" => Err(no_ripgrep()),
        Err(err) => Err(err.into()),
    }
}

fn extend(record: &mut Vec<u8>, bytes: &[u8]) {
    let room = MAX_RECORD_BYTES.saturating_sub(record.len());
    record.extend_from_slice(&bytes[..bytes.len().min(room)]);
}

fn no_ripgrep() -> ToolError {
    for_model("This computer's image has no ripgrep (rg). Search with Bash instead (find, grep).")
}

fn refused(complaint: &[u8]) -> ToolError {
    let complaint = String::from_utf8_lossy(complaint);
    if complaint.contains("rg: not found") || complaint.contains("rg: command not found") {
        return no_ripgrep();
    }
    for_model(format!("The search failed: {}", text::shorten(complaint.trim(), 1000)))
}
