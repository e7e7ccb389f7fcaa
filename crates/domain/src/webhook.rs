//! Webhooks: what is told to others, and when it is tried again.
//!
//! A notice is thin: ids and how something went, nothing of what was said. Who needs more asks for it with a key.

use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Value, json};

use crate::{
    AgentId, DeliveryId, EnvironmentId, ProjectId, RunId, ScheduleId, ThreadId, WebhookId,
    run::{Outcome, Spent},
    word::words,
};

words! {
    /// What can be told.
    Event {
        RunCompleted = "run.completed",
        RunFailed = "run.failed",
        RunCancelled = "run.cancelled",
        /// Somebody must allow a call.
        RunWaiting = "run.waiting",
        /// It failed too often and was switched off.
        SchedulePaused = "schedule.paused",
        /// Somebody tries the webhook.
        Test = "webhook.test",
    }
}

/// The word for every event.
pub const EVERYTHING: &str = "*";

/// The longest pause between two tries.
const MAX_PAUSE: Duration = Duration::from_secs(60 * 60);

/// A stored webhook.
#[derive(Debug, Clone)]
pub struct Webhook {
    pub id: WebhookId,
    pub project_id: ProjectId,
    pub url: String,
    pub description: Option<String>,
    /// Words of [`Event`], or [`EVERYTHING`].
    pub events: Vec<String>,
    pub enabled: bool,
    /// Why it was switched off by itself.
    pub disabled_reason: Option<String>,
    /// Until then what is sent is signed with the secret before this one too.
    pub old_secret_until: Option<DateTime<Utc>>,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

words! {
    /// Where a delivery stands.
    DeliveryState {
        Pending = "pending",
        Delivered = "delivered",
        /// Nobody took it in time.
        Failed = "failed",
    }
}

/// Something that is told to one receiver.
#[derive(Debug, Clone)]
pub struct Delivery {
    pub id: DeliveryId,
    pub webhook_id: WebhookId,
    pub event: Event,
    pub payload: String,
    pub state: DeliveryState,
    pub attempts: i32,
    pub next_attempt_at: DateTime<Utc>,
    pub last_status: Option<i32>,
    pub last_error: Option<String>,
    pub created_at: DateTime<Utc>,
    pub completed_at: Option<DateTime<Utc>>,
}

/// Something to be told.
#[derive(Debug, Clone)]
pub enum Notice {
    RunOver { run: RunPlace, outcome: Outcome, spent: Spent },
    RunWaiting(RunPlace),
    SchedulePaused { id: ScheduleId, name: String, reason: String },
    Test(WebhookId),
}

/// A run, and where it is.
#[derive(Debug, Clone)]
pub struct RunPlace {
    pub run: RunId,
    pub thread: ThreadId,
    pub environment: EnvironmentId,
    pub agent: Option<AgentId>,
}

impl Notice {
    pub fn event(&self) -> Event {
        match self {
            Self::RunOver { outcome: Outcome::Completed { .. }, .. } => Event::RunCompleted,
            Self::RunOver { outcome: Outcome::Failed { .. }, .. } => Event::RunFailed,
            Self::RunOver { outcome: Outcome::Cancelled | Outcome::Interrupted, .. } => Event::RunCancelled,
            Self::RunWaiting(_) => Event::RunWaiting,
            Self::SchedulePaused { .. } => Event::SchedulePaused,
            Self::Test(_) => Event::Test,
        }
    }

    /// Gives the body that tells of it: `{type, timestamp, data}`, as Standard Webhooks have it.
    pub fn payload(&self, project: &ProjectId, at: DateTime<Utc>) -> String {
        let mut data = match self {
            Self::RunOver { run, outcome, spent } => {
                let mut data = run.data();
                data["status"] = outcome.status().as_str().into();
                data["stopReason"] = outcome.reason().into();
                if let Outcome::Failed { code, message } = outcome {
                    data["error"] = json!({"code": code, "message": message});
                }
                data["totalTokens"] = spent.total_tokens().into();
                data["costUsd"] = spent.cost.as_usd().into();
                data
            }
            Self::RunWaiting(run) => {
                let mut data = run.data();
                data["status"] = "waiting".into();
                data
            }
            Self::SchedulePaused { id, name, reason } => {
                json!({"scheduleId": id.as_str(), "name": name, "reason": reason})
            }
            Self::Test(webhook) => json!({"webhookId": webhook.as_str()}),
        };
        data["projectId"] = project.as_str().into();
        let timestamp = at.to_rfc3339_opts(SecondsFormat::Millis, true);
        json!({"type": self.event().as_str(), "timestamp": timestamp, "data": data}).to_string()
    }
}

impl RunPlace {
    fn data(&self) -> Value {
        json!({
            "runId": self.run.as_str(),
            "threadId": self.thread.as_str(),
            "environmentId": self.environment.as_str(),
            "agentId": self.agent.as_ref().map(AgentId::as_str),
        })
    }
}

/// Gives how long to wait after a try that failed, which was the `attempts`-th: twice as long each time, up to an hour.
/// `chance`, from 0 to 1, spreads those that failed together.
pub fn pause(attempts: i32, first: Duration, chance: f64) -> Duration {
    let doublings = u32::try_from(attempts - 1).unwrap_or(0).min(20);
    let pause = first.saturating_mul(1 << doublings).min(MAX_PAUSE).mul_f64(0.8 + 0.4 * chance.clamp(0.0, 1.0));
    // An interval of the database has microseconds, and refuses to be given more.
    Duration::from_micros(u64::try_from(pause.as_micros()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_an_hour_and_differ() {
        let seconds = |attempts, chance| pause(attempts, Duration::from_secs(5), chance).as_secs_f64().round();
        let middle: Vec<_> = (1..=12).map(|attempts| seconds(attempts, 0.5)).collect();
        assert_eq!(middle, [5., 10., 20., 40., 80., 160., 320., 640., 1280., 2560., 3600., 3600.]);
        assert_eq!((seconds(1, 0.0), seconds(1, 1.0), seconds(i32::MAX, 0.5)), (4., 6., 3600.));
    }

    #[test]
    fn a_notice_tells_how_it_went_and_nothing_that_was_said() {
        let run = RunPlace {
            run: "run_1".parse().expect("an id"),
            thread: "thread_1".parse().expect("an id"),
            environment: "env_1".parse().expect("an id"),
            agent: None,
        };
        let outcome = Outcome::Completed { content: "a secret answer".into() };
        let notice = Notice::RunOver { run, outcome, spent: Spent { output_tokens: 7, ..Spent::default() } };
        let payload = notice.payload(&"proj_1".parse().expect("an id"), DateTime::UNIX_EPOCH);
        assert_eq!(
            serde_json::from_str::<Value>(&payload).expect("JSON"),
            json!({"type": "run.completed", "timestamp": "1970-01-01T00:00:00.000Z", "data": {
                "runId": "run_1", "threadId": "thread_1", "environmentId": "env_1", "agentId": null,
                "status": "completed", "stopReason": "completed", "totalTokens": 7, "costUsd": 0.0, "projectId": "proj_1",
            }})
        );
    }
}
