//! Writing a run's progress: every commit of a run but the claim goes through here.

use std::time::Duration;

use claude::ToolUse;
use domain::{
    event::{Event, Item, LogLevel, ToolResult},
    run::Outcome,
};
use store::leases::Checkpoint;
use tokio::time::Instant;

use crate::{
    conversation::{self, USER},
    drive::Driver,
    error::End,
    reply::to_tool_call,
};

impl Driver<'_> {
    /// Says something to the model that the user did not.
    pub(crate) async fn nudge(&mut self, conversation: &mut claude::Conversation, text: &str) -> Result<(), End> {
        let entry = conversation::text(&format!("<system-reminder>\n{text}\n</system-reminder>"));
        conversation::push(conversation, USER, &entry)?;
        self.checkpoint(Checkpoint { transcript: vec![(USER, entry)], ..Checkpoint::default() }).await
    }

    /// Answers calls that were not made, or of which nobody knows whether they were.
    pub(crate) async fn answer_all(
        &mut self,
        calls: &[ToolUse],
        text: &str,
        conversation: Option<&mut claude::Conversation>,
    ) -> Result<(), End> {
        if calls.is_empty() {
            return Ok(());
        }
        let transcript: Vec<_> = calls.iter().map(|call| (USER, conversation::answer(&call.id, text, true))).collect();
        if let Some(conversation) = conversation {
            for (role, entry) in &transcript {
                conversation::push(conversation, role, entry)?;
            }
        }
        let result = ToolResult { is_error: true, text: text.to_owned(), duration_ms: 0, detail: None };
        let events = calls
            .iter()
            .map(|call| Event::ItemCompleted { item: Item::ToolCall(to_tool_call(call, Some(result.clone()))) })
            .collect();
        // An answer is the end of it, also where it was asked about.
        let taken = calls.iter().map(|call| call.id.clone()).collect();
        let calls = i32::try_from(calls.len()).unwrap_or(i32::MAX);
        self.checkpoint(Checkpoint { transcript, events, calls, taken, ..Checkpoint::default() }).await
    }

    /// After a stop: no process of the run is left, and no call without an answer, so that the thread can go on. `what`
    /// happened is told to the model.
    pub(crate) async fn wind_up(&mut self, what: &str) -> Result<(), End> {
        match self.parts.sandboxes.kill_group(&self.run.environment_id, self.run.id.as_str()).await {
            Ok(0) => {}
            Ok(killed) => tracing::info!(killed, "killed the processes of the stopped run"),
            Err(err) => tracing::error!(error = &err as &dyn std::error::Error, "cannot kill the run's processes"),
        }
        self.keep_opening(&format!("{what} before you replied.")).await?;
        let calls = std::mem::take(&mut self.open);
        self.answer_all(&calls, &format!("{what} before this call had a result."), None).await
    }

    /// Commits the run's first entries where no reply did, so that the next run's model knows what was asked.
    pub(crate) async fn keep_opening(&mut self, note: &str) -> Result<(), End> {
        if self.opening.is_empty() {
            return Ok(());
        }
        let mut transcript = std::mem::take(&mut self.opening);
        transcript.push((USER, conversation::text(&format!("<system-reminder>\n{note}\n</system-reminder>"))));
        self.checkpoint(Checkpoint { transcript, ..Checkpoint::default() }).await
    }

    /// Appends an event.
    pub(crate) async fn record(&mut self, event: Event) -> Result<(), End> {
        self.checkpoint(Checkpoint { events: vec![event], ..Checkpoint::default() }).await
    }

    /// Appends events, if there are any.
    pub(crate) async fn record_all(&mut self, events: Vec<Event>) -> Result<(), End> {
        if events.is_empty() {
            return Ok(());
        }
        self.checkpoint(Checkpoint { events, ..Checkpoint::default() }).await
    }

    /// Appends a line for people.
    pub(crate) async fn log(&mut self, level: LogLevel, topic: &str, message: String) -> Result<(), End> {
        self.record(Event::Log { level, topic: topic.to_owned(), message }).await
    }

    /// Commits progress. While the database is away it is tried again, as long as the lease may still be ours.
    pub(crate) async fn checkpoint(&mut self, checkpoint: Checkpoint) -> Result<(), End> {
        let began_at = Instant::now();
        loop {
            match self.parts.store.checkpoint(self.lease, &checkpoint).await {
                Ok(sequence) => {
                    self.last_sequence = sequence;
                    return Ok(());
                }
                Err(err) if err.is_unavailable() && began_at.elapsed() < self.parts.options.lease => {
                    tracing::warn!(error = &err as &dyn std::error::Error, "cannot commit, trying again");
                    tokio::time::sleep(Duration::from_millis(250)).await;
                }
                Err(err) => return Err(err.into()),
            }
        }
    }

    pub(crate) async fn finish(&mut self, outcome: &Outcome) -> Result<(), End> {
        let began_at = Instant::now();
        loop {
            match self.parts.store.finish_run(self.lease, outcome, self.spent).await {
                Ok(()) => return Ok(()),
                Err(err) if err.is_unavailable() && began_at.elapsed() < self.parts.options.lease => {
                    tracing::warn!(error = &err as &dyn std::error::Error, "cannot finish the run, trying again");
                    tokio::time::sleep(Duration::from_millis(250)).await;
                }
                Err(err) => return Err(err.into()),
            }
        }
    }
}
