//! `/threads/{id}/copy` and `/threads/{id}/fork-from-message`: a thread's history, whole or in part, in a thread of its own.
//!
//! What is copied is the history. Files stay in the environment they are in: a copy works in the same one, or in another
//! that is there already, or in a new one that begins empty.

use axum::{Json, extract::State, http::StatusCode};
use domain::{EnvironmentId, ThreadId, thread::Thread};
use serde::{Deserialize, Serialize};
use store::{copies::NewCopy, environments::NewEnvironment};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    Api, Error, Result,
    auth::Caller,
    body::Body,
    check,
    error::ErrorBody,
    path::Path,
    threads::{ThreadView, check_title, find_thread},
};

pub(crate) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(copy_thread)).routes(routes!(fork_from_message))
}

/// How a thread is copied. All is optional.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct CopyThread {
    /// The original's and " Copy" if absent.
    title: Option<String>,
    /// The first message that is not copied, counted from 0; all are if absent.
    truncate_at_message_index: Option<i64>,
    /// The name of a new environment.
    environment_name: Option<String>,
    /// `existing_environment` (if absent) or `new_forked_environment`.
    environment_target: Option<String>,
    /// `reuse_current` or `forked_environment`: the same question in other words.
    environment_strategy: Option<String>,
    /// The environment of the copy; the original's if absent.
    target_environment_id: Option<String>,
    /// `none`. `all` and `thread_only` are possible only where the environment stays the same.
    file_copy_mode: Option<String>,
}

/// A copy of a thread.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct CopiedThread {
    thread: ThreadView,
    environment_id: String,
    environment_name: Option<String>,
    /// Always null: no files are copied.
    snapshot_id: Option<String>,
    messages_copied: i64,
    /// `current_environment`, `existing_environment`, or `latest` for a new environment.
    #[schema(example = "current_environment")]
    fork_mode: &'static str,
}

/// Copy a thread
///
/// What was said and what the model knows of it, in a thread whose status is `completed`; a run under way is left out. The
/// copy works in the same environment unless another is named.
#[utoipa::path(post, path = "/threads/{id}/copy", tag = "threads",
    params(("id" = String, Path, description = "The thread's id")), request_body = CopyThread,
    responses(
        (status = 200, description = "The copy", body = CopiedThread),
        (status = 201, description = "The copy, in another environment", body = CopiedThread),
        (status = 501, description = "Files would have to be copied to another environment", body = ErrorBody),
    ))]
async fn copy_thread(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<ThreadId>,
    Body(body): Body<CopyThread>,
) -> Result<(StatusCode, Json<CopiedThread>)> {
    let copied = copy(&api, &caller, &id, body, false).await?;
    let status = if copied.fork_mode == CURRENT { StatusCode::OK } else { StatusCode::CREATED };
    Ok((status, Json(copied)))
}

/// Fork a thread from one of its messages
///
/// A copy of everything before the user's message with the index `truncateAtMessageIndex`, to go another way from there.
#[utoipa::path(post, path = "/threads/{id}/fork-from-message", tag = "threads",
    params(("id" = String, Path, description = "The thread's id")), request_body = CopyThread,
    responses(
        (status = 201, description = "The fork", body = CopiedThread),
        (status = 400, description = "There is no such message, or it is not a user's", body = ErrorBody),
        (status = 501, description = "Files would have to be copied to another environment", body = ErrorBody),
    ))]
async fn fork_from_message(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<ThreadId>,
    Body(body): Body<CopyThread>,
) -> Result<(StatusCode, Json<CopiedThread>)> {
    Ok((StatusCode::CREATED, Json(copy(&api, &caller, &id, body, true).await?)))
}

const CURRENT: &str = "current_environment";

