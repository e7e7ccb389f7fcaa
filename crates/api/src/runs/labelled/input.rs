//! What clients send to start and change a run, and what of it is acceptable.

use domain::{ThreadId, event::LogLevel, run::RunStatus, run_label::RunLabel, thread::Thread};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use super::{log::parse_level, view};
use crate::{
    Api, Error, Result,
    auth::Caller,
    body::Patch,
    check::{self, Fields},
    logs::{MAX_ADDED, NewLog},
    messages::Work,
    threads::ThreadFields,
};

/// What a new run is called, and where it is to be done.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = NewRunFields)]
pub(super) struct RunFields {
    #[schema(example = "Nightly report")]
    name: String,
    /// Who does it. Without `agentId` and `threadId` it is the name of one of the project's agents.
    #[schema(example = "Reporter")]
    agent_name: String,
    agent_id: Option<String>,
    /// The message that causes it.
    #[schema(example = "Write the daily report")]
    task: String,
    /// What the model reads instead of the task.
    prompt: Option<String>,
    /// A title; also of the thread that is made for the run.
    title: Option<String>,
    /// The thread to work in; absent: a new one.
    thread_id: Option<String>,
    /// The environment to work in; of a thread that there is, its own. The project's default one if absent.
    environment_id: Option<String>,
    /// Without `environmentId`, the name of one of the project's environments.
    environment_name: Option<String>,
    /// Kept and given back, as the three that follow.
    #[schema(value_type = Option<Object>)]
    metadata: Option<Map<String, Value>>,
    workspace_id: Option<String>,
    workspace_name: Option<String>,
    context_id: Option<String>,
}

/// A new run.
#[derive(ToSchema)]
#[allow(dead_code, reason = "describes a body that is read in two halves")]
pub(super) struct CreateRun {
    #[serde(flatten)]
    run: RunFields,
    #[serde(flatten)]
    work: Work,
}

/// A new run that was checked as far as its fields go.
pub(super) struct Wish {
    pub label: RunLabel,
    pub prompt: Option<String>,
    pub thread: Option<ThreadId>,
    agent_name: String,
    agent_id: Option<String>,
    environment_id: Option<String>,
    environment_name: Option<String>,
}

impl RunFields {
    pub(super) fn check(self) -> Result<Wish> {
        let mut fields = Fields::default();
        fields.check("name", check::name(&self.name));
        fields.check("agentName", check::name(&self.agent_name));
        if self.task.trim().is_empty() {
            fields.refuse("task", "must not be empty");
        }
        let title = given(self.title);
        for (name, text) in [
            ("title", &title),
            ("workspaceId", &self.workspace_id),
            ("workspaceName", &self.workspace_name),
            ("contextId", &self.context_id),
        ] {
            if let Some(text) = text.as_ref().filter(|text| !text.is_empty()) {
                fields.check(name, check::name(text));
            }
        }
        fields.finish()?;
        let thread = given(self.thread_id);
        let thread = thread.map(|id| id.parse::<ThreadId>().map_err(|_| Error::not_found("Thread", id))).transpose()?;
        let labels = [
            ("workspaceId", self.workspace_id),
            ("workspaceName", self.workspace_name),
            ("contextId", self.context_id),
        ];
        let stored = labels.into_iter().filter_map(|(name, text)| Some((name.to_owned(), json!(text?)))).collect();
        let label = RunLabel {
            name: Some(self.name),
            agent_name: Some(self.agent_name.clone()),
            title,
            metadata: self.metadata,
            stored,
        };
        Ok(Wish {
            label,
            prompt: given(self.prompt),
            thread,
            agent_name: self.agent_name,
            agent_id: given(self.agent_id),
            environment_id: given(self.environment_id),
            environment_name: given(self.environment_name),
        })
    }
}

fn given(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
}

impl Wish {
    /// Refuses a thread that has another agent or environment than the ones named.
    pub(super) fn check_thread(&self, thread: &Thread) -> Result<()> {
        let mut fields = Fields::default();
        let agent = thread.agent_id.as_ref().map(|id| id.as_str());
        if self.agent_id.is_some() && self.agent_id.as_deref() != agent {
            fields.refuse("agentId", "is not the agent of the thread");
        }
        if self.environment_id.as_deref().is_some_and(|id| id != thread.environment_id.as_str()) {
            fields.refuse("environmentId", "is not the environment of the thread");
        }
        fields.finish()
    }

    /// Puts the agent and the environment into the fields of a new thread, those that are named by their names too.
    ///
    /// # Errors
    /// 400 for a name that nothing of the project has, or more than one thing.
    pub(super) async fn choose(&self, api: &Api, caller: &Caller, fields: &mut ThreadFields) -> Result<()> {
        if self.agent_id.is_none() {
            let named = api.store.find_agents_named(&caller.project, &self.agent_name).await?;
            fields.agent_id = Some(only("agentName", "agentId", "agent", named)?);
        }
        if let (None, Some(name)) = (&self.environment_id, &self.environment_name) {
            let named = api.store.find_environments_named(&caller.project, name).await?;
            fields.environment_id = Some(json!(only("environmentName", "environmentId", "environment", named)?));
        }
        Ok(())
    }
}

