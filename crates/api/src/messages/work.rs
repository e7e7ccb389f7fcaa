//! What a message asks of its run: the union of what all clients send with one.
//!
//! Nothing that would change the result is ignored in silence. What this server cannot do yet is refused with 501 where
//! it is asked for, and accepted where it is not (`null`, `false`, an empty list).

use std::collections::BTreeMap;

use domain::{
    MessageId, RunId, agent::ReasoningEffort, message::Role, permission::PermissionSet, repository::GithubRepository,
    run::RunOptions, schema::Schema,
};
use sandbox::git;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use store::{
    messages::NewMessage,
    queue::IfBusy,
    rewind::Rewind,
    runs::{Idempotency, NewRun},
};
use utoipa::ToSchema;

use super::extras::{AttachmentInput, Extras, SecretInput};
use crate::{
    Error, Result,
    caps::CapFields,
    check::{self, Fields},
    mcp,
};

/// The longest message, in bytes. No model's context window holds more.
const MAX_CONTENT_BYTES: usize = 4 * 1024 * 1024;

const MAX_SETUP_SCRIPTS: usize = 20;

/// A message and how it is to be worked on.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = RunRequest, example = json!({"content": "Create a Flask API and run it"}))]
pub(crate) struct Work {
    /// The message.
    content: Option<String>,
    /// Another name of `content`.
    task: Option<String>,
    /// What the model reads instead of `content`, which is only displayed then.
    execution_content: Option<String>,
    /// A passage that the message is about; the model reads it as a quotation before the message.
    quoted_selection: Option<QuotedSelection>,
    /// Stored with the message and given back with it.
    #[schema(value_type = Option<Object>)]
    message_metadata: Option<Map<String, Value>>,
    /// Replaces parts of the agent for this run.
    agent_config: Option<AgentConfig>,
    #[schema(value_type = Option<String>, example = "medium")]
    reasoning_effort: Option<ReasoningEffort>,
    /// Replaces the agent's skills for this run.
    enabled_skills: Option<Vec<String>>,
    /// Environment variables of the tools' processes, beside those of the environment.
    env_vars: Option<BTreeMap<String, String>>,
    /// Replaces the environment's setting for this run.
    internet_access: Option<bool>,
    /// Which tool calls of this run are made, asked about or refused, beside what the agent's set says: it may only take
    /// away.
    #[schema(value_type = Option<Object>)]
    permission_set: Option<Value>,
    /// An id of your choice for the run.
    run_id: Option<String>,
    /// Accepted; files are always kept.
    persist_file_changes: Option<bool>,
    /// Runs are always kept durably and done when there is room. With this, a stream does not wait for that: it ends at
    /// once and says `queued: true` where there is no room now.
    queue_when_capacity_unavailable: Option<bool>,
    /// Files that come with the message: the model sees images and PDF files, and is told of others.
    attachments: Option<Vec<AttachmentInput>>,
    /// Secret environment variables of the run's commands.
    secrets: Option<Vec<SecretInput>>,
    /// A repository of GitHub that is cloned into the workspace, or fetched, before the model is asked. If that fails, so
    /// does the run.
    github_repo: Option<GithubRepoInput>,
    /// Shell commands that are run in the computer before the model is asked, in order. The model is told what came out.
    setup_scripts: Option<Vec<String>>,
    /// A JSON Schema. The run's answer is JSON that satisfies it, or the run fails with the code `response_schema`.
    #[schema(value_type = Option<Object>)]
    response_schema: Option<Value>,
    /// MCP servers whose tools this run has, beside those of the environment; of one name the message's own is taken.
    #[schema(value_type = Option<Vec<crate::environments::McpServer>>)]
    mcp_servers: Option<Vec<Value>>,
    /// Takes the thread back first: so many of its messages stay, and the message goes on from there. What came after
    /// them is kept, marked and hidden.
    truncate_at_message_index: Option<i64>,
    /// Takes the thread back to before this message of the user's, which the new one replaces. It wins over
    /// `truncateAtMessageIndex`.
    edit_message_id: Option<String>,
    /// `false`: answer at once with JSON, and read the events elsewhere. Absent: stream them.
    stream: Option<bool>,
    /// What becomes of the message while a run of the thread is under way. Absent: it is refused with 409. `queue`: it
    /// runs after all that came before it. `interrupt`: that run is stopped, and this one is next. `steer`: that run's model
    /// reads it with its next turn, and the answer is that run's events from now on.
    #[schema(example = "queue")]
    mode: Option<String>,
    /// Has the message answered by deep research: agents search and read the web, and write a report with its sources.
    /// Refused with 400 (`skill_unavailable`) where nobody can search.
    research_mode_enabled: Option<bool>,
    /// The model that does it, instead of the agent's.
    deep_research_model: Option<String>,
    /// For this run.
    #[serde(flatten)]
    caps: CapFields,
    /// What is not supported yet, by its name.
    #[serde(flatten)]
    #[schema(ignore)]
    rest: Map<String, Value>,
}

