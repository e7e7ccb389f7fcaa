//! One turn: asking the model and showing what it says while it says it.

use std::pin::pin;

use claude::{Block, Response, Update};
use domain::{
    agent::{Agent, ReasoningEffort},
    event::{Delta, Event, LogLevel},
};
use futures::StreamExt;
use store::leases::Checkpoint;
use tracing::Instrument;

use crate::{computer::Computer, drive::Driver, error::End, mcp, spans};

/// Replies that broke off in the middle and are asked for again.
const MAX_BROKEN_REPLIES: u32 = 2;

impl Driver<'_> {
    /// Makes what every request of the run has in common.
    pub(crate) fn request(&self, agent: Option<&Agent>, system: Vec<String>, computer: &Computer) -> claude::Request {
        let (options, catalogue) = (&self.run.options, &self.parts.catalogue);
        let model = self.model(agent);
        let effort = options.reasoning_effort.or(agent.and_then(|agent| agent.settings.reasoning_effort));
        let known = catalogue.find(&model);
        let most = known.map_or(u64::MAX, |known| known.max_output_tokens);
        claude::Request {
            max_tokens: u32::try_from(most).unwrap_or(u32::MAX).min(self.parts.options.max_tokens),
            // A model that knows no effort answers 400 to it.
            effort: effort.map(to_effort).filter(|effort| known.is_some_and(|known| known.effort.contains(effort))),
            system,
            tools: computer.definitions(),
            anthropic_tools: self.server_tools(&model),
            model,
            ..claude::Request::default()
        }
    }

    /// Gives the model that the run begins with.
    pub(crate) fn model(&self, agent: Option<&Agent>) -> String {
        let of_agent = agent.map(|agent| agent.model.as_str());
        let model = self.run.options.model.as_deref().or(of_agent).unwrap_or(&self.parts.options.default_model);
        self.parts.catalogue.resolve_alias(model).to_owned()
    }

    /// Asks the model for its next reply and gives it together with its finished blocks.
    pub(crate) async fn ask(
        &mut self,
        request: &mut claude::Request,
        conversation: &claude::Conversation,
        computer: &Computer,
    ) -> Result<(Response, Vec<Block>), End> {
        let mut broken = 0;
        loop {
            let span = spans::turn(self.run, &request.model);
            let asked = self.ask_once(request, conversation, computer).instrument(span.clone()).await;
            spans::end_turn(&span, &asked);
            match asked? {
                Ok(reply) => return Ok(reply),
                Err(err) if err.after_output() && err.is_retryable() && broken < MAX_BROKEN_REPLIES => {
                    broken += 1;
                    // Nothing of the broken reply was kept and no call in it was made, so asking again repeats no work.
                    let message = format!("The model's reply broke off ({err}). Asking again.");
                    self.log(LogLevel::Warning, "model", message).await?;
                }
                Err(err) => match self.fallback(request, &err) {
                    Some(fallback) => {
                        let (from, to) = (std::mem::replace(request, fallback).model, request.model.clone());
                        broken = 0;
                        let fallback_model = Some(to.clone());
                        let events = vec![Event::ModelChanged { from, to, reason: err.to_string() }];
                        self.checkpoint(Checkpoint { events, fallback_model, ..Checkpoint::default() }).await?;
                    }
                    None => return Err(to_end(err)),
                },
            }
        }
    }

    /// Gives the request for another model, where its own cannot answer after all retries and there is another.
    fn fallback(&self, request: &claude::Request, err: &claude::Error) -> Option<claude::Request> {
        let catalogue = &self.parts.catalogue;
        let model = catalogue.resolve_alias(self.parts.options.fallback_model.as_deref()?);
        if !err.is_retryable() || model == request.model {
            return None;
        }
        Some(self.with_model(request, model))
    }

    /// Gives the request for another model, within what that one can do.
    pub(crate) fn with_model(&self, request: &claude::Request, model: &str) -> claude::Request {
        let known = self.parts.catalogue.find(model);
        let most = known.and_then(|known| u32::try_from(known.max_output_tokens).ok()).unwrap_or(u32::MAX);
        let mut other = claude::Request {
            anthropic_tools: self.server_tools(model),
            model: model.to_owned(),
            max_tokens: request.max_tokens.min(most),
            effort: request.effort.filter(|effort| known.is_some_and(|known| known.effort.contains(effort))),
            ..request.clone()
        };
        if !known.is_some_and(|known| known.thinking.is_bound) {
            mcp::unbind(&mut other);
        }
        other
    }

    async fn ask_once(
        &mut self,
        request: &claude::Request,
        conversation: &claude::Conversation,
        computer: &Computer,
    ) -> Result<Result<(Response, Vec<Block>), claude::Error>, End> {
        let mut blocks = Vec::new();
        let mut updates = pin!(self.parts.claude.stream(request, conversation));
        loop {
            match self.signal.or(updates.next()).await? {
                None => return Ok(Err(claude::Error::Truncated { after_output: !blocks.is_empty(), source: None })),
                Some(Err(err)) => return Ok(Err(err)),
                Some(Ok(update)) => match update {
                    Update::Finished(response) => return Ok(Ok((response, blocks))),
                    Update::Text(text) => self.show(Delta::Text(text)),
                    Update::Thinking(text) => self.show(Delta::Thinking(text)),
                    Update::Retrying { attempt, delay, reason } => {
                        let seconds = delay.as_secs_f64();
                        let message = format!(
                            "The model cannot answer now ({reason}). Trying again in {seconds:.1} s (attempt {attempt})."
                        );
                        self.log(LogLevel::Warning, "model", message).await?;
                    }
                    Update::Block(block) => blocks.push(block),
                    Update::ToolInput { name, .. } => {
                        self.steps.expect(&name);
                        computer.expect(&name);
                    }
                    Update::Started { .. } => {}
                },
            }
        }
    }

    fn show(&self, delta: Delta) {
        // A delta does not say whose it is: those of an agent would be taken for the run's.
        if self.branch().is_some() {
            return;
        }
        self.parts.store.send_delta(self.lease, self.last_sequence, delta);
    }
}

fn to_effort(effort: ReasoningEffort) -> claude::Effort {
    match effort {
        ReasoningEffort::Minimal | ReasoningEffort::Low => claude::Effort::Low,
        ReasoningEffort::Medium => claude::Effort::Medium,
        ReasoningEffort::High => claude::Effort::High,
    }
}

/// Tells the user what went wrong with the model, and what they can do about it.
fn to_end(err: claude::Error) -> End {
    let code = match err {
        claude::Error::PromptTooLong { .. } => "context_window_exceeded",
        ref err if err.is_spend_limit() => "spend_limit",
        _ => "model_error",
    };
    let message = format!("The model could not be asked: {err}.");
    End::caused(code, message)(err)
}
