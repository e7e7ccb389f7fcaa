//! What clients send to make and change a trigger, and what of it is acceptable.

use axum::http::StatusCode;
use domain::{
    AgentId, EnvironmentId,
    trigger::{Action, Source, Trigger},
};
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::{Map, Value};
use store::triggers::NewTrigger;
use utoipa::ToSchema;

use crate::{
    Error, Result,
    body::Patch,
    check::{self, Fields, Verdict},
};

const MAX_TEXT_BYTES: usize = 256 * 1024;
const MAX_FILTERS_BYTES: usize = 16 * 1024;
/// A secret that is shorter could be guessed from one signature.
const SECRET_CHARS: std::ops::RangeInclusive<usize> = 16..=256;

/// A new trigger. Not to be logged: it may hold a secret.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(example = json!({
    "name": "Review", "environmentId": "env_1", "source": "github", "event": "pull_request.opened",
    "filters": {"repo": "acme/site", "branch": "main"},
    "action": {"type": "send_message", "prompt": "Review {{payload.pull_request.html_url}}"}
}))]
pub(super) struct CreateTrigger {
    /// 1 to 255 characters.
    name: String,
    environment_id: String,
    /// `github`, `gitlab`, `slack`, `email`, `webhook`, `cron` or `custom`: where the event's name and the signature are
    /// looked for.
    source: String,
    /// What the sender calls the event: `push`, `pull_request`, `pull_request.opened`, …; `*` is any.
    event: String,
    action: ActionBody,
    /// Absent: the default model without instructions.
    agent_id: Option<String>,
    /// What the payload must have: paths into it (`pull_request.base.ref`), or `repo`, `branch`, `action`, `author`; each
    /// with a value, a text with `*` in it, or a list of which one is enough.
    #[schema(value_type = Option<Object>)]
    filters: Option<Map<String, Value>>,
    /// True if absent.
    enabled: Option<bool>,
    /// What senders sign with, where they have one already: 16 to 256 characters. One is made if it is absent.
    webhook_secret: Option<String>,
}

/// A change of a trigger. An absent field is left alone.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct UpdateTrigger {
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    name: Patch<String>,
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    environment_id: Patch<String>,
    /// `null` clears it.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    agent_id: Patch<String>,
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    event: Patch<String>,
    /// `null` clears them.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    filters: Patch<Map<String, Value>>,
    #[serde(default)]
    #[schema(value_type = Option<ActionBody>)]
    action: Patch<ActionBody>,
    #[serde(default)]
    #[schema(value_type = Option<bool>)]
    enabled: Patch<bool>,
}

/// What a trigger does. In its text `{{payload}}` (or `{{event.payload}}`) stands for all of what was sent,
/// `{{payload.some.field}}` for a part of it, `{{event.name}}` for the event. A text without any of the payload gets all of
/// it at its end.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct ActionBody {
    /// `send_message`.
    #[schema(example = "send_message")]
    r#type: Option<String>,
    prompt: Option<String>,
    /// Another name of `prompt`.
    message: Option<String>,
    /// An older name of it.
    template: Option<String>,
}

/// What a trigger's senders sign with from now on.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct NewSecret {
    /// 16 to 256 characters; one is made if it is absent.
    webhook_secret: Option<String>,
}

fn check_text(text: &str) -> Verdict {
    if text.len() <= MAX_TEXT_BYTES { Ok(()) } else { Err(format!("must have at most {MAX_TEXT_BYTES} bytes")) }
}

fn check_filters(filters: &Map<String, Value>) -> Verdict {
    let bytes = serde_json::to_string(filters).map_or(usize::MAX, |text| text.len());
    if bytes <= MAX_FILTERS_BYTES { Ok(()) } else { Err(format!("must have at most {MAX_FILTERS_BYTES} bytes")) }
}

fn check_secret(secret: &str) -> Verdict {
    let chars = secret.chars().count();
    if SECRET_CHARS.contains(&chars) { Ok(()) } else { Err("must have 16 to 256 characters".into()) }
}