async fn copy(api: &Api, caller: &Caller, id: &ThreadId, body: CopyThread, is_fork: bool) -> Result<CopiedThread> {
    let original = find_thread(api, caller, id).await?;
    let mut fields = check::Fields::default();
    if let Some(title) = &body.title {
        fields.check("title", check_title(title));
    }
    if let Some(name) = &body.environment_name {
        fields.check("environmentName", check::name(name));
    }
    match body.truncate_at_message_index {
        Some(index) if index < 0 => fields.refuse("truncateAtMessageIndex", "must not be negative"),
        None if is_fork => fields.refuse("truncateAtMessageIndex", "is required"),
        Some(_) | None => {}
    }
    fields.finish()?;
    let (environment_id, fork_mode) = place(api, caller, &original, &body).await?;
    let new = NewCopy {
        title: body.title.filter(|title| !title.trim().is_empty()),
        cut: body.truncate_at_message_index,
        cut_is_from_user: is_fork,
        environment_id: Some(environment_id),
    };
    let copied = api.store.copy_thread(&caller.project, id, &new).await?;
    Ok(CopiedThread {
        environment_id: copied.thread.environment_id.to_string(),
        environment_name: copied.thread.environment_name.clone(),
        thread: copied.thread.into(),
        snapshot_id: None,
        messages_copied: copied.messages,
        fork_mode,
    })
}

/// Decides where the copy works; makes a new environment if one is asked for.
async fn place(
    api: &Api,
    caller: &Caller,
    original: &Thread,
    body: &CopyThread,
) -> Result<(EnvironmentId, &'static str)> {
    let given = |word: &Option<String>| word.clone().filter(|word| !word.is_empty());
    let wants_new = match (given(&body.environment_target).as_deref(), given(&body.environment_strategy).as_deref()) {
        (Some("new_forked_environment"), _) | (None, Some("forked_environment")) => true,
        (Some("existing_environment"), _) | (None, Some("reuse_current") | None) => false,
        (Some(_), _) => {
            let words = "must be existing_environment or new_forked_environment";
            return Err(Error::invalid_field("environmentTarget", words));
        }
        (None, Some(_)) => {
            return Err(Error::invalid_field("environmentStrategy", "must be reuse_current or forked_environment"));
        }
    };
    let wants_files = match given(&body.file_copy_mode).as_deref() {
        Some("all" | "thread_only") => Some(true),
        Some("none") => Some(false),
        None => None,
        Some(_) => return Err(Error::invalid_field("fileCopyMode", "must be all, thread_only or none")),
    };
    let target = match given(&body.target_environment_id) {
        Some(id) => Some(id.parse::<EnvironmentId>().map_err(|_| Error::not_found("Environment", id))?),
        None => None,
    };
    let not_served = || {
        let message = "Files cannot be copied to another environment yet: set fileCopyMode to none, or let the copy \
                       work in the same environment";
        Err(Error::new(StatusCode::NOT_IMPLEMENTED, message))
    };
    if wants_new {
        // Whoever does not say so expects the files to come along.
        if wants_files != Some(false) {
            return not_served();
        }
        return Ok((new_environment(api, caller, original, body).await?, "latest"));
    }
    match target {
        Some(target) if target != original.environment_id => match wants_files {
            Some(true) => not_served(),
            Some(false) | None => Ok((target, "existing_environment")),
        },
        Some(_) | None => Ok((original.environment_id.clone(), CURRENT)),
    }
}

/// Makes an environment like the original's, without its files.
async fn new_environment(api: &Api, caller: &Caller, original: &Thread, body: &CopyThread) -> Result<EnvironmentId> {
    let environment = api.store.find_environment(&caller.project, &original.environment_id).await?;
    let environment = environment.ok_or_else(|| Error::not_found("Environment", &original.environment_id))?;
    let new = NewEnvironment {
        name: body.environment_name.clone().unwrap_or_else(|| format!("{} Copy", environment.name)),
        settings: environment.settings,
        secrets: api.store.open_secrets(&environment.id).await?,
        is_default: false,
    };
    Ok(api.store.create_environment(&caller.project, new).await?.id)
}
