//! What clients send to make and change a schedule, and what of it is acceptable.

use chrono::{DateTime, NaiveDateTime, TimeZone, Utc};
use domain::{
    AgentId, EnvironmentId,
    schedule::{Missed, Overlap, Schedule, Timing, Tz},
};
use serde::Deserialize;
use serde_json::{Map, Value};
use store::schedules::NewSchedule;
use utoipa::ToSchema;

use crate::{
    Error, Result,
    body::{Patch, patch_named},
    check::{self, Fields, Verdict},
};

const MAX_TASK_BYTES: usize = 1024 * 1024;

/// A new schedule.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(example = json!({
    "name": "Daily report", "agentId": "agent_1", "agentName": "Reporter", "task": "Write the daily report",
    "scheduleType": "recurring", "cronExpression": "0 9 * * MON-FRI", "timezone": "Europe/Berlin"
}))]
pub(super) struct CreateSchedule {
    /// 1 to 255 characters.
    name: String,
    description: Option<String>,
    /// Absent: the default model without instructions.
    agent_id: Option<String>,
    /// The agent's name is read from the agent.
    #[allow(dead_code, reason = "clients send it; the agent's own name is shown")]
    agent_name: Option<String>,
    /// Absent: the project's default environment when it fires.
    environment_id: Option<String>,
    /// The message that each run is started with.
    task: String,
    /// `recurring` (also `cron`) or `one-time`; absent: by which of the two fields below is there.
    schedule_type: Option<String>,
    /// Another name of `scheduleType`.
    r#type: Option<String>,
    /// Minute, hour, day of month, month, day of week.
    #[schema(example = "0 9 * * MON-FRI")]
    cron_expression: Option<String>,
    /// RFC 3339; without an offset it is a time of `timezone`.
    scheduled_time: Option<String>,
    /// An IANA name; `UTC` if absent.
    #[schema(example = "Europe/Berlin")]
    timezone: Option<String>,
    /// True if absent.
    enabled: Option<bool>,
    /// What becomes of moments at which no server was there: `skip`, or `run_once` (if absent) for all of them together.
    missed_policy: Option<String>,
    /// What becomes of a moment at which the run before is still under way: `skip` (if absent), `queue` or `parallel`.
    overlap_policy: Option<String>,
    #[serde(flatten)]
    #[schema(value_type = StoredFields)]
    rest: Map<String, Value>,
}

/// A change of a schedule. An absent field is left alone, `null` clears it.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct UpdateSchedule {
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    name: Patch<String>,
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    description: Patch<String>,
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    agent_id: Patch<String>,
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    environment_id: Patch<String>,
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    task: Patch<String>,
    /// Makes it a recurring one.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    cron_expression: Patch<String>,
    /// Makes it a one-time one.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    scheduled_time: Patch<String>,
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    timezone: Patch<String>,
    #[serde(default)]
    #[schema(value_type = Option<bool>)]
    enabled: Patch<bool>,
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    missed_policy: Patch<String>,
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    overlap_policy: Patch<String>,
    #[serde(flatten)]
    #[schema(value_type = StoredFields)]
    rest: Map<String, Value>,
}

/// What clients keep on a schedule; it is stored and given back. Threads of the schedule carry its `appId`.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
#[allow(dead_code, reason = "describes the keys of STORED")]
pub(super) struct StoredFields {
    workspace_id: Option<String>,
    workspace_name: Option<String>,
    context_id: Option<String>,
    context_name: Option<String>,
    app_id: Option<String>,
    #[schema(value_type = Option<Object>)]
    metadata: Option<Value>,
}

const STORED_TEXTS: [&str; 5] = ["workspaceId", "workspaceName", "contextId", "contextName", "appId"];
const METADATA: &str = "metadata";

/// Gives the names of the fields that are only stored.
pub(super) fn stored_names() -> impl Iterator<Item = &'static str> {
    STORED_TEXTS.into_iter().chain([METADATA])
}