impl ActionBody {
    fn check(&self, fields: &mut Fields) {
        for (name, text) in [("prompt", &self.prompt), ("message", &self.message), ("template", &self.template)] {
            if let Some(text) = text {
                fields.check(&format!("action.{name}"), check_text(text));
            }
        }
    }

    fn into_action(self) -> Result<Action> {
        match self.r#type.as_deref() {
            None | Some("send_message") => {
                Ok(Action { prompt: self.prompt, message: self.message, template: self.template })
            }
            Some("comment_pull_request" | "comment_merge_request") => Err(Error::new(
                StatusCode::NOT_IMPLEMENTED,
                "This server does not write comments by itself: use send_message, and have the agent write it",
            )),
            Some(_) => Err(Error::invalid_field("action.type", "must be send_message")),
        }
    }
}

fn parse_agent(id: &str) -> Result<AgentId> {
    id.parse().map_err(|_| Error::not_found("Agent", id))
}

fn parse_environment(id: &str) -> Result<EnvironmentId> {
    id.parse().map_err(|_| Error::not_found("Environment", id))
}

impl CreateTrigger {
    pub(super) fn into_new(self) -> Result<NewTrigger> {
        let mut fields = Fields::default();
        fields.check("name", check::name(&self.name));
        fields.check("event", check::name(&self.event));
        self.action.check(&mut fields);
        let filters = self.filters.unwrap_or_default();
        fields.check("filters", check_filters(&filters));
        if let Some(secret) = &self.webhook_secret {
            fields.check("webhookSecret", check_secret(secret));
        }
        let source = self.source.parse::<Source>();
        if source.is_err() {
            fields.refuse("source", "must be github, gitlab, slack, email, webhook, cron or custom");
        }
        fields.finish()?;
        Ok(NewTrigger {
            name: self.name,
            environment_id: parse_environment(&self.environment_id)?,
            agent_id: self.agent_id.filter(|id| !id.is_empty()).as_deref().map(parse_agent).transpose()?,
            source: source.map_err(|err| Error::invalid_field("source", err.to_string()))?,
            event: self.event,
            filters,
            action: self.action.into_action()?,
            enabled: self.enabled.unwrap_or(true),
            secret: self.webhook_secret.map(SecretString::from),
        })
    }
}

impl UpdateTrigger {
    pub(super) fn apply(self, trigger: &mut Trigger) -> Result<()> {
        let mut fields = Fields::default();
        fields.check_patch("name", &self.name, |name| check::name(name));
        fields.check_patch("event", &self.event, |event| check::name(event));
        if let Patch::Value(filters) = &self.filters {
            fields.check("filters", check_filters(filters));
        }
        if let Patch::Value(action) = &self.action {
            action.check(&mut fields);
        }
        fields.finish()?;
        self.name.apply_or_default(&mut trigger.name);
        self.event.apply_or_default(&mut trigger.event);
        self.filters.apply_or_default(&mut trigger.filters);
        match self.agent_id {
            Patch::Absent => {}
            Patch::Null => trigger.agent_id = None,
            Patch::Value(id) => trigger.agent_id = Some(parse_agent(&id)?),
        }
        if let Patch::Value(id) = self.environment_id {
            trigger.environment_id = parse_environment(&id)?;
        }
        if let Patch::Value(action) = self.action {
            trigger.action = action.into_action()?;
        }
        if let Patch::Value(enabled) = self.enabled {
            trigger.enabled = enabled;
        }
        Ok(())
    }
}

impl NewSecret {
    pub(super) fn into_secret(self) -> Result<Option<SecretString>> {
        let mut fields = Fields::default();
        if let Some(secret) = &self.webhook_secret {
            fields.check("webhookSecret", check_secret(secret));
        }
        fields.finish()?;
        Ok(self.webhook_secret.map(SecretString::from))
    }
}
