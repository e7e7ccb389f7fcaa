//! What is measured of runs and tool calls, beside what `claude::measure` measures of requests to the model and by the same
//! conventions. The names of agents and tools are not among the labels: whoever makes those could make series without end.

use std::time::Duration;

use claude::measure::{DURATION, PROVIDER};
use domain::run::Outcome;
use metrics::Label;

use crate::{agents::Made, error::End, spans};

/// One attempt to bring a run to its end. Where it stops and another goes on, or somebody is waited for, nothing has failed.
pub(crate) fn run(took: Duration, end: &Result<Outcome, End>) {
    let failure = match end {
        Ok(Outcome::Failed { code, .. }) => Some(code.clone()),
        Ok(_) | Err(End::Stop(_)) => None,
        Err(End::Failed { code, .. }) => Some((*code).to_owned()),
        Err(End::Store(_)) => Some("database_unavailable".to_owned()),
    };
    record("invoke_agent", took, failure);
}

/// One call of a tool.
pub(crate) fn tool(took: Duration, made: &Made) {
    record("execute_tool", took, spans::why_failed(made).map(str::to_owned));
}

fn record(operation: &'static str, took: Duration, failure: Option<String>) {
    let mut labels = vec![Label::new("gen_ai.operation.name", operation), Label::new("gen_ai.provider.name", PROVIDER)];
    labels.extend(failure.map(|kind| Label::new("error.type", kind)));
    metrics::histogram!(DURATION, labels).record(took.as_secs_f64());
}
