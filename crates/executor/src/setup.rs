//! The setup scripts of a message: run in the computer before the model is asked.
//!
//! They are steps like tool calls, shown as such, but nobody asked the model for them: what came out is told to it as
//! part of the message. A script is begun once. Its result is an entry of the transcript, so a run that is taken up again
//! goes on after the last result, and says of the script that was under way that its outcome is unknown.

use domain::event::{Event, Item, LogLevel, ToolCall, ToolResult};
use serde_json::value::to_raw_value;
use store::{leases::Checkpoint, transcript::Entry};
use tokio::time::Instant;

use crate::{
    computer::Computer,
    conversation::{self, USER},
    drive::Driver,
    error::End,
    tools::{Call, ToolError},
};

/// How the entry of a result begins; what is counted when a run is taken up again.
const RESULT: &str = "<system-reminder>\nSetup script ";

/// How long one script may take: what the tool allows at most.
const TIMEOUT_MS: u64 = 600_000;

/// How many scripts of this run have a result, and whether one more may have been begun.
pub(crate) fn count_results(entries: &[Entry], run: &domain::RunId) -> usize {
    let is_result = |entry: &&Entry| {
        entry.run_id == *run
            && entry.role == USER
            && claude::blocks::look_into(&entry.blocks).is_ok_and(|contents| contents.text.starts_with(RESULT))
    };
    entries.iter().filter(is_result).count()
}

impl Driver<'_> {
    /// Runs what is left of the setup scripts: those after the first `done`. `is_resumed` tells that the one after them
    /// may have been begun by an earlier attempt.
    pub(crate) async fn set_up(
        &mut self,
        conversation: &mut claude::Conversation,
        computer: &Computer,
        done: usize,
        is_resumed: bool,
    ) -> Result<(), End> {
        let scripts = &self.run.options.setup_scripts;
        let total = scripts.len();
        for (n, script) in scripts.iter().enumerate().skip(done) {
            let number = n + 1;
            let call = |result| {
                let input = to_raw_value(&serde_json::json!({"command": script})).expect("a string serialises");
                let id = format!("setup_{}_{number}", self.run.id);
                Item::ToolCall(ToolCall { id, name: "Setup".into(), input, result })
            };
            let (result, text) = if is_resumed && n == done {
                let text = "was interrupted: the server was stopped while it ran, or just before. Whether it had an effect \
                            is unknown, and it was not repeated. Look at the state before you go on.";
                let result = ToolResult { is_error: true, text: text.into(), duration_ms: 0, detail: None };
                (result, format!("{RESULT}{number} of {total} {text}\n</system-reminder>"))
            } else {
                // With what begins the run, before the script: whoever takes the run up sees that it was begun.
                let transcript = std::mem::take(&mut self.opening);
                let events = vec![Event::ItemStarted { item: call(None) }];
                self.checkpoint(Checkpoint { transcript, events, ..Checkpoint::default() }).await?;
                let begun = self.begin_step(std::iter::once(("Bash", None))).await?;
                let result = self.run_script(script, computer).await;
                self.end_step(begun, result.is_err());
                let result = result?;
                let how = if result.is_error { "failed" } else { "was run before you began" };
                let text =
                    format!("{RESULT}{number} of {total} {how}.\n$ {script}\n{}\n</system-reminder>", result.text);
                (result, text)
            };
            let is_error = result.is_error;
            let entry = conversation::text(&text);
            conversation::push(conversation, USER, &entry)?;
            let events = vec![Event::ItemCompleted { item: call(Some(result)) }];
            self.checkpoint(Checkpoint { transcript: vec![(USER, entry)], events, ..Checkpoint::default() }).await?;
            if is_error {
                let message = format!("Setup script {number} of {total} did not succeed; the run goes on without it.");
                self.log(LogLevel::Warning, "setup", message).await?;
            }
        }
        Ok(())
    }

    async fn run_script(&self, script: &str, computer: &Computer) -> Result<ToolResult, End> {
        let began_at = Instant::now();
        let input = serde_json::json!({"command": script, "timeout": TIMEOUT_MS});
        let input = to_raw_value(&input).expect("a string and a number serialise");
        let call = Call { name: "Bash", input: &input, stop: self.signal.token(), show: &|_| {} };
        let (is_error, text, detail) = match computer.call(call).await {
            Ok(outcome) => (outcome.is_error, outcome.to_text(), outcome.detail),
            Err(ToolError::ForModel(text)) => (true, text, None),
            Err(ToolError::Stopped) => return Err(self.signal.stopped().await.into()),
            Err(ToolError::Fatal(err)) => {
                let message = format!("The computer cannot be used: {err}.");
                return Err(End::caused("computer_unavailable", message)(err));
            }
        };
        let duration_ms = i64::try_from(began_at.elapsed().as_millis()).unwrap_or(i64::MAX);
        Ok(ToolResult { is_error, text, duration_ms, detail })
    }
}