/// A part of an agent, for one run.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AgentConfig {
    #[schema(example = "claude-sonnet-5-5")]
    model: Option<String>,
    instructions: Option<String>,
    #[schema(value_type = Option<String>)]
    reasoning_effort: Option<ReasoningEffort>,
}

/// A passage that a message is about.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct QuotedSelection {
    text: String,
    /// Where it comes from: `working_log` or `run_summary`.
    source_type: Option<String>,
}

/// A repository of GitHub. Private ones are opened by a secret `GITHUB_TOKEN` or `GH_TOKEN`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct GithubRepoInput {
    #[schema(example = "octocat/Hello-World")]
    repo_full_name: Option<String>,
    /// The repository's default branch if absent.
    branch: Option<String>,
    /// The agent is told that its branches begin with this.
    branch_prefix: Option<String>,
    /// The agent is told to open a pull request.
    create_pull_requests: Option<bool>,
    /// The agent is told that it may overwrite what the remote has.
    force_push_commits: Option<bool>,
}

impl GithubRepoInput {
    /// Clients send an empty object for none.
    fn check(self, fields: &mut Fields) -> Option<GithubRepository> {
        let full_name = self.repo_full_name.filter(|name| !name.is_empty())?;
        if let Err(err) = git::Remote::github(&full_name, None, &git::Options::default()) {
            fields.refuse("githubRepo.repoFullName", err.to_string());
        }
        let given = |text: Option<String>| text.filter(|text| !text.is_empty());
        let (branch, branch_prefix) = (given(self.branch), given(self.branch_prefix));
        if let Some(Err(err)) = branch.as_deref().map(|branch| git::check_branch("branch", branch)) {
            fields.refuse("githubRepo.branch", err.to_string());
        }
        if branch_prefix.as_deref().is_some_and(|prefix| git::check_branch("branch", &format!("{prefix}x")).is_err()) {
            fields.refuse("githubRepo.branchPrefix", "is not how the name of a branch can begin");
        }
        Some(GithubRepository {
            full_name,
            branch,
            branch_prefix,
            wants_pull_request: self.create_pull_requests == Some(true),
            may_force_push: self.force_push_commits == Some(true),
        })
    }
}

/// An initial message of a thread.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct MessageInput {
    /// `user`, `assistant` or `system`.
    role: String,
    content: String,
}

/// Fields that ask for what this server cannot do yet, and what that is called.
const UNSUPPORTED: [(&str, &str); 3] = [
    ("schedule", "Starting a run by a schedule"),
    ("knowledgeContext", "Retrieval from knowledge libraries"),
    ("permissionMode", "Choosing a permission mode"),
];

impl Work {
    /// Tells whether the answer is to be a stream.
    pub(crate) fn wants_stream(&self) -> bool {
        self.stream != Some(false)
    }

    /// Tells what becomes of the message if its thread is busy.
    pub(crate) fn if_busy(&self) -> Result<IfBusy> {
        match self.mode.as_deref() {
            None | Some("") => Ok(IfBusy::Refuse),
            Some("queue") => Ok(IfBusy::Queue),
            Some("interrupt") => Ok(IfBusy::Interrupt),
            Some("steer") => Ok(IfBusy::Steer),
            Some(_) => Err(Error::invalid_field("mode", "must be queue, interrupt or steer")),
        }
    }

    /// Tells whether the client would rather be told that its run is put off than wait for it.
    pub(crate) fn may_be_put_off(&self) -> bool {
        self.queue_when_capacity_unavailable == Some(true)
    }

    /// Tells whether there is a message.
    pub(crate) fn has_content(&self) -> bool {
        self.content.is_some() || self.task.is_some()
    }

    /// Gives the task in the words of older clients, which is kept on a thread.
    pub(crate) fn task(&self) -> Option<&str> {
        self.task.as_deref()
    }

    /// Has the model read something else than the message that is shown.
    pub(crate) fn read_instead(&mut self, content: String) {
        self.execution_content = Some(content);
    }

    /// Takes out what needs more than a row.
    pub(crate) fn take_extras(&mut self) -> Extras {
        Extras {
            attachments: self.attachments.take().unwrap_or_default(),
            secrets: self.secrets.take().unwrap_or_default(),
        }
    }

    /// Refuses what is not supported yet.
    pub(crate) fn check_supported(&self) -> Result<()> {
        for (name, what) in UNSUPPORTED {
            if self.rest.get(name).is_some_and(|value| asks_for_something(name, value)) {
                let message = format!("{what} ({name}) is not supported yet");
                return Err(Error::not_implemented(message));
            }
        }
        Ok(())
    }

