//! `/threads/{id}/copy` and `/threads/{id}/fork-from-message`: a thread's history, whole or in part, in a thread of its own.
//!
//! A copy works in the same environment, where the files are; or in another that is there already, or in a new one, and
//! then takes files along. Where it is cut at a message, the files are those of that moment.

mod branch;

use axum::{Json, extract::State, http::StatusCode};
use domain::{EnvironmentId, ThreadId, change::Snapshot, scope::Scope, thread::Thread};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    Api, Error, Result,
    auth::Caller,
    body::Body,
    check, environments,
    error::ErrorBody,
    path::Path,
    threads::{ThreadView, check_title, find_thread},
    undisturbed::undisturbed,
};

pub(crate) use branch::{Branch, Files, Home, branch, latest_state};

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
    /// For another environment: `all` files, `thread_only` (those that the copied steps changed), or `none`. If absent, `all`
    /// for a new environment and `none` for one that is there; there, files are put over those of the same name.
    file_copy_mode: Option<String>,
}

/// A copy of a thread.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CopiedThread {
    thread: ThreadView,
    environment_id: String,
    environment_name: Option<String>,
    /// The newest snapshot of where files were copied to; null where none were.
    snapshot_id: Option<String>,
    messages_copied: i64,
    /// `current_environment` or `existing_environment`; for a new one `historical` if it has the files of the moment the
    /// thread was cut at, else `latest`.
    #[schema(example = "current_environment")]
    fork_mode: &'static str,
}

/// Copy a thread
///
/// What was said and what the model knows of it, in a thread whose status is `completed`; a run under way is left out. The
/// copy works in the same environment unless another is asked for, and has the steps of what was copied. With
/// `truncateAtMessageIndex`, what is copied of the files is as it was before that message.
#[utoipa::path(post, path = "/threads/{id}/copy", tag = "threads",
    params(("id" = String, Path, description = "The thread's id")), request_body = CopyThread,
    responses(
        (status = 200, description = "The copy", body = CopiedThread),
        (status = 201, description = "The copy, in another environment", body = CopiedThread),
        (status = 404, description = "There is no such environment", body = ErrorBody),
    ))]
async fn copy_thread(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<ThreadId>,
    Body(body): Body<CopyThread>,
) -> Result<(StatusCode, Json<CopiedThread>)> {
    let copied = copy(api, caller, id, body, false).await?;
    let status = if copied.fork_mode == CURRENT { StatusCode::OK } else { StatusCode::CREATED };
    Ok((status, Json(copied)))
}

/// Fork a thread from one of its messages
///
/// A copy of everything before the user's message with the index `truncateAtMessageIndex`, to go another way from there.
/// With `environmentTarget` `new_forked_environment` the files are those of that moment, too.
#[utoipa::path(post, path = "/threads/{id}/fork-from-message", tag = "threads",
    params(("id" = String, Path, description = "The thread's id")), request_body = CopyThread,
    responses(
        (status = 201, description = "The fork", body = CopiedThread),
        (status = 400, description = "There is no such message, or it is not a user's", body = ErrorBody),
        (status = 404, description = "There is no such environment", body = ErrorBody),
    ))]
async fn fork_from_message(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<ThreadId>,
    Body(body): Body<CopyThread>,
) -> Result<(StatusCode, Json<CopiedThread>)> {
    Ok((StatusCode::CREATED, Json(copy(api, caller, id, body, true).await?)))
}

const CURRENT: &str = "current_environment";

async fn copy(api: Api, caller: Caller, id: ThreadId, body: CopyThread, is_fork: bool) -> Result<CopiedThread> {
    let original = find_thread(&api, &caller, &id).await?;
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
    let home = home(&original, &body)?;
    let which = files(&home, body.file_copy_mode.as_deref())?;
    if let Home::Existing(id) = &home {
        environments::find(&api, &caller, id).await?;
    }
    if which.is_some() || matches!(home, Home::New(_)) {
        caller.require(Scope::EnvironmentsWrite)?;
    }
    undisturbed(async move {
        let cut = body.truncate_at_message_index;
        let then = match (which, cut) {
            (Some(_), Some(index)) => api.store.find_state_before(&caller.project, &id, index).await?,
            _ => None,
        };
        let mode = match &home {
            Home::Same => CURRENT,
            Home::Existing(_) => "existing_environment",
            Home::New(_) if then.is_some() => "historical",
            Home::New(_) => "latest",
        };
        let files = match which {
            Some(which) => Some((state(&api, &original, then).await?, which)),
            None => None,
        };
        let new = Branch { title: body.title, cut, cut_is_from_user: is_fork, last_step: None, home, files, mode };
        branch(&api, &caller, &original, new).await
    })
    .await
}

/// Gives the state that files are copied from: that of the moment of the cut, or the newest.
async fn state(api: &Api, original: &Thread, then: Option<Snapshot>) -> Result<Snapshot> {
    match then {
        Some(then) => Ok(then),
        None => latest_state(api, &original.environment_id).await,
    }
}

/// Reads where the copy is to work.
fn home(original: &Thread, body: &CopyThread) -> Result<Home> {
    let (target, strategy) = (given(body.environment_target.as_deref()), given(body.environment_strategy.as_deref()));
    let wants_new = match (target, strategy) {
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
    if wants_new {
        return Ok(Home::New(body.environment_name.clone()));
    }
    match given(body.target_environment_id.as_deref()) {
        Some(id) if id != original.environment_id.as_str() => {
            let id = id.parse::<EnvironmentId>().map_err(|_| Error::not_found("Environment", id))?;
            Ok(Home::Existing(id))
        }
        Some(_) | None => Ok(Home::Same),
    }
}

/// Reads which files come along to where they are not yet.
fn files(home: &Home, mode: Option<&str>) -> Result<Option<Files>> {
    let which = match given(mode) {
        Some("all") => Some(Files::All),
        Some("thread_only") => Some(Files::OfThread),
        Some("none") => None,
        // Whoever wants a new environment and says nothing expects the files to come along.
        None => matches!(home, Home::New(_)).then_some(Files::All),
        Some(_) => return Err(Error::invalid_field("fileCopyMode", "must be all, thread_only or none")),
    };
    Ok(which.filter(|_| *home != Home::Same))
}

fn given(word: Option<&str>) -> Option<&str> {
    word.filter(|word| !word.is_empty())
}
