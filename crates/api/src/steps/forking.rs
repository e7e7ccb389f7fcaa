//! A thread of its own from a step on.

use axum::{Json, extract::State, http::StatusCode};
use domain::{ThreadId, scope::Scope};
use serde::Deserialize;
use utoipa::ToSchema;

use super::look;
use crate::{
    Api, Error, Result,
    auth::Caller,
    body::Body,
    check,
    copies::{Branch, CopiedThread, Files, Home, branch, latest_state},
    error::ErrorBody,
    path::Path,
    threads::{check_title, find_thread},
    undisturbed::undisturbed,
};

/// How a thread is forked. All is optional.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = ThreadStepFork)]
pub(super) struct ForkStep {
    /// `historical` (if absent): messages and files up to the step. `latest`: all of them, as they are now.
    mode: Option<String>,
    /// The original's and " Copy" if absent.
    title: Option<String>,
    /// The name of the new environment.
    environment_name: Option<String>,
}

/// Fork a thread from a step
///
/// A thread of its own in an environment of its own, with the settings, the secrets and the files of the original's. What
/// is said there knows of the messages that led to the step; of a run that went on after it, the answer is left out.
#[utoipa::path(post, path = "/threads/{id}/steps/{stepId}/fork", tag = "history",
    params(
        ("id" = String, Path, description = "The thread's id"),
        ("stepId" = String, Path, description = "The step's id"),
    ),
    request_body = ForkStep,
    responses(
        (status = 201, description = "The fork", body = CopiedThread),
        (status = 404, description = "There is no such step", body = ErrorBody),
        (status = 507, description = "The disk is full", body = ErrorBody),
    ))]
pub(super) async fn fork_step(
    State(api): State<Api>,
    caller: Caller,
    Path((id, step)): Path<(ThreadId, String)>,
    Body(body): Body<ForkStep>,
) -> Result<(StatusCode, Json<CopiedThread>)> {
    let original = find_thread(&api, &caller, &id).await?;
    let (step, then) = look(&api, &caller, &id, &step).await?;
    caller.require(Scope::EnvironmentsWrite)?;
    let mut fields = check::Fields::default();
    if let Some(title) = &body.title {
        fields.check("title", check_title(title));
    }
    if let Some(name) = &body.environment_name {
        fields.check("environmentName", check::name(name));
    }
    fields.finish()?;
    let is_historical = match body.mode.as_deref() {
        None | Some("" | "historical") => true,
        Some("latest") => false,
        Some(_) => return Err(Error::invalid_field("mode", "must be historical or latest")),
    };
    undisturbed(async move {
        let mut new = Branch {
            title: body.title,
            home: Home::New(body.environment_name),
            mode: if is_historical { "historical" } else { "latest" },
            ..Branch::default()
        };
        if is_historical {
            new.cut = Some(api.store.count_messages_to(&step).await?);
            new.last_step = Some(step.sequence);
            new.files = Some((then, Files::All));
        } else {
            new.files = Some((latest_state(&api, &original.environment_id).await?, Files::All));
        }
        Ok((StatusCode::CREATED, Json(branch(&api, &caller, &original, new).await?)))
    })
    .await
}