    /// Makes the run of the message, or of the last of `initial` messages where there is no other.
    ///
    /// # Errors
    /// 400 for a message that is missing, empty or not the user's, and for options that are not acceptable; 501 for what
    /// is not supported yet.
    pub(crate) fn into_run(self, initial: Vec<MessageInput>, idempotency: Option<Idempotency>) -> Result<NewRun> {
        self.check_supported()?;
        let mut fields = Fields::default();
        let mut messages = Vec::new();
        for (n, message) in initial.into_iter().enumerate() {
            check_content(&mut fields, &format!("messages[{n}].content"), &message.content);
            match message.role.parse::<Role>() {
                Ok(role) => messages.push(NewMessage { role, content: message.content, metadata: None }),
                Err(err) => fields.refuse(format!("messages[{n}].role"), err.to_string()),
            }
        }
        let name = if self.content.is_some() { "content" } else { "task" };
        if let Some(content) = self.content.or(self.task) {
            check_content(&mut fields, name, &content);
            messages.push(content.as_str().into());
        }
        if messages.last().is_some_and(|last| last.role != Role::User) {
            fields.refuse("messages", "the last one must be from the user");
        }
        if let Some(execution_content) = &self.execution_content {
            check_content(&mut fields, "executionContent", execution_content);
        }
        let variables = self.env_vars.unwrap_or_default();
        let sizes: Vec<(&str, usize)> = variables.iter().map(|(key, value)| (&**key, value.len())).collect();
        check::variables_at(&mut fields, "envVars", &sizes, |index, _| format!("envVars[{:?}]", sizes[index].0));
        let agent_config = self.agent_config.unwrap_or_default();
        if agent_config.model.as_deref().is_some_and(|model| model.trim().is_empty()) {
            fields.refuse("agentConfig.model", "must not be empty");
        }
        let id = self.run_id.map(|id| id.parse::<RunId>()).transpose().unwrap_or_else(|err| {
            fields.refuse("runId", err.to_string());
            None
        });
        let limits = self.caps.check(&mut fields);
        let github_repository = self.github_repo.and_then(|repository| repository.check(&mut fields));
        let setup_scripts = self.setup_scripts.unwrap_or_default();
        if setup_scripts.len() > MAX_SETUP_SCRIPTS {
            fields.refuse("setupScripts", format!("must be at most {MAX_SETUP_SCRIPTS}"));
        }
        for (n, _) in setup_scripts.iter().enumerate().filter(|(_, script)| script.trim().is_empty()) {
            fields.refuse(format!("setupScripts[{n}]"), "must not be empty");
        }
        let response_schema = self.response_schema.filter(|schema| !schema.is_null());
        if let Some(Err(err)) = response_schema.as_ref().map(Schema::parse) {
            fields.refuse("responseSchema", err.to_string());
        }
        if self.truncate_at_message_index.is_some_and(|index| index < 0) {
            fields.refuse("truncateAtMessageIndex", "must be 0 or more");
        }
        if let Some(Err(err)) = self.permission_set.as_ref().map(PermissionSet::parse) {
            fields.refuse("permissionSet", err.to_string());
        }
        let mcp_servers = self.mcp_servers.map(|servers| mcp::check(&mut fields, servers)).unwrap_or_default();
        fields.finish()?;
        let rewind = match self.edit_message_id.filter(|id| !id.is_empty()) {
            Some(id) => {
                Some(Rewind::BeforeMessage(id.parse::<MessageId>().map_err(|_| Error::not_found("Message", &id))?))
            }
            None => self.truncate_at_message_index.map(Rewind::ToIndex),
        };
        let Some(last) = messages.last() else { return Err(Error::missing_field("content")) };

        let mut stored = Map::new();
        let mut execution_content = self.execution_content;
        if let Some(quoted) = self.quoted_selection.filter(|quoted| !quoted.text.trim().is_empty()) {
            execution_content = Some(quote(&quoted.text, execution_content.as_deref().unwrap_or(&last.content)));
            stored.insert("quotedSelection".into(), json!({"text": quoted.text, "sourceType": quoted.source_type}));
        }
        if !mcp_servers.is_empty() {
            stored.insert(mcp::FIELD.into(), mcp_servers.into());
        }
        if let Some(permission_set) = self.permission_set.filter(|set| !set.is_null()) {
            stored.insert("permissionSet".into(), permission_set);
        }
        for (name, value) in [
            ("persistFileChanges", self.persist_file_changes),
            ("queueWhenCapacityUnavailable", self.queue_when_capacity_unavailable),
        ] {
            if let Some(value) = value {
                stored.insert(name.into(), value.into());
            }
        }
        // Of several messages it belongs to the one that is sent, not to what was said before it.
        if let Some(sent) = messages.last_mut() {
            sent.metadata = self.message_metadata;
        }
        Ok(NewRun {
            id,
            messages,
            options: RunOptions {
                execution_content,
                model: agent_config.model,
                instructions: agent_config.instructions,
                reasoning_effort: self.reasoning_effort.or(agent_config.reasoning_effort),
                internet_access: self.internet_access,
                environment_variables: variables,
                enabled_skills: self.enabled_skills,
                github_repository,
                setup_scripts,
                response_schema,
                stored,
                limits,
                research_mode: self.research_mode_enabled == Some(true),
                deep_research_model: self.deep_research_model.filter(|model| !model.trim().is_empty()),
                ..RunOptions::default()
            },
            idempotency,
            rewind,
            ..NewRun::default()
        })
    }
}