fn check_stored(fields: &mut Fields, rest: &Map<String, Value>) {
    for name in STORED_TEXTS {
        match rest.get(name) {
            Some(Value::String(text)) => fields.check(name, short(text)),
            None | Some(Value::Null) => {}
            Some(_) => fields.refuse(name, "must be a string"),
        }
    }
    if rest.get(METADATA).is_some_and(|value| !value.is_object() && !value.is_null()) {
        fields.refuse(METADATA, "must be an object");
    }
}

fn short(text: &str) -> Verdict {
    if text.len() <= 1024 { Ok(()) } else { Err("must have at most 1024 bytes".into()) }
}

fn check_task(task: &str) -> Verdict {
    match task.len() {
        _ if task.trim().is_empty() => Err("must not be empty".into()),
        1..=MAX_TASK_BYTES => Ok(()),
        _ => Err(format!("must have at most {MAX_TASK_BYTES} bytes")),
    }
}

fn parse_zone(name: &str) -> std::result::Result<Tz, String> {
    name.parse().map_err(|_| format!("{name:?} is no time zone: name one like Europe/Berlin or UTC"))
}

/// Reads a moment; one without an offset is a time of `zone`.
fn parse_time(text: &str, zone: Tz, now: DateTime<Utc>) -> std::result::Result<Timing, String> {
    let moment = match DateTime::parse_from_rfc3339(text) {
        Ok(moment) => Some(moment.to_utc()),
        Err(_) => text.parse::<NaiveDateTime>().ok().and_then(|local| {
            // A time that the day has twice is the first of them.
            zone.from_local_datetime(&local).earliest().map(|moment| moment.to_utc())
        }),
    };
    match moment {
        None => Err("must be a time like 2025-01-15T10:30:00Z".into()),
        Some(moment) if moment <= now => Err("must be in the future".into()),
        Some(moment) => Ok(Timing::Once(moment)),
    }
}

fn parse_cron(text: &str, zone: Tz, now: DateTime<Utc>) -> std::result::Result<Timing, String> {
    let timing = Timing::Recurring(text.parse().map_err(|err: domain::schedule::InvalidCron| err.to_string())?);
    if timing.next(zone, now).is_none() {
        return Err("there is no such day".into());
    }
    Ok(timing)
}

fn policy<T: std::str::FromStr>(fields: &mut Fields, name: &str, word: Option<&str>, default: T, words: &str) -> T {
    match word.map(str::parse) {
        None => default,
        Some(Ok(policy)) => policy,
        Some(Err(_)) => {
            fields.refuse(name, format!("must be {words}"));
            default
        }
    }
}

const MISSED_WORDS: &str = "skip or run_once";
const OVERLAP_WORDS: &str = "skip, queue or parallel";

fn parse_agent(id: Option<String>) -> Result<Option<AgentId>> {
    id.filter(|id| !id.is_empty()).map(|id| id.parse().map_err(|_| Error::not_found("Agent", id))).transpose()
}

fn parse_environment(id: Option<String>) -> Result<Option<EnvironmentId>> {
    id.filter(|id| !id.is_empty()).map(|id| id.parse().map_err(|_| Error::not_found("Environment", id))).transpose()
}

