//! What is measured of requests to the model, named as OpenTelemetry's conventions for generative AI name it, so that who
//! watches other users of models watches this one by the same queries. It is done here because every request comes by:
//! those of runs, and those for summaries, titles and side questions.
//!
//! Each set of labels is a series that stays as long as the process, so labels have few values: no ids, and no names that
//! clients can make up.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use metrics::Label;

use crate::{Error, Response, client::Inner};

/// How long an operation took, in seconds: here a request with its retries.
pub const DURATION: &str = "gen_ai.client.operation.duration";
/// How long after a request the first piece of its answer came, in seconds.
pub const FIRST_CHUNK: &str = "gen_ai.client.operation.time_to_first_chunk";
/// Tokens of one reply, read or written.
pub const TOKENS: &str = "gen_ai.client.token.usage";

/// Whose protocol it is, whoever is behind the address.
pub const PROVIDER: &str = "anthropic";

/// One request, measured until its reply is there. One that is dropped before was stopped.
pub(crate) struct Measured {
    inner: Arc<Inner>,
    model: String,
    began_at: Instant,
    is_over: bool,
}

impl Measured {
    pub(crate) fn begin(inner: &Arc<Inner>, model: String) -> Self {
        Self { inner: Arc::clone(inner), model, began_at: Instant::now(), is_over: false }
    }

    /// The answer has begun, so long after its attempt had.
    pub(crate) fn started(&self, response_model: &str, elapsed: Duration) {
        let labels = self.answered(response_model);
        metrics::histogram!(FIRST_CHUNK, labels).record(elapsed.as_secs_f64());
    }

    pub(crate) fn finished(mut self, response: &Response) {
        self.is_over = true;
        let labels = self.answered(&response.model);
        metrics::histogram!(DURATION, labels.clone()).record(self.began_at.elapsed().as_secs_f64());
        // What is billed, as the conventions want it; what came from the cache and what went there are input.
        let parts = response.usage.parts();
        let read = parts.iter().map(|part| {
            part.input_tokens
                + part.cache_read_input_tokens
                + part.cache_creation_5m_input_tokens
                + part.cache_creation_1h_input_tokens
        });
        let written = parts.iter().map(|part| part.output_tokens);
        for (kind, tokens) in [("input", read.sum::<u64>()), ("output", written.sum())] {
            let mut labels = labels.clone();
            labels.push(Label::new("gen_ai.token.type", kind));
            metrics::histogram!(TOKENS, labels).record(tokens as f64);
        }
    }

    pub(crate) fn failed(mut self, err: &Error) {
        self.is_over = true;
        let kind = self.inner.known_errors.admit(err.kind());
        self.record_failure(kind);
    }

    fn record_failure(&self, kind: String) {
        let model = self.inner.known_models.find(&self.model);
        let mut labels = labels(model);
        labels.push(Label::new("error.type", kind));
        metrics::histogram!(DURATION, labels).record(self.began_at.elapsed().as_secs_f64());
    }

    /// Gives the labels of a request that a model has answered to.
    fn answered(&self, response_model: &str) -> Vec<Label> {
        let names = &self.inner.known_models;
        let mut labels = labels(names.admit(&self.model));
        labels.push(Label::new("gen_ai.response.model", names.admit(response_model)));
        labels
    }
}

impl Drop for Measured {
    fn drop(&mut self) {
        if !self.is_over {
            self.record_failure("stopped".to_owned());
        }
    }
}

fn labels(model: String) -> Vec<Label> {
    vec![
        Label::new("gen_ai.operation.name", "chat"),
        Label::new("gen_ai.provider.name", PROVIDER),
        Label::new("gen_ai.request.model", model),
    ]
}

/// The values that a label may have. Whoever writes a message names its model, so a name counts only once a back end has
/// answered to it, and only so many do.
#[derive(Debug, Default)]
pub(crate) struct Names(Mutex<BTreeSet<String>>);

/// More than a back end offers.
const MOST_NAMES: usize = 100;
/// What the conventions put in place of values that would be too many.
const OTHER: &str = "_OTHER";

impl Names {
    /// Takes a name among those that are known, if there is room.
    fn admit(&self, name: &str) -> String {
        let mut names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !names.contains(name) {
            if names.len() >= MOST_NAMES {
                return OTHER.to_owned();
            }
            names.insert(name.to_owned());
        }
        name.to_owned()
    }

    fn find(&self, name: &str) -> String {
        let names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if names.contains(name) { name.to_owned() } else { OTHER.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_nobody_answers_to_are_one_series_and_the_others_are_not_many() {
        let names = Names::default();
        assert_eq!(names.find("made-up"), OTHER);
        assert_eq!(names.admit("claude-sonnet-5-5"), "claude-sonnet-5-5");
        assert_eq!(names.find("claude-sonnet-5-5"), "claude-sonnet-5-5");
        for number in 0..2 * MOST_NAMES {
            names.admit(&number.to_string());
        }
        assert_eq!(names.admit("one too many"), OTHER);
        assert_eq!(names.admit("claude-sonnet-5-5"), "claude-sonnet-5-5");
        assert_eq!(names.0.lock().unwrap().len(), MOST_NAMES);
    }
}