fn check_content(fields: &mut Fields, name: &str, content: &str) {
    if content.trim().is_empty() {
        fields.refuse(name, "must not be empty");
    } else if content.len() > MAX_CONTENT_BYTES {
        fields.refuse(name, format!("must have at most {MAX_CONTENT_BYTES} bytes"));
    }
}

/// Tells whether a value asks for what its field is for: clients send empty ones, too, and switches that are off.
fn asks_for_something(name: &str, value: &Value) -> bool {
    let is_enabled = |value: &Value| value.get("enabled") != Some(&Value::Bool(false));
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::Bool(true) | Value::Number(_) => true,
        Value::String(text) => !text.is_empty(),
        Value::Array(entries) => !entries.is_empty(),
        Value::Object(entries) if name == "knowledgeContext" => !entries.is_empty() && is_enabled(value),
        Value::Object(entries) => !entries.is_empty(),
    }
}

/// Puts a quotation before a message.
fn quote(quoted: &str, message: &str) -> String {
    let quotation: String = quoted.trim().lines().map(|line| format!("> {line}\n")).collect();
    format!("{quotation}\n{message}")
}

#[cfg(test)]
mod tests {
    use axum::{http::StatusCode, response::IntoResponse};

    use super::*;

    fn work(body: Value) -> Work {
        serde_json::from_value(body).expect("has the shape")
    }

    #[test]
    fn what_is_not_supported_is_refused_only_where_it_is_asked_for() {
        for off in [
            json!({"attachments": [], "secrets": null, "githubRepo": {}, "mode": ""}),
            json!({"knowledgeContext": {"enabled": false, "libraryIds": ["x"]}, "researchModeEnabled": false}),
            json!({"mcpServers": [{"name": "x", "enabled": false}], "truncateAtMessageIndex": null, "other": 1}),
        ] {
            assert!(work(off.clone()).check_supported().is_ok(), "{off}");
        }
        for on in [json!({"knowledgeContext": {"libraryIds": ["x"]}}), json!({"permissionMode": "plan"})] {
            let err = work(on.clone()).check_supported().expect_err("is asked for");
            assert_eq!(err.into_response().status(), StatusCode::NOT_IMPLEMENTED, "{on}");
        }
    }

    #[test]
    fn research_is_an_option_of_the_run() {
        let body = json!({"content": "Why?", "researchModeEnabled": true, "deepResearchModel": "claude-opus-5"});
        let run = work(body).into_run(Vec::new(), None).expect("is acceptable");
        assert!(run.options.research_mode);
        assert_eq!(run.options.deep_research_model.as_deref(), Some("claude-opus-5"));
        let body = json!({"content": "Why?", "researchModeEnabled": null, "deepResearchModel": ""});
        let run = work(body).into_run(Vec::new(), None).expect("is acceptable");
        assert_eq!((run.options.research_mode, run.options.deep_research_model), (false, None));
    }

    #[test]
    fn a_quotation_stands_before_what_the_model_reads() {
        let body = json!({"content": "Why?", "quotedSelection": {"text": "a\nb\n", "sourceType": "run_summary"}});
        let run = work(body).into_run(Vec::new(), None).expect("is acceptable");
        assert_eq!(run.options.execution_content.as_deref(), Some("> a\n> b\n\nWhy?"));
        assert_eq!(run.messages[0].content, "Why?");
    }

    #[test]
    fn all_that_is_wrong_with_a_message_is_told() {
        let body = json!({"content": " ", "envVars": {"A B": "x"}, "runId": "a/b", "agentConfig": {"model": ""}});
        let initial = vec![MessageInput { role: "robot".into(), content: String::new() }];
        let err = work(body).into_run(initial, None).expect_err("much is wrong");
        insta::assert_snapshot!(err.to_string());
    }
}
