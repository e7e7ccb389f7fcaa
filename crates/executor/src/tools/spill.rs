//! The whole of a long output, in a file of the container where the model can search it.
//!
//! The bytes go back into the container through a `cat` there, as they come: nothing of them stays in this process, and
//! a command that writes faster than the disk takes it waits.

use sandbox::{Command, Error, Exit, Process, Sandbox};

use super::text;

/// The most that is kept, in bytes.
pub(super) const MAX_SPILL: u64 = 64 * 1024 * 1024;

/// A file being filled.
pub(super) struct Spill {
    process: Process,
    path: String,
    written: u64,
}

impl Spill {
    /// Starts a file with `begin` in it.
    pub(super) async fn start(sandbox: &Sandbox, group: &str, begin: &[u8]) -> Result<Self, Error> {
        let path = format!("/tmp/atelier-output/{}.txt", uuid::Uuid::now_v7().simple());
        // Where the disk is full the rest is read all the same, so that the writer here never finds a closed door.
        let script = r#"{ mkdir -p "${1%/*}" && cat >"$1"; } || { cat >/dev/null; exit 1; }"#;
        let command = Command {
            argv: ["sh", "-c", script, "sh", &path].map(String::from).to_vec(),
            cwd: "/".into(),
            group: group.to_owned(),
            stdin: true,
            ..Command::default()
        };
        let mut spill = Self { process: sandbox.spawn(command).await?, path, written: 0 };
        spill.push(begin).await?;
        Ok(spill)
    }

    /// Appends to the file, up to its limit.
    pub(super) async fn push(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let room = usize::try_from(MAX_SPILL - self.written).unwrap_or(usize::MAX);
        let fits = &bytes[..bytes.len().min(room)];
        if fits.is_empty() {
            return Ok(());
        }
        self.written += fits.len() as u64;
        self.process.write_stdin(fits).await
    }

    /// Ends the file and says where it is, or why it is not all there.
    pub(super) async fn finish(mut self, all_bytes: u64) -> Result<String, Error> {
        self.process.close_stdin().await?;
        let mut complaint = String::new();
        while let Some(chunk) = self.process.next().await? {
            if complaint.len() < 300 {
                complaint.push_str(&String::from_utf8_lossy(&chunk.bytes));
            }
        }
        let Self { path, written, .. } = self;
        Ok(match self.process.exit() {
            Some(Exit::Code(0)) if written < all_bytes => {
                format!("Its first {} of {} are in {path}", text::size(written), text::size(all_bytes))
            }
            Some(Exit::Code(0)) => format!("The whole output ({}) is in {path}", text::size(all_bytes)),
            _ => format!("The whole output could not be kept: {}", text::shorten(complaint.trim(), 300)),
        })
    }
}
