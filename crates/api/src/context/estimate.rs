//! How full a window is: the model's own count where there is one, else a guess by size.

use domain::thread::Thread;
use serde::Serialize;
use store::context::ContextSize;
use utoipa::ToSchema;

use crate::{Api, Model, Result, auth::Caller, timestamp::Timestamp};

/// Bytes of JSON that make a token, roughly.
const BYTES_PER_TOKEN: i64 = 4;

/// The window of models that nobody has told us about.
const UNKNOWN_WINDOW: i64 = 200_000;

/// How full a context window is.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Context)]
pub(crate) struct ContextView {
    thread_id: String,
    /// Always null.
    session_id: Option<String>,
    #[schema(example = "claude-sonnet-5-5")]
    model: String,
    /// The model's window.
    max_tokens: i64,
    pub used_tokens: i64,
    remaining_tokens: i64,
    /// `remainingTokens` as a part of `maxTokens`, 0 to 1.
    remaining_ratio: f64,
    /// `usage` (the model's own count at its newest reply) or `estimate` (by the size of the text).
    source: &'static str,
    /// Whether `usedTokens` is the model's own count and nothing was added since.
    exact: bool,
    message_count: i64,
    last_message_at: Option<Timestamp>,
    updated_at: Timestamp,
}

/// How full a context window is, and of what.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ContextDetails {
    #[serde(flatten)]
    context: ContextView,
    categories: Vec<Category>,
    /// Always null.
    raw_text: Option<String>,
    estimate: ContextView,
    #[serde(skip)]
    entries: i64,
}

/// A part of the window.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ContextCategory)]
struct Category {
    /// `system_prompt`, `messages`, `other`, `free_space` or `autocompact_buffer`.
    key: &'static str,
    label: &'static str,
    tokens: i64,
    /// As a part of the window, 0 to 1.
    ratio: f64,
    /// `used`, `free`, `buffer` or `other`.
    kind: &'static str,
}

/// What is known of a thread's window.
struct Known {
    view: ContextView,
    size: ContextSize,
    /// From here on it is compacted.
    compact_at: i64,
}

impl ContextView {
    pub(crate) async fn of(api: &Api, caller: &Caller, thread: &Thread) -> Result<Self> {
        Ok(look(api, caller, thread).await?.view)
    }
}

impl ContextDetails {
    pub(crate) async fn of(api: &Api, caller: &Caller, thread: &Thread) -> Result<Self> {
        let Known { view, size, compact_at } = look(api, caller, thread).await?;
        let categories = divide(&view, size, compact_at);
        Ok(Self { categories, raw_text: None, estimate: view.clone(), context: view, entries: size.entries })
    }

    /// Whether there is a conversation yet.
    pub(crate) fn has_entries(&self) -> bool {
        self.entries > 0
    }
}

async fn look(api: &Api, caller: &Caller, thread: &Thread) -> Result<Known> {
    let usage = api.store.find_context_usage(&thread.id).await?;
    let size = api.store.measure_context(&thread.id).await?;
    let model = match &usage {
        Some(usage) => usage.model.clone(),
        None => match &thread.agent_id {
            Some(agent) => api.store.find_agent(&caller.project, agent).await?.map(|agent| agent.model),
            None => None,
        }
        .unwrap_or_else(|| api.settings.default_model.clone()),
    };
    let known = find_model(api, &model);
    let max_tokens = known.as_ref().and_then(|known| known.context_tokens).unwrap_or(UNKNOWN_WINDOW);
    let compact_at = known.and_then(|known| known.compact_at_tokens).unwrap_or(max_tokens).min(max_tokens);
    let (used, source, exact) = match &usage {
        Some(usage) => (usage.tokens + usage.newer_bytes / BYTES_PER_TOKEN, "usage", usage.newer_bytes == 0),
        None => ((size.system_bytes + size.message_bytes) / BYTES_PER_TOKEN, "estimate", false),
    };
    let remaining_tokens = (max_tokens - used).max(0);
    let view = ContextView {
        thread_id: thread.id.to_string(),
        session_id: None,
        model,
        max_tokens,
        used_tokens: used,
        remaining_tokens,
        remaining_ratio: ratio(remaining_tokens, max_tokens),
        source,
        exact,
        message_count: thread.message_count,
        last_message_at: thread.last_message_at.map(Into::into),
        updated_at: thread.updated_at.into(),
    };
    Ok(Known { view, size, compact_at })
}

/// Finds a model on offer by its id, also one with a date behind it as back ends answer.
fn find_model(api: &Api, id: &str) -> Option<Model> {
    let models = api.models.read().unwrap_or_else(std::sync::PoisonError::into_inner);
    let by_id = |id: &str| models.entries.iter().find(|model| model.id == id).cloned();
    by_id(id).or_else(|| {
        let (base, date) = id.rsplit_once('-')?;
        (date.len() == 8 && date.bytes().all(|byte| byte.is_ascii_digit())).then(|| by_id(base))?
    })
}

/// Divides the window. The parts add up to it, as long as no more is used than it has.
fn divide(view: &ContextView, size: ContextSize, compact_at: i64) -> Vec<Category> {
    let used = view.used_tokens;
    let guessed = (size.system_bytes + size.message_bytes) / BYTES_PER_TOKEN;
    // Where the guess is above what the model counted, the parts shrink; where it is below, tools and the like remain.
    let part = |bytes: i64| {
        let tokens = bytes / BYTES_PER_TOKEN;
        if guessed > used { (tokens as f64 * used as f64 / guessed as f64) as i64 } else { tokens }
    };
    let (system, messages) = (part(size.system_bytes), part(size.message_bytes));
    let buffer = view.max_tokens - compact_at.max(used).min(view.max_tokens);
    let category =
        |key, label, tokens: i64, kind| Category { key, label, tokens, ratio: ratio(tokens, view.max_tokens), kind };
    vec![
        category("system_prompt", "System prompt", system, "used"),
        category("messages", "Messages", messages, "used"),
        category("other", "Tools and the rest", used - system - messages, "other"),
        category("free_space", "Free space", (view.remaining_tokens - buffer).max(0), "free"),
        category("autocompact_buffer", "Kept free for a summary", buffer, "buffer"),
    ]
}

fn ratio(part: i64, whole: i64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(used_tokens: i64) -> ContextView {
        ContextView {
            thread_id: "thread_1".into(),
            session_id: None,
            model: "m".into(),
            max_tokens: 1_000,
            used_tokens,
            remaining_tokens: (1_000 - used_tokens).max(0),
            remaining_ratio: 0.0,
            source: "usage",
            exact: true,
            message_count: 1,
            last_message_at: None,
            updated_at: chrono::DateTime::UNIX_EPOCH.into(),
        }
    }

    #[test]
    fn the_parts_add_up_to_the_window() {
        for (used, system_bytes, message_bytes) in [(0, 0, 0), (300, 400, 400), (100, 4_000, 4_000), (900, 40, 40)] {
            let size = ContextSize { system_bytes, message_bytes, entries: 1 };
            let parts = divide(&view(used), size, 800);
            assert_eq!(parts.iter().map(|part| part.tokens).sum::<i64>(), 1_000, "{parts:?}");
            assert!(parts.iter().all(|part| part.tokens >= 0), "{parts:?}");
        }
    }
}
