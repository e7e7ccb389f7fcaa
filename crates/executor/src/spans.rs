//! What a tracing system is told of runs: one span for each run, model call and tool call, named as OpenTelemetry's
//! conventions for generative AI name them. Ids, names, numbers and outcomes are in them; nothing that was said.
//!
//! They are spans of `tracing` with a target of their own, so that they cost nothing where nobody wants them, and the lines
//! of the log are not longer for them.

use claude::{Response, ToolUse, Usage, measure::PROVIDER};
use domain::{
    agent::Agent,
    run::{Outcome as RunOutcome, Run},
};
use tracing::{Span, field::Empty};

use crate::{
    agents::Made,
    error::End,
    tools::{Outcome, ToolError},
};

/// The target of these spans.
pub const TARGET: &str = "otel";

/// One attempt to bring a run to its end.
pub(crate) fn run(run: &Run) -> Span {
    tracing::info_span!(
        target: TARGET,
        "invoke_agent",
        "otel.name" = Empty,
        "otel.status_code" = Empty,
        "error.type" = Empty,
        "gen_ai.operation.name" = "invoke_agent",
        "gen_ai.provider.name" = PROVIDER,
        "gen_ai.conversation.id" = %run.thread_id,
        "gen_ai.agent.id" = run.agent_id.as_ref().map(|id| id.as_str()),
        "gen_ai.agent.name" = Empty,
        "atelier.run.id" = %run.id,
        "atelier.run.attempt" = run.attempt,
        "atelier.run.outcome" = Empty,
        "atelier.project.id" = %run.project_id,
        "atelier.environment.id" = %run.environment_id,
    )
}

/// Names the agent in the span of its run, which is the current one.
pub(crate) fn name_agent(agent: Option<&Agent>) {
    if let Some(agent) = agent {
        let span = Span::current();
        span.record("gen_ai.agent.name", agent.name.as_str());
        span.record("otel.name", format!("invoke_agent {}", agent.name));
    }
}

/// Says in the span of a run, which is the current one, how it ended. Without that, the run goes on in another attempt.
pub(crate) fn end_run(outcome: &RunOutcome) {
    let span = Span::current();
    span.record("atelier.run.outcome", outcome.reason());
    if let RunOutcome::Failed { code, .. } = outcome {
        fail(&span, code);
    }
}

/// One call of the model.
pub(crate) fn turn(run: &Run, model: &str) -> Span {
    tracing::info_span!(
        target: TARGET,
        "chat",
        "otel.name" = format!("chat {model}"),
        "otel.kind" = "client",
        "otel.status_code" = Empty,
        "error.type" = Empty,
        "gen_ai.operation.name" = "chat",
        "gen_ai.provider.name" = PROVIDER,
        "gen_ai.conversation.id" = %run.thread_id,
        "gen_ai.request.model" = model,
        "gen_ai.response.model" = Empty,
        "gen_ai.response.id" = Empty,
        "gen_ai.response.finish_reasons" = Empty,
        "gen_ai.usage.input_tokens" = Empty,
        "gen_ai.usage.output_tokens" = Empty,
        "gen_ai.usage.cache_read.input_tokens" = Empty,
        "gen_ai.usage.cache_creation.input_tokens" = Empty,
    )
}

/// Says in a turn's span what came back.
pub(crate) fn end_turn<T>(span: &Span, reply: &Result<Result<(Response, T), claude::Error>, End>) {
    match reply {
        Ok(Ok((response, _))) => {
            span.record("gen_ai.response.model", response.model.as_str());
            span.record("gen_ai.response.id", response.id.as_str());
            span.record("gen_ai.response.finish_reasons", response.stop_reason.as_str());
            record_usage(span, &response.usage);
        }
        Ok(Err(err)) => fail(span, err.kind()),
        Err(End::Stop(_)) => fail(span, "stopped"),
        Err(End::Failed { code, .. }) => fail(span, code),
        Err(End::Store(_)) => fail(span, "database_unavailable"),
    }
}

fn record_usage(span: &Span, usage: &Usage) {
    let created = usage.cache_creation_5m_input_tokens + usage.cache_creation_1h_input_tokens;
    // The conventions count what came from the cache, and what went there, as input.
    span.record("gen_ai.usage.input_tokens", usage.input_tokens + usage.cache_read_input_tokens + created);
    span.record("gen_ai.usage.output_tokens", usage.output_tokens);
    span.record("gen_ai.usage.cache_read.input_tokens", usage.cache_read_input_tokens);
    span.record("gen_ai.usage.cache_creation.input_tokens", created);
}

/// One call of a tool.
pub(crate) fn tool(call: &ToolUse) -> Span {
    tracing::info_span!(
        target: TARGET,
        "execute_tool",
        "otel.name" = format!("execute_tool {}", call.name),
        "otel.status_code" = Empty,
        "error.type" = Empty,
        "gen_ai.operation.name" = "execute_tool",
        "gen_ai.tool.name" = call.name.as_str(),
        "gen_ai.tool.call.id" = call.id.as_str(),
        "gen_ai.tool.type" = "function",
    )
}

/// Says in a call's span what came of it.
pub(crate) fn end_tool(span: &Span, made: &Made) {
    if let Some(kind) = why_failed(made) {
        fail(span, kind);
    }
}

/// Gives one word for why a call of a tool failed, if it did.
pub(crate) fn why_failed(made: &Made) -> Option<&'static str> {
    match made {
        Made::Result(Ok(Outcome { is_error: false, .. })) => None,
        Made::Result(Ok(_) | Err(ToolError::ForModel(_))) => Some("tool_error"),
        Made::Result(Err(ToolError::Stopped)) | Made::Left(_) => Some("stopped"),
        Made::Result(Err(ToolError::Fatal(_))) => Some("computer_unavailable"),
    }
}

fn fail(span: &Span, kind: &str) {
    span.record("otel.status_code", "error");
    span.record("error.type", kind);
}