impl CreateSchedule {
    pub(super) fn into_new(self, now: DateTime<Utc>) -> Result<NewSchedule> {
        let mut fields = Fields::default();
        fields.check("name", check::name(&self.name));
        fields.check("task", check_task(&self.task));
        check_stored(&mut fields, &self.rest);
        let missed =
            policy(&mut fields, "missedPolicy", self.missed_policy.as_deref(), Missed::default(), MISSED_WORDS);
        let overlap =
            policy(&mut fields, "overlapPolicy", self.overlap_policy.as_deref(), Overlap::default(), OVERLAP_WORDS);
        let zone = parse_zone(self.timezone.as_deref().filter(|zone| !zone.is_empty()).unwrap_or("UTC"));
        if let Err(message) = &zone {
            fields.refuse("timezone", message);
        }
        let zone = zone.unwrap_or_default();
        let (cron, time) = (self.cron_expression.as_deref(), self.scheduled_time.as_deref());
        let timing = match (self.schedule_type.or(self.r#type).as_deref(), cron, time) {
            (Some("recurring" | "cron") | None, Some(cron), _) => {
                parse_cron(cron, zone, now).map_err(|message| ("cronExpression", message))
            }
            (Some("one-time") | None, _, Some(time)) => {
                parse_time(time, zone, now).map_err(|message| ("scheduledTime", message))
            }
            (Some("recurring" | "cron"), None, _) => Err(("cronExpression", "is needed for a recurring one".into())),
            (Some("one-time"), _, None) => Err(("scheduledTime", "is needed for a one-time one".into())),
            (None, None, None) => Err(("scheduleType", "give a cronExpression or a scheduledTime".into())),
            (Some(_), _, _) => Err(("scheduleType", "must be recurring or one-time".into())),
        };
        let timing = match timing {
            Ok(timing) => Some(timing),
            Err((field, message)) => {
                fields.refuse(field, message);
                None
            }
        };
        fields.finish()?;
        let timing = timing.ok_or_else(|| Error::missing_field("cronExpression"))?;
        let mut stored = Map::new();
        patch_named(&mut stored, self.rest, stored_names());
        Ok(NewSchedule {
            name: self.name,
            description: self.description,
            agent_id: parse_agent(self.agent_id)?,
            environment_id: parse_environment(self.environment_id)?,
            task: self.task,
            timing,
            timezone: zone,
            enabled: self.enabled.unwrap_or(true),
            missed,
            overlap,
            stored,
        })
    }
}

impl UpdateSchedule {
    pub(super) fn apply(self, schedule: &mut Schedule, now: DateTime<Utc>) -> Result<()> {
        let mut fields = Fields::default();
        fields.check_patch("name", &self.name, |name| check::name(name));
        fields.check_patch("task", &self.task, |task| check_task(task));
        check_stored(&mut fields, &self.rest);
        if let Patch::Value(zone) = &self.timezone {
            match parse_zone(zone) {
                Ok(zone) => schedule.timezone = zone,
                Err(message) => fields.refuse("timezone", message),
            }
        } else if matches!(self.timezone, Patch::Null) {
            schedule.timezone = Tz::UTC;
        }
        let timing = match (&self.cron_expression, &self.scheduled_time) {
            (Patch::Value(_), Patch::Value(_)) => {
                Err(("cronExpression", "cannot be together with a scheduledTime".to_owned()))
            }
            (Patch::Value(cron), _) => {
                parse_cron(cron, schedule.timezone, now).map(Some).map_err(|message| ("cronExpression", message))
            }
            (_, Patch::Value(time)) => {
                parse_time(time, schedule.timezone, now).map(Some).map_err(|message| ("scheduledTime", message))
            }
            // The SDKs send null for the one that a schedule does not have.
            _ => Ok(None),
        };
        match timing {
            Ok(Some(timing)) => schedule.timing = timing,
            Ok(None) => {}
            Err((field, message)) => fields.refuse(field, message),
        }
        if let Patch::Value(word) = &self.missed_policy {
            schedule.missed = policy(&mut fields, "missedPolicy", Some(word), schedule.missed, MISSED_WORDS);
        }
        if let Patch::Value(word) = &self.overlap_policy {
            schedule.overlap = policy(&mut fields, "overlapPolicy", Some(word), schedule.overlap, OVERLAP_WORDS);
        }
        fields.finish()?;
        self.name.apply_or_default(&mut schedule.name);
        self.description.apply(&mut schedule.description);
        self.task.apply_or_default(&mut schedule.task);
        match self.agent_id {
            Patch::Absent => {}
            Patch::Null => schedule.agent_id = None,
            Patch::Value(id) => schedule.agent_id = parse_agent(Some(id))?,
        }
        match self.environment_id {
            Patch::Absent => {}
            Patch::Null => schedule.environment_id = None,
            Patch::Value(id) => schedule.environment_id = parse_environment(Some(id))?,
        }
        if let Patch::Value(enabled) = self.enabled {
            schedule.enabled = enabled;
        }
        patch_named(&mut schedule.stored, self.rest, stored_names());
        Ok(())
    }
}
