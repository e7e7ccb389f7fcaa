//! `/threads/{id}/generate-title`: a name for a thread, by a model if one answers in time, else from the text.

use std::{sync::Arc, time::Duration};

use axum::{Json, extract::State};
use domain::{ThreadId, run::Spent, title};
use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use store::titles::Made;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    Api, Error, Result,
    auth::Caller,
    body::Body,
    budgets,
    error::ErrorBody,
    path::Path,
    threads::{ThreadView, find_thread},
};

/// Longer than this nobody waits for a name.
const LIMIT: Duration = Duration::from_secs(8);

/// So much of a message is enough to name a thread by.
const MAX_TEXT_CHARS: usize = 4_000;

/// Asks a model for a title of what was asked; the server fills it in. `None`: no model answered.
pub type MakeTitle = Arc<dyn Fn(String) -> BoxFuture<'static, Option<MadeTitle>> + Send + Sync>;

/// What a model said, and what that used.
#[derive(Debug, Clone)]
pub struct MadeTitle {
    pub reply: String,
    pub model: String,
    pub spent: Spent,
}

pub(crate) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(generate_title))
}

/// What the thread is about.
#[derive(Debug, Deserialize, ToSchema)]
struct GenerateTitle {
    /// The message to name it by; what was said first in the thread if absent.
    message: Option<String>,
    /// The same as `message`.
    content: Option<String>,
    /// The same as `message`.
    task: Option<String>,
    /// Replaces also a title that somebody chose.
    force: Option<bool>,
}

/// A thread and its title.
#[derive(Debug, Serialize, ToSchema)]
struct GeneratedTitle {
    thread: ThreadView,
    /// The title is a new one.
    generated: bool,
    /// The thread has a title that somebody chose, and keeps it.
    skipped: bool,
    /// `title_set` if skipped; `no_model_answered` if the title is the beginning of the text.
    reason: Option<&'static str>,
    title: Option<String>,
}

/// Name a thread
///
/// By the cheapest model that the server knows; where none answers within seconds, by the beginning of the text. A title
/// that somebody chose stays unless `force` is set; one that was made is made anew.
#[utoipa::path(post, path = "/threads/{id}/generate-title", tag = "threads",
    params(("id" = String, Path, description = "The thread's id")), request_body = GenerateTitle,
    responses(
        (status = 200, description = "The thread and its title", body = GeneratedTitle),
        (status = 400, description = "There is nothing to name the thread by", body = ErrorBody),
    ))]
async fn generate_title(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<ThreadId>,
    Body(body): Body<GenerateTitle>,
) -> Result<Json<GeneratedTitle>> {
    let titled = api.store.find_title(&caller.project, &id).await?;
    if !titled.is_made && !body.force.unwrap_or(false) {
        let thread = find_thread(&api, &caller, &id).await?;
        let title = titled.title;
        return Ok(Json(GeneratedTitle {
            thread: thread.into(),
            generated: false,
            skipped: true,
            reason: Some("title_set"),
            title,
        }));
    }
    let given = [body.message, body.content, body.task, titled.first_message];
    let text = given.into_iter().flatten().find(|text| !text.trim().is_empty());
    let text = text.ok_or_else(|| Error::missing_field("message"))?;
    let thread = find_thread(&api, &caller, &id).await?;
    // A title is not worth more than the thread may cost: past its limits it is made of the text.
    let may_spend = budgets::find_exhausted(&api, &caller, thread.agent_id.as_ref()).await?.is_none();
    let may_ask = may_spend
        && (thread.limits.is_empty() || {
            let used = api.store.used_by_others(&id, None).await?;
            thread.limits.reached(&used).is_none()
        });
    let made = match may_ask {
        true => ask(&api, text.chars().take(MAX_TEXT_CHARS).collect()).await,
        false => None,
    };
    let call = made.as_ref().map(|made| Made { model: &made.model, key: &caller.key, spent: made.spent });
    let (new, reason) = match made.as_ref().and_then(|made| title::from_reply(&made.reply)) {
        Some(title) => (title, None),
        None => (title::from_text(&text), Some("no_model_answered")),
    };
    let thread = api.store.set_made_title(&caller.project, &id, titled.title.as_deref(), &new, call).await?;
    let title = thread.title.clone();
    // Somebody may have been faster in the meantime; then that one's title stands.
    let generated = title.as_ref() == Some(&new);
    Ok(Json(GeneratedTitle { thread: thread.into(), generated, skipped: !generated, reason, title }))
}

async fn ask(api: &Api, text: String) -> Option<MadeTitle> {
    let make_title = api.make_title.as_ref()?;
    let answer = api.stopping.run_until_cancelled(tokio::time::timeout(LIMIT, make_title(text))).await;
    answer?.ok().flatten()
}
