//! What clients send to make and change a webhook, and what of it is acceptable.
//!
//! Whether an address may be reached is found out when something is sent there: a name can mean another one by then.

use std::time::Duration;

use domain::webhook::{EVERYTHING, Event, Webhook};
use serde::Deserialize;
use store::webhooks::NewWebhook;
use url::Url;
use utoipa::ToSchema;

use crate::{
    Result,
    body::Patch,
    check::{Fields, Verdict},
};

const MAX_URL_CHARS: usize = 2000;
const MAX_DESCRIPTION_BYTES: usize = 1024;
const DAY: u64 = 24 * 60 * 60;

/// A new webhook.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(example = json!({"url": "https://example.com/hooks/atelier", "events": ["run.completed", "run.failed"]}))]
pub(super) struct CreateWebhook {
    /// `https://…` or `http://…`. Private addresses are reached only where the operator names them.
    url: String,
    description: Option<String>,
    /// `run.completed`, `run.failed`, `run.cancelled`, `run.waiting`, `schedule.paused`; everything if absent.
    events: Option<Vec<String>>,
    /// True if absent.
    enabled: Option<bool>,
}

/// A change of a webhook. An absent field is left alone.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct UpdateWebhook {
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    url: Patch<String>,
    /// `null` clears it.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    description: Patch<String>,
    #[serde(default)]
    #[schema(value_type = Option<Vec<String>>)]
    events: Patch<Vec<String>>,
    #[serde(default)]
    #[schema(value_type = Option<bool>)]
    enabled: Patch<bool>,
}

/// How a secret is replaced.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Rotation {
    /// How long the secret before is used too: up to 30 days, one day if absent.
    overlap_seconds: Option<u64>,
}

fn check_url(url: &str) -> Verdict {
    if url.chars().count() > MAX_URL_CHARS {
        return Err(format!("must have at most {MAX_URL_CHARS} characters"));
    }
    let url = Url::parse(url).map_err(|err| format!("is not a URL: {err}"))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none_or(str::is_empty) {
        return Err("must begin with https:// or http:// and name a host".into());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must not hold a user name or password: what is sent is signed".into());
    }
    Ok(())
}

fn check_description(description: &str) -> Verdict {
    let is_short = description.len() <= MAX_DESCRIPTION_BYTES;
    if is_short { Ok(()) } else { Err(format!("must have at most {MAX_DESCRIPTION_BYTES} bytes")) }
}

fn check_events(events: &[String]) -> Verdict {
    let known = |word: &String| word == EVERYTHING || word.parse::<Event>().is_ok_and(|event| event != Event::Test);
    match events.iter().find(|word| !known(word)) {
        _ if events.is_empty() => Err("must name an event".into()),
        None => Ok(()),
        Some(_) => {
            let words = Event::ALL.iter().filter(|event| **event != Event::Test).map(|event| event.as_str());
            Err(format!("must be of {}, {EVERYTHING}", words.collect::<Vec<_>>().join(", ")))
        }
    }
}

fn once(mut events: Vec<String>) -> Vec<String> {
    events.sort();
    events.dedup();
    events
}

impl CreateWebhook {
    pub(super) fn into_new(self) -> Result<NewWebhook> {
        let mut fields = Fields::default();
        let events = self.events.unwrap_or_else(|| vec![EVERYTHING.to_owned()]);
        fields.check("url", check_url(&self.url));
        fields.check("events", check_events(&events));
        if let Some(description) = &self.description {
            fields.check("description", check_description(description));
        }
        fields.finish()?;
        Ok(NewWebhook {
            url: self.url,
            description: self.description,
            events: once(events),
            enabled: self.enabled.unwrap_or(true),
        })
    }
}

impl UpdateWebhook {
    pub(super) fn apply(self, webhook: &mut Webhook) -> Result<()> {
        let mut fields = Fields::default();
        fields.check_patch("url", &self.url, |url| check_url(url));
        fields.check_patch("events", &self.events, |events| check_events(events));
        if let Patch::Value(description) = &self.description {
            fields.check("description", check_description(description));
        }
        fields.finish()?;
        self.url.apply_or_default(&mut webhook.url);
        self.description.apply(&mut webhook.description);
        if let Patch::Value(events) = self.events {
            webhook.events = once(events);
        }
        if let Patch::Value(enabled) = self.enabled {
            webhook.enabled = enabled;
        }
        Ok(())
    }
}

impl Rotation {
    pub(super) fn overlap(&self) -> Result<Duration> {
        let seconds = self.overlap_seconds.unwrap_or(DAY);
        let mut fields = Fields::default();
        if seconds > 30 * DAY {
            fields.refuse("overlapSeconds", "must be 30 days at most");
        }
        fields.finish()?;
        Ok(Duration::from_secs(seconds))
    }
}
