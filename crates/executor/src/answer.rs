//! Answers that must satisfy a JSON Schema: asked for with the message, checked at the end, asked for again where wrong.
//!
//! The schema is told in the newest message and not as a setting of the request: that would be part of what the provider
//! caches, and change with every message.

use domain::{run::RunOptions, schema::Schema};
use serde_json::Value;

use crate::error::End;

/// How often a model is told what is wrong with its answer.
const MAX_CORRECTIONS: u32 = 2;

/// What the model is told beside the message.
pub(crate) fn instruction(schema: &Value) -> String {
    format!(
        "<system-reminder>\nYour final answer to this message is read by a program. It must be one JSON value and nothing \
         else, without a Markdown fence and without words around it, and it must satisfy this JSON Schema:\n\
         {schema}\n</system-reminder>"
    )
}

/// What an answer is held against.
pub(crate) struct Expectation {
    schema: Option<Schema>,
    corrections: u32,
}

/// What became of an answer.
pub(crate) enum Verdict {
    /// It is the run's.
    Taken(String),
    /// What to tell the model.
    Wrong(String),
}

impl Expectation {
    pub(crate) fn new(options: &RunOptions) -> Result<Self, End> {
        let schema = options.response_schema.as_ref().map(Schema::parse).transpose();
        let schema = schema.map_err(End::caused("response_schema", "The run's responseSchema cannot be used."))?;
        Ok(Self { schema, corrections: 0 })
    }

    /// Checks an answer.
    ///
    /// # Errors
    /// `Failed` when the model has been told often enough.
    pub(crate) fn check(&mut self, answer: String) -> Result<Verdict, End> {
        let Some(schema) = &self.schema else { return Ok(Verdict::Taken(answer)) };
        match schema.check(&answer) {
            Ok(json) => Ok(Verdict::Taken(json.to_owned())),
            Err(mismatch) if self.corrections < MAX_CORRECTIONS => {
                self.corrections += 1;
                Ok(Verdict::Wrong(format!(
                    "Your answer does not satisfy the JSON Schema:\n{mismatch}\nGive the whole answer again: one JSON value \
                     and nothing else."
                )))
            }
            Err(mismatch) => Err(End::failed(
                "response_schema",
                format!(
                    "The model's answer did not satisfy the responseSchema, also after it was told what is wrong: {mismatch}"
                ),
            )),
        }
    }
}
