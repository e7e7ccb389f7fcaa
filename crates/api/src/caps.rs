//! What a run may use, as clients say it: on an agent (each of its runs), a thread (all of its runs together) and a message
//! (its run). The narrowest holds; where neither agent nor message says anything, the server's own default does.

use domain::{MicroUsd, limits::Limits};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{body::Patch, check::Fields};

/// Limits in a body that makes something. Checked before each model call; at a limit a run ends as `failed` with
/// `stopReason` `budget`, `max_turns`, `max_tokens` or `timeout`, and the thread can go on.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CapFields {
    /// US dollars.
    #[schema(example = 2.5)]
    max_cost: Option<f64>,
    /// Model calls.
    max_turns: Option<u32>,
    /// Tokens of prompts, cached or not, and of replies.
    max_tokens: Option<i64>,
    /// Seconds of work. Waiting for a person does not count.
    max_duration: Option<f64>,
}

/// Limits in a body that changes something.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CapPatches {
    #[serde(default)]
    #[schema(value_type = Option<f64>)]
    max_cost: Patch<f64>,
    #[serde(default)]
    #[schema(value_type = Option<u32>)]
    max_turns: Patch<u32>,
    #[serde(default)]
    #[schema(value_type = Option<i64>)]
    max_tokens: Patch<i64>,
    #[serde(default)]
    #[schema(value_type = Option<f64>)]
    max_duration: Patch<f64>,
}

/// Limits as they are stored; `null` is none.
#[derive(Debug, Clone, Default, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CapsView {
    /// US dollars.
    max_cost: Option<f64>,
    /// Model calls.
    max_turns: Option<u32>,
    max_tokens: Option<i64>,
    /// Seconds.
    max_duration: Option<f64>,
}

impl CapFields {
    pub(crate) fn check(&self, fields: &mut Fields) -> Limits {
        Limits {
            max_cost: self.max_cost.and_then(|usd| positive(fields, "maxCost", usd)).map(to_micro_usd),
            max_turns: self.max_turns.and_then(|turns| positive(fields, "maxTurns", turns)),
            max_tokens: self.max_tokens.and_then(|tokens| positive(fields, "maxTokens", tokens)),
            max_duration_ms: self.max_duration.and_then(|secs| positive(fields, "maxDuration", secs)).map(to_ms),
        }
    }
}

impl CapPatches {
    pub(crate) fn check(&self, fields: &mut Fields) {
        if let Patch::Value(usd) = self.max_cost {
            positive(fields, "maxCost", usd);
        }
        if let Patch::Value(turns) = self.max_turns {
            positive(fields, "maxTurns", turns);
        }
        if let Patch::Value(tokens) = self.max_tokens {
            positive(fields, "maxTokens", tokens);
        }
        if let Patch::Value(seconds) = self.max_duration {
            positive(fields, "maxDuration", seconds);
        }
    }

    /// Changes limits by a patch that was checked.
    pub(crate) fn apply(self, limits: &mut Limits) {
        apply(self.max_cost, &mut limits.max_cost, to_micro_usd);
        self.max_turns.apply(&mut limits.max_turns);
        self.max_tokens.apply(&mut limits.max_tokens);
        apply(self.max_duration, &mut limits.max_duration_ms, to_ms);
    }
}

fn apply<A, B>(patch: Patch<A>, target: &mut Option<B>, convert: impl FnOnce(A) -> B) {
    match patch {
        Patch::Absent => {}
        Patch::Null => *target = None,
        Patch::Value(value) => *target = Some(convert(value)),
    }
}

/// Gives the value if it is above zero (which NaN is not).
fn positive<T: PartialOrd + Default>(fields: &mut Fields, name: &str, value: T) -> Option<T> {
    if value > T::default() {
        return Some(value);
    }
    fields.refuse(name, "must be above 0");
    None
}

fn to_micro_usd(usd: f64) -> MicroUsd {
    // A conversion to an integer takes the nearest it can hold.
    MicroUsd((usd * 1e6).ceil() as i64)
}

fn to_ms(seconds: f64) -> u64 {
    (seconds * 1e3).ceil() as u64
}

impl From<Limits> for CapsView {
    fn from(limits: Limits) -> Self {
        Self {
            max_cost: limits.max_cost.map(MicroUsd::as_usd),
            max_turns: limits.max_turns,
            max_tokens: limits.max_tokens,
            max_duration: limits.max_duration_ms.map(|ms| ms as f64 / 1e3),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_of_nothing_is_refused() {
        let caps: CapFields =
            serde_json::from_str(r#"{"maxCost": 0, "maxTurns": 0, "maxDuration": -1}"#).expect("is valid");
        let mut fields = Fields::default();
        assert_eq!(caps.check(&mut fields), Limits::default());
        let message = fields.finish().expect_err("is refused").to_string();
        assert_eq!(message, "maxCost: must be above 0; maxTurns: must be above 0; maxDuration: must be above 0");
    }

    #[test]
    fn limits_survive_the_wire() {
        let caps: CapFields =
            serde_json::from_str(r#"{"maxCost": 2.5, "maxTokens": 9, "maxDuration": 0.25}"#).expect("is valid");
        let limits = caps.check(&mut Fields::default());
        assert_eq!(limits.max_cost, Some(MicroUsd(2_500_000)));
        assert_eq!(limits.max_duration_ms, Some(250));
        let view = serde_json::to_value(CapsView::from(limits)).expect("serialises");
        assert_eq!(view, serde_json::json!({"maxCost": 2.5, "maxTurns": null, "maxTokens": 9, "maxDuration": 0.25}));
    }
}
