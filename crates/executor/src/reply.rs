//! A finished reply: what the model said, what people see of it, what it cost.

use claude::{Block, ToolUse};
use domain::{
    event::{Event, Item, ToolCall, ToolResult},
    run::{Outcome, Spent},
};
use serde_json::value::RawValue;
use store::leases::Checkpoint;
use tokio::time::Instant;

use crate::{
    conversation::{self, ASSISTANT, USER},
    drive::Driver,
    error::End,
    permissions::Judged,
    server_tools::ServerCalls,
};

impl Driver<'_> {
    /// Commits a reply: what the model said, what people see of it, what it cost.
    pub(crate) async fn commit_reply(
        &mut self,
        request: &claude::Request,
        response: &claude::Response,
        blocks: Vec<Block>,
        judged: &Judged,
        asked_at: Instant,
    ) -> Result<(), End> {
        let mut transcript = std::mem::take(&mut self.opening);
        if !response.content.get().starts_with("[]") {
            transcript.push((ASSISTANT, response.content.get().to_owned()));
        }
        let turn = self.turn(request, response, asked_at);
        self.spend(turn.spent);
        self.window.measure(response);
        let mut events: Vec<_> =
            blocks.into_iter().filter_map(|block| to_event(block, &mut self.server_calls)).collect();
        for event in &events {
            if let Event::ItemCompleted { item: Item::ToolCall(ToolCall { result: Some(result), .. }) } = event {
                self.note_sources(None, result.detail.as_ref()).await?;
            }
        }
        for (call, text) in &judged.denied {
            transcript.push((USER, conversation::answer(&call.id, text, true)));
            let result = ToolResult { is_error: true, text: text.clone(), duration_ms: 0, detail: None };
            events.push(Event::ItemCompleted { item: Item::ToolCall(to_tool_call(call, Some(result))) });
        }
        events.extend(judged.events());
        let calls = i32::try_from(judged.denied.len()).unwrap_or(i32::MAX);
        let (turn, requests) = (Some(turn), judged.asked.clone());
        self.checkpoint(Checkpoint { transcript, events, turn, calls, requests, ..Checkpoint::default() }).await
    }

    /// Ends a run whose model refused. The reply is dropped, as the API asks; what it cost is kept.
    pub(crate) async fn refused(
        &mut self,
        request: &claude::Request,
        response: &claude::Response,
        asked_at: Instant,
    ) -> Result<Outcome, End> {
        let turn = self.turn(request, response, asked_at);
        self.spend(turn.spent);
        // The refused message stays out of the transcript, or every later message would be refused for it.
        self.opening.clear();
        self.checkpoint(Checkpoint { turn: Some(turn), ..Checkpoint::default() }).await?;
        let why = response.refusal_explanation().unwrap_or_else(|| "it gave no reason".into());
        Err(End::failed("refusal", format!("The model declined to answer: {why}.")))
    }

    pub(crate) fn turn(
        &self,
        request: &claude::Request,
        response: &claude::Response,
        asked_at: Instant,
    ) -> store::leases::Turn {
        store::leases::Turn {
            model: response.model.clone(),
            request_id: response.request_id.clone(),
            stop_reason: response.stop_reason.as_str().to_owned(),
            spent: spent(&self.parts.catalogue, request, response),
            duration: asked_at.elapsed(),
        }
    }

    pub(crate) fn raised(&self, request: &claude::Request) -> u32 {
        let most = self
            .parts
            .catalogue
            .max_output(&request.model)
            .map_or(request.max_tokens, |most| u32::try_from(most).unwrap_or(u32::MAX));
        request.max_tokens.saturating_mul(2).min(most.max(request.max_tokens))
    }
}

/// Gives what a reply took.
pub fn spent(catalogue: &claude::Catalogue, request: &claude::Request, response: &claude::Response) -> Spent {
    let usage = &response.usage;
    let to_i64 = |tokens: u64| i64::try_from(tokens).unwrap_or(i64::MAX);
    let cost = catalogue.price(usage, &response.model).or_else(|| catalogue.price(usage, &request.model));
    if cost.is_none() {
        tracing::warn!(model = request.model, "no price is known for this model; its cost counts as 0");
    }
    Spent {
        input_tokens: to_i64(usage.input_tokens),
        output_tokens: to_i64(usage.output_tokens),
        cache_read_tokens: to_i64(usage.cache_read_input_tokens),
        cache_write_tokens: to_i64(usage.cache_creation_5m_input_tokens + usage.cache_creation_1h_input_tokens),
        cost: domain::MicroUsd(cost.unwrap_or(0)),
    }
}

/// Makes what people see of a block of a reply.
fn to_event(block: Block, server_calls: &mut ServerCalls) -> Option<Event> {
    match block {
        Block::Text { text } => Some(Event::ItemCompleted { item: Item::Text { text } }),
        Block::Thinking { text } if text.is_empty() => None,
        Block::Thinking { text } => Some(Event::ItemCompleted { item: Item::Reasoning { text } }),
        Block::ToolUse(call) => Some(Event::ItemStarted { item: Item::ToolCall(to_tool_call(&call, None)) }),
        Block::ServerToolUse { id, name, input } => Some(server_calls.begun(id, name, input)),
        Block::ServerToolResult { kind, tool_use_id, content } => {
            Some(server_calls.ended(&kind, tool_use_id, &content))
        }
        Block::Other { .. } => None,
    }
}

/// Makes the item of a call, for people.
pub(crate) fn to_tool_call(call: &ToolUse, result: Option<ToolResult>) -> ToolCall {
    let input = match &call.input {
        Ok(input) => input.clone(),
        // What the model wrote is no JSON: show it as a string.
        Err(text) => serde_json::value::to_raw_value(text)
            .unwrap_or_else(|_| RawValue::from_string("null".into()).expect("null is JSON")),
    };
    ToolCall { id: call.id.clone(), name: call.name.clone(), input, result }
}
