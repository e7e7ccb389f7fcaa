//! What clients send to make and change a thread, and what of it is acceptable.

use domain::{
    AgentId, EnvironmentId, ProjectId,
    thread::{Thread, ThreadStatus},
};
use serde::Deserialize;
use serde_json::{Map, Value};
use store::threads::NewThread;
use utoipa::ToSchema;

use crate::{
    Api, Error, Result,
    auth::Caller,
    body::Patch,
    caps::{CapFields, CapPatches},
    check::{Fields, Verdict},
    messages::{MessageInput, Work},
};

const MAX_TITLE_CHARS: usize = 500;

/// What a new thread is made of. With a message (`content`, `task` or `messages`) a run is started as well.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ThreadFields {
    /// The environment to work in; the project's default one if absent.
    #[schema(value_type = Option<String>)]
    pub(crate) environment_id: Option<Value>,
    /// Another name of `environmentId`.
    #[schema(value_type = Option<String>)]
    computer_id: Option<Value>,
    pub(crate) agent_id: Option<String>,
    project_id: Option<String>,
    /// The caller's own tag, to list by.
    app_id: Option<String>,
    title: Option<String>,
    #[schema(value_type = Option<Object>)]
    pub(crate) metadata: Option<Map<String, Value>>,
    /// For all runs of the thread together.
    #[serde(flatten)]
    caps: CapFields,
    /// First messages; the last one is from the user and starts the run.
    pub(super) messages: Option<Vec<MessageInput>>,
}

/// A new thread, and what is to be done in it.
#[derive(ToSchema)]
#[allow(dead_code, reason = "describes a body that is read in two halves")]
pub(super) struct CreateThread {
    #[serde(flatten)]
    thread: ThreadFields,
    #[serde(flatten)]
    work: Work,
}

impl ThreadFields {
    /// Tells whether no first message is among them.
    pub(super) fn has_no_messages(&self) -> bool {
        self.messages.as_ref().is_none_or(Vec::is_empty)
    }

    /// Makes the thread's row, in the project's default environment where none is named.
    pub(super) async fn into_new(self, api: &Api, caller: &Caller, task: Option<String>) -> Result<NewThread> {
        let mut fields = Fields::default();
        if let Some(title) = &self.title {
            fields.check("title", check_title(title));
        }
        let limits = self.caps.check(&mut fields);
        fields.finish()?;
        check_project(self.project_id.as_deref(), &caller.project)?;
        let agent_id = match self.agent_id {
            Some(id) => Some(id.parse::<AgentId>().map_err(|_| Error::not_found("Agent", id))?),
            None => None,
        };
        let named = self.environment_id.filter(|id| !id.is_null()).or(self.computer_id.filter(|id| !id.is_null()));
        let environment_id = match named {
            None => api.store.default_environment(&caller.project).await?.id,
            Some(Value::String(id)) if !id.trim().is_empty() => {
                id.parse::<EnvironmentId>().map_err(|_| Error::not_found("Environment", id))?
            }
            Some(_) => return Err(Error::missing_field("environmentId")),
        };
        Ok(NewThread {
            environment_id,
            agent_id,
            app_id: self.app_id,
            title: self.title,
            task,
            metadata: self.metadata,
            limits,
        })
    }
}

/// A change of a thread. An absent field is left alone, `null` clears it.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct UpdateThread {
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    title: Patch<String>,
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    task: Patch<String>,
    /// `active`, `completed`, `failed`, `cancelled` or `archived`, and only while no run is under way.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    status: Patch<String>,
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    agent_id: Patch<String>,
    /// Only while no run is under way.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    environment_id: Patch<String>,
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    app_id: Patch<String>,
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    project_id: Patch<String>,
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    metadata: Patch<Map<String, Value>>,
    /// For all runs of the thread together.
    #[serde(flatten)]
    caps: CapPatches,
}

/// A change of a thread that was checked.
pub(super) struct Change {
    title: Patch<String>,
    task: Patch<String>,
    status: Option<ThreadStatus>,
    agent_id: Patch<AgentId>,
    environment_id: Option<EnvironmentId>,
    app_id: Patch<String>,
    metadata: Patch<Map<String, Value>>,
    caps: CapPatches,
}

impl UpdateThread {
    pub(super) fn check(self, caller: &Caller) -> Result<Change> {
        let mut fields = Fields::default();
        if let Patch::Value(title) = &self.title {
            fields.check("title", check_title(title));
        }
        let mut status = None;
        fields.check_patch("status", &self.status, |word| {
            status = Some(word.parse::<ThreadStatus>().map_err(|err| err.to_string())?);
            Ok(())
        });
        fields.check_patch("environmentId", &self.environment_id, |_| Ok(()));
        self.caps.check(&mut fields);
        fields.finish()?;
        match &self.project_id {
            Patch::Absent | Patch::Null => {}
            Patch::Value(id) => check_project(Some(id), &caller.project)?,
        }
        let agent_id = match self.agent_id {
            Patch::Absent => Patch::Absent,
            Patch::Null => Patch::Null,
            Patch::Value(id) => Patch::Value(id.parse().map_err(|_| Error::not_found("Agent", id))?),
        };
        let environment_id = match self.environment_id {
            Patch::Absent | Patch::Null => None,
            Patch::Value(id) => Some(id.parse().map_err(|_| Error::not_found("Environment", id))?),
        };
        let Self { title, task, app_id, metadata, caps, .. } = self;
        Ok(Change { title, task, status, agent_id, environment_id, app_id, metadata, caps })
    }
}

impl Change {
    /// Changes `thread`, or nothing of it: a run that is under way stays in its environment. Tells whether it did.
    pub(super) fn apply(self, thread: &mut Thread) -> bool {
        let moves = self.environment_id.as_ref().is_some_and(|id| *id != thread.environment_id);
        if moves && thread.status.is_busy() {
            return false;
        }
        self.title.apply(&mut thread.title);
        self.task.apply(&mut thread.task);
        self.agent_id.apply(&mut thread.agent_id);
        self.app_id.apply(&mut thread.app_id);
        self.metadata.apply(&mut thread.metadata);
        self.caps.apply(&mut thread.limits);
        thread.status = self.status.unwrap_or(thread.status);
        if let Some(id) = self.environment_id {
            thread.environment_id = id;
        }
        true
    }
}

/// A key opens one project, and all that is made with it is in that one.
fn check_project(named: Option<&str>, own: &ProjectId) -> Result<()> {
    match named {
        None | Some("" | "none") => Ok(()),
        Some(id) if id == own.as_str() => Ok(()),
        Some(id) => Err(Error::not_found("Project", id)),
    }
}

pub(crate) fn check_title(title: &str) -> Verdict {
    if title.chars().count() > MAX_TITLE_CHARS {
        return Err(format!("must have at most {MAX_TITLE_CHARS} characters"));
    }
    Ok(())
}
