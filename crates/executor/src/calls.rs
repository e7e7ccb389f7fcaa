//! The tool calls of one reply: made in the model's order, side by side where they only look, each result committed as
//! it comes.

use claude::{
    ToolUse,
    blocks::{self, NewBlock},
};
use domain::event::{Delta, Event, Item, ToolResult};
use futures::{StreamExt, stream::FuturesUnordered};
use store::leases::Checkpoint;
use tokio::time::Instant;

use crate::{
    computer::Computer,
    conversation::{self, USER},
    drive::Driver,
    error::End,
    reply::to_tool_call,
    steps,
    tools::{Call, Outcome, ResultBlock, ToolError},
};

impl Driver<'_> {
    /// Makes the calls and appends their results to the conversation.
    ///
    /// A call whose result is not committed stays in `self.open`.
    pub(crate) async fn call_tools(
        &mut self,
        calls: Vec<ToolUse>,
        conversation: &mut claude::Conversation,
        computer: &Computer,
    ) -> Result<(), End> {
        let begun = self.begin_step(steps::of_reply(&calls)).await?;
        let made = self.make_calls(&calls, conversation, computer).await;
        self.end_step(begun, made.is_err());
        made
    }

    async fn make_calls(
        &mut self,
        calls: &[ToolUse],
        conversation: &mut claude::Conversation,
        computer: &Computer,
    ) -> Result<(), End> {
        let groups = calls.chunk_by(|a, b| computer.is_parallel_safe(&a.name) && computer.is_parallel_safe(&b.name));
        for group in groups {
            // From this commit on nobody knows what became of them, until their results are there.
            let is_approved = |call: &&ToolUse| self.approved.iter().any(|approved| approved.call_id == call.id);
            let taken: Vec<_> = group.iter().filter(is_approved).map(|call| call.id.clone()).collect();
            if !taken.is_empty() {
                self.checkpoint(Checkpoint { taken, ..Checkpoint::default() }).await?;
            }
            let (store, lease, after, signal) = (&self.parts.store, &*self.lease, self.last_sequence, self.signal);
            // Output that comes while a call runs goes to those who watch, ordered after what is committed by now.
            let shows: Vec<_> = group
                .iter()
                .map(|call| {
                    let (store, thread, run) = (store.clone(), lease.thread_id.clone(), lease.run_id.clone());
                    let call_id = call.id.clone();
                    move |text: String| {
                        let delta = Delta::ToolOutput { call_id: call_id.clone(), text };
                        store.hub().send_delta(&thread, &run, after, delta);
                    }
                })
                .collect();
            let mut running: FuturesUnordered<_> = group
                .iter()
                .zip(&shows)
                .map(|(call, show)| async move {
                    let began_at = Instant::now();
                    let result = match &call.input {
                        Ok(input) => {
                            let name = &call.name;
                            computer.call(Call { name, input, stop: signal.token(), show }).await
                        }
                        Err(text) => Err(ToolError::ForModel(format!(
                            "The input of this call is not valid JSON and the call was not made. It was: {text}"
                        ))),
                    };
                    (call, result, began_at.elapsed())
                })
                .collect();
            while let Some((call, result, duration)) = running.next().await {
                let mut outcome = match result {
                    Ok(outcome) => outcome,
                    Err(ToolError::ForModel(text)) => Outcome { is_error: true, ..Outcome::text(text, None) },
                    Err(ToolError::Stopped) => return Err(signal.stopped().await.into()),
                    Err(ToolError::Fatal(err)) => {
                        return Err(End::caused("computer_unavailable", why_unavailable(&err))(err));
                    }
                };
                let approved = self.approved.iter().find(|approved| approved.call_id == call.id);
                if let Some(note) = approved.and_then(|approved| approved.note.clone()) {
                    outcome.content.insert(0, ResultBlock::Text(note));
                }
                let entry = to_entry(call, &outcome);
                conversation::push(conversation, USER, &entry)?;
                let result = ToolResult {
                    is_error: outcome.is_error,
                    text: outcome.to_text(),
                    duration_ms: i64::try_from(duration.as_millis()).unwrap_or(i64::MAX),
                    detail: outcome.detail,
                };
                let item = Item::ToolCall(to_tool_call(call, Some(result)));
                self.spent.cost = self.spent.cost + outcome.cost;
                self.checkpoint(Checkpoint {
                    transcript: vec![(USER, entry)],
                    events: vec![Event::ItemCompleted { item }],
                    calls: 1,
                    cost: outcome.cost,
                    ..Checkpoint::default()
                })
                .await?;
                self.open.retain(|open| open.id != call.id);
            }
        }
        Ok(())
    }
}

/// Says to the user why no call can succeed. The engine's own words, with its names and paths, are for the log.
fn why_unavailable(err: &sandbox::Error) -> String {
    match err {
        sandbox::Error::NoEngine(_) => "The computer cannot be started: no container engine answers.".into(),
        sandbox::Error::NoImage(name) => format!("The computer cannot be started: there is no image '{name}'."),
        sandbox::Error::ImageRefused(name) => {
            format!("The computer cannot be started: environments may not use the image '{name}' here.")
        }
        sandbox::Error::Unfiltered(_) => {
            "The computer cannot be started with internet access: this host cannot keep it \
                                          from private networks. Set internetAccess to false, or ask the operator."
                .into()
        }
        _ => "The computer could not be started.".into(),
    }
}

/// Makes the transcript's entry of a result.
fn to_entry(call: &ToolUse, outcome: &Outcome) -> String {
    let content: Vec<_> = outcome
        .content
        .iter()
        // The API refuses empty text.
        .filter(|block| !matches!(block, ResultBlock::Text(text) if text.trim().is_empty()))
        .map(ResultBlock::to_block)
        .collect();
    if content.is_empty() {
        return conversation::answer(&call.id, "", outcome.is_error);
    }
    blocks::to_json(&[NewBlock::ToolResult { tool_use_id: &call.id, content, is_error: outcome.is_error }])
}
