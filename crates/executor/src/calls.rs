//! The tool calls of one reply: made in the model's order, side by side where they only look, each result committed as
//! it comes.

use std::sync::Arc;

use claude::{
    ToolUse,
    blocks::{self, NewBlock},
};
use domain::{
    event::{Delta, Event, Item, ToolResult},
    run::Spent,
};
use futures::{StreamExt, stream::FuturesUnordered};
use store::{leases::Checkpoint, permissions::Parking};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::{
    agents::{Agents, Made},
    computer::Computer,
    conversation::{self, USER},
    drive::Driver,
    error::End,
    measure,
    reply::to_tool_call,
    spans, steps,
    stop::Stop,
    tools::{self, Call, Outcome, ResultBlock, ToolError},
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
        let mut groups = groups.peekable();
        while let Some(group) = groups.next() {
            // From this commit on nobody knows what became of them, until their results are there.
            let is_approved = |call: &&ToolUse| self.approved.iter().any(|approved| approved.call_id == call.id);
            let taken: Vec<_> = group.iter().filter(is_approved).map(|call| call.id.clone()).collect();
            if !taken.is_empty() {
                self.checkpoint(Checkpoint { taken, ..Checkpoint::default() }).await?;
            }
            let mut calls: Vec<&ToolUse> = group.iter().collect();
            loop {
                let left = self.make_group(&calls, conversation, computer).await?;
                if left.is_empty() {
                    break;
                }
                // Those whose agents wait for somebody. The run waits too, unless it has more to do.
                self.wait_for_agents(groups.peek().is_none()).await?;
                calls = left;
            }
        }
        Ok(())
    }

    /// Makes calls side by side, and gives those whose agents wait for somebody's decision.
    async fn make_group<'a>(
        &mut self,
        calls: &[&'a ToolUse],
        conversation: &mut claude::Conversation,
        computer: &Computer,
    ) -> Result<Vec<&'a ToolUse>, End> {
        let (store, lease, after, signal) = (&self.parts.store, &*self.lease, self.last_sequence, self.signal);
        let (agents, is_shown) = (self.agents.clone(), self.branch().is_none());
        // Output that comes while a call runs goes to those who watch, ordered after what is committed by now.
        let shows: Vec<_> = calls
            .iter()
            .map(|call| {
                let (store, thread, run) = (store.clone(), lease.thread_id.clone(), lease.run_id.clone());
                let call_id = call.id.clone();
                move |text: String| {
                    if is_shown {
                        let delta = Delta::ToolOutput { call_id: call_id.clone(), text };
                        store.hub().send_delta(&thread, &run, after, delta);
                    }
                }
            })
            .collect();
        let mut running: FuturesUnordered<_> = calls
            .iter()
            .zip(&shows)
            .map(|(call, show)| {
                let agents = agents.clone();
                async move {
                    let (began_at, span) = (Instant::now(), spans::tool(call));
                    let making = make(call, agents.as_ref(), computer, signal.token(), show);
                    let made = making.instrument(span.clone()).await;
                    let took = began_at.elapsed();
                    spans::end_tool(&span, &made);
                    measure::tool(took, &made);
                    (*call, made, took)
                }
            })
            .collect();
        let (mut waiting, mut end) = (Vec::new(), None);
        while let Some((call, made, duration)) = running.next().await {
            let result = match made {
                Made::Result(result) => result,
                Made::Left(End::Stop(Stop::Waiting)) => {
                    waiting.push(call);
                    continue;
                }
                // The others come to their end first.
                Made::Left(left) => {
                    end.get_or_insert(left);
                    continue;
                }
            };
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
            self.note_sources(call.input.as_deref().ok(), outcome.detail.as_ref()).await?;
            let entry = to_entry(call, &outcome);
            conversation::push(conversation, USER, &entry)?;
            let result = ToolResult {
                is_error: outcome.is_error,
                text: outcome.to_text(),
                duration_ms: i64::try_from(duration.as_millis()).unwrap_or(i64::MAX),
                detail: outcome.detail,
            };
            let item = Item::ToolCall(to_tool_call(call, Some(result)));
            self.spend(Spent { cost: outcome.cost, ..Spent::default() });
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
        match end {
            Some(end) => Err(end),
            None => Ok(waiting),
        }
    }

    /// Waits with agents that wait for somebody: without a worker, where the run has nothing else to do.
    async fn wait_for_agents(&mut self, may_park: bool) -> Result<(), End> {
        if self.soft.is_cancelled() {
            return Err(Stop::ShuttingDown.into());
        }
        if may_park {
            match self.parts.store.park_for_agents(self.lease).await? {
                Parking::Parked => return Err(Stop::Waiting.into()),
                // Somebody has decided, or an agent in the background still works.
                Parking::Decided => {}
                Parking::CancelRequested => return Err(self.signal.stopped().await.into()),
            }
        }
        self.signal.or(tokio::time::sleep(self.parts.options.poll)).await?;
        Ok(())
    }
}

/// Makes one call, by whoever carries it out.
async fn make(
    call: &ToolUse,
    agents: Option<&Arc<Agents>>,
    computer: &Computer,
    stop: &CancellationToken,
    show: &(dyn Fn(String) + Send + Sync),
) -> Made {
    if let Some(agents) = agents {
        if call.name == tools::agent::NAME {
            return clean(agents.call(call).await, computer);
        }
        if call.name == tools::research::NAME {
            return clean(agents.research(call).await, computer);
        }
        if let Some(id) = tools::stopped_task(call)
            && let Some(result) = agents.stop(&id).await
        {
            return Made::Result(result);
        }
    }
    Made::Result(match &call.input {
        Ok(input) => computer.call(Call { name: &call.name, input, stop, show }).await,
        Err(text) => Err(ToolError::ForModel(format!(
            "The input of this call is not valid JSON and the call was not made. It was: {text}"
        ))),
    })
}

/// Takes secrets out of what agents gave, and cuts it to length.
fn clean(made: Made, computer: &Computer) -> Made {
    match made {
        Made::Result(result) => Made::Result(tools::clean(computer.context(), result)),
        left @ Made::Left(_) => left,
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
