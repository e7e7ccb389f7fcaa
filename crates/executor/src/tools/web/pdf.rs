//! PDF files as text, by a program of their own: what reads one may end without ending the server.
//!
//! The program gets the file on standard input, writes the text of page after page to standard output, and ends with 0, with
//! [`ENCRYPTED`], or with anything else where it cannot go on. What it wrote until then counts.

use std::{ffi::OsString, process::Stdio, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    process::Command,
    sync::Semaphore,
    time::timeout,
};

/// The program's exit code for a file that wants a password.
pub const ENCRYPTED: u8 = 3;

const TIME_LIMIT: Duration = Duration::from_secs(20);
/// Of the text. What is beyond is cut like any page's.
const MAX_BYTES: u64 = 8 * 1024 * 1024;
/// How many files are read at once: each may take the memory that the program lets itself have.
const MAX_AT_ONCE: usize = 2;

/// Why a file gives no text, as the end of a sentence about it.
type Why = &'static str;

/// Runs the program. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Reader {
    /// With its arguments.
    command: Arc<[OsString]>,
    turns: Arc<Semaphore>,
}

impl Reader {
    pub(super) fn new(command: Vec<OsString>) -> Self {
        Self { command: command.into(), turns: Arc::new(Semaphore::new(MAX_AT_ONCE)) }
    }

    /// Gives the text of a PDF file, or why there is none.
    pub(super) async fn read(&self, bytes: &[u8]) -> Result<String, Why> {
        const UNREADABLE: Why = "is a PDF file that cannot be turned into text";
        if !bytes.starts_with(b"%PDF-") {
            return Err("says that it is a PDF file, but is none");
        }
        let (Some((program, arguments)), Ok(_turn)) = (self.command.split_first(), self.turns.acquire().await) else {
            return Err(UNREADABLE);
        };
        let spawned = Command::new(program)
            .args(arguments)
            // Nothing of ours is its business.
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn();
        let mut child = spawned.map_err(|err| {
            tracing::warn!(error = &err as &dyn std::error::Error, "cannot start the reader of PDF files");
            UNREADABLE
        })?;
        let Some((mut stdin, stdout)) = child.stdin.take().zip(child.stdout.take()) else { return Err(UNREADABLE) };
        let mut text = Vec::new();
        let work = async {
            let feed = async move {
                // One that has enough, or has ended, reads no more; its status tells.
                let _ = stdin.write_all(bytes).await;
            };
            let mut stdout = stdout.take(MAX_BYTES);
            let ((), read) = tokio::join!(feed, stdout.read_to_end(&mut text));
            read.ok()?;
            // It may still have something to say: nobody listens.
            drop(stdout);
            child.wait().await.ok()
        };
        let status = timeout(TIME_LIMIT, work).await.ok().flatten();
        if status.is_some_and(|status| status.code() == Some(i32::from(ENCRYPTED))) {
            return Err("is a PDF file that wants a password");
        }
        let is_whole = status.is_some_and(|status| status.success()) || text.len() as u64 == MAX_BYTES;
        let mut text = String::from_utf8_lossy(&text).into_owned();
        match (text.trim().is_empty(), is_whole) {
            (true, true) => return Err("is a PDF file without text: its pages may be pictures of text"),
            (true, false) => return Err(UNREADABLE),
            (false, true) => {}
            (false, false) => text.push_str("\n\n[The rest of the PDF file cannot be turned into text.]"),
        }
        Ok(text)
    }
}