/// Gives the one that a name means.
fn only<T: Into<String>>(field: &str, by_id: &str, kind: &str, named: Vec<T>) -> Result<String> {
    let mut named = named.into_iter();
    match (named.next(), named.next()) {
        (Some(one), None) => Ok(one.into()),
        (None, _) => Err(Error::invalid_field(field, format!("names no {kind} of the project"))),
        (Some(_), Some(_)) => {
            Err(Error::invalid_field(field, format!("is the name of more than one {kind}: send {by_id}")))
        }
    }
}

/// A change of a run. An absent field is left alone, `null` clears it.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = RunUpdate)]
pub(super) struct UpdateRun {
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    name: Patch<String>,
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    title: Patch<String>,
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    metadata: Patch<Map<String, Value>>,
    /// `cancelled` stops a run under way; the run's own changes nothing.
    #[schema(example = "cancelled")]
    status: Option<String>,
    /// Lines to be added to its log.
    logs: Option<Vec<NewRunLog>>,
    /// Measured: cannot be set.
    #[schema(value_type = Option<f64>)]
    duration: Option<Value>,
    /// Measured: cannot be set.
    #[schema(value_type = Option<f64>)]
    cost: Option<Value>,
    /// Measured: cannot be set.
    #[schema(value_type = Option<Object>)]
    token_usage: Option<Value>,
}

/// A change of a run that was checked.
pub(super) struct Change {
    pub label: LabelChange,
    pub logs: Vec<NewLog>,
    pub cancels: bool,
}

/// What a run is to be called.
pub(super) struct LabelChange {
    name: Patch<String>,
    title: Patch<String>,
    metadata: Patch<Map<String, Value>>,
}

impl UpdateRun {
    /// Checks it for a run that stands so.
    pub(super) fn check(self, now: RunStatus) -> Result<Change> {
        let mut fields = Fields::default();
        for (field, patch) in [("name", &self.name), ("title", &self.title)] {
            if let Patch::Value(text) = patch {
                fields.check(field, check::name(text));
            }
        }
        for (field, value) in [("duration", &self.duration), ("cost", &self.cost), ("tokenUsage", &self.token_usage)] {
            if value.is_some() {
                fields.refuse(field, "is measured and cannot be set");
            }
        }
        let lines = self.logs.unwrap_or_default();
        if lines.len() > MAX_ADDED {
            fields.refuse("logs", format!("must have at most {MAX_ADDED} lines"));
        }
        let logs = lines.into_iter().enumerate();
        let logs = logs.filter_map(|(n, line)| line.check_as(&mut fields, &format!("logs[{n}]."))).collect();
        let cancels = match self.status.as_deref() {
            None | Some("") => false,
            Some(word) if word == view::word(now) => false,
            Some("cancelled") if !now.is_over() => true,
            Some("cancelled") => {
                fields.refuse("status", format!("cannot be cancelled: the run is {} already", view::word(now)));
                false
            }
            Some(_) => {
                fields.refuse("status", "says what happened: the only one that can be set is cancelled");
                false
            }
        };
        fields.finish()?;
        Ok(Change { label: LabelChange { name: self.name, title: self.title, metadata: self.metadata }, logs, cancels })
    }
}

impl Change {
    /// Tells whether the run is to be called otherwise.
    pub(super) fn renames(&self) -> bool {
        let LabelChange { name, title, metadata } = &self.label;
        *name != Patch::Absent || *title != Patch::Absent || *metadata != Patch::Absent
    }
}

impl LabelChange {
    pub(super) fn apply(self, label: &mut RunLabel) {
        self.name.apply(&mut label.name);
        self.title.apply(&mut label.title);
        self.metadata.apply(&mut label.metadata);
    }
}

/// A line to be added to a run's log.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(example = json!({"level": "info", "message": "Deployed"}))]
pub(super) struct NewRunLog {
    /// `info` (if absent), `warning`, `error` or `debug`.
    level: Option<String>,
    message: Option<String>,
    #[schema(value_type = Option<Object>)]
    metadata: Option<Map<String, Value>>,
}

impl NewRunLog {
    pub(super) fn check(self) -> Result<NewLog> {
        let mut fields = Fields::default();
        let line = self.check_as(&mut fields, "");
        fields.finish()?;
        line.ok_or_else(|| Error::missing_field("message"))
    }

    fn check_as(self, fields: &mut Fields, prefix: &str) -> Option<NewLog> {
        let level = match self.level.as_deref().filter(|level| !level.is_empty()) {
            None => Some(LogLevel::Info),
            Some(word) => parse_level(word),
        };
        if level.is_none() {
            fields.refuse(format!("{prefix}level"), "must be info, warning, error or debug");
        }
        let message = self.message.filter(|message| !message.is_empty());
        if message.is_none() {
            fields.refuse(format!("{prefix}message"), "is required");
        }
        Some(NewLog::new(level?, message?, self.metadata))
    }
}
