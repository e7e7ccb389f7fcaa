//! Going back to a step, and forth again.

use axum::{Json, extract::State};
use domain::{
    ThreadId, WorkspacePath,
    change::{Author, Snapshot, Source, Step},
    scope::Scope,
};
use ledger::{Extent, history::Left};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{find, state_after};
use crate::{
    Api, Error, Result,
    auth::Caller,
    body::Body,
    environments,
    error::ErrorBody,
    path::Path,
    threads::{ThreadView, find_thread},
    undisturbed::undisturbed,
};

/// What is brought back. All is optional.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = ThreadStepRevert)]
pub(super) struct RevertStep {
    /// `revert` (if absent) or `reapply`.
    history_action_type: Option<String>,
    /// The step that is undone or done again. With `revert` and the step of the path itself, the files become what they
    /// were before it.
    reverted_change_step_id: Option<String>,
    /// Only this file or directory, relative to the workspace; all files if absent.
    reverted_file_path: Option<String>,
    /// What the file is called in the title of the new step; its path if absent.
    reverted_file_name: Option<String>,
}

/// What came of it.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = ThreadStepReverted)]
pub(super) struct RevertedStep {
    thread: ThreadView,
    environment_id: String,
    /// The newest snapshot.
    snapshot_id: String,
    /// The new step. Null: the files were so already.
    revert_step_id: Option<String>,
    reverted_to_step_id: String,
    reverted_change_step_id: Option<String>,
    /// What was left as it is. Nothing is ever replaced that could not be brought back.
    not_restored: Vec<NotRestored>,
}

/// A file that was left as it is.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = NotRestoredFile)]
struct NotRestored {
    path: String,
    reason: &'static str,
}

/// Go back to a step
///
/// Makes the files of the thread's environment what they were after the step, or only one of them. Files that no snapshot
/// holds yet are put into one first, and what cannot be kept is left alone, so that nothing is lost: going back is a step
/// itself, which can be reverted. With `reapply` it is the same, and told as such. All files are not changed while a run is
/// under way in the environment; one file is, as by an upload.
#[utoipa::path(post, path = "/threads/{id}/steps/{stepId}/revert", tag = "history",
    params(
        ("id" = String, Path, description = "The thread's id"),
        ("stepId" = String, Path, description = "The id of the step whose state is wanted"),
    ),
    request_body = RevertStep,
    responses(
        (status = 200, description = "The files are as they were", body = RevertedStep),
        (status = 404, description = "There is no such step", body = ErrorBody),
        (status = 409, description = "A run is under way in the environment, or the step is of another environment",
            body = ErrorBody),
    ))]
pub(super) async fn revert_step(
    State(api): State<Api>,
    caller: Caller,
    Path((id, step)): Path<(ThreadId, String)>,
    Body(body): Body<RevertStep>,
) -> Result<Json<RevertedStep>> {
    let thread = find_thread(&api, &caller, &id).await?;
    let step = find(&api, &caller, &id, &step).await?;
    caller.require(Scope::EnvironmentsWrite)?;
    let source = match body.history_action_type.as_deref() {
        None | Some("" | "revert") => Source::Revert,
        Some("reapply") => Source::Reapply,
        Some(_) => return Err(Error::invalid_field("historyActionType", "must be revert or reapply")),
    };
    let undone = match body.reverted_change_step_id.filter(|id| !id.is_empty()) {
        Some(undone) => Some(find(&api, &caller, &id, &undone).await?),
        None => None,
    };
    let path = match body.reverted_file_path.filter(|path| !path.is_empty()) {
        Some(path) => Some(parse_path(&path)?),
        None => None,
    };
    environments::find(&api, &caller, &thread.environment_id).await?;

    let undoes_itself = source == Source::Revert && undone.as_ref().is_some_and(|undone| undone.id == step.id);
    let state = match undoes_itself {
        true => state_before(&api, &caller, &step).await?,
        false => state_after(&api, &caller, &step).await?,
    };
    let name = body.reverted_file_name.filter(|name| !name.trim().is_empty());
    let title = title(source, &step, undone.as_ref(), name.as_deref().or(path.as_ref().map(WorkspacePath::as_str)));
    let author = Author { thread_id: Some(id.clone()), ..Author::key(source, caller.key.clone()) };
    let extent = path.map_or(Extent::All, |path| Extent::Paths(vec![path]));

    undisturbed(async move {
        let reverted = api.ledger.restore(&thread.environment_id, &state, extent, author, title).await?;
        let new = api.store.find_step_of(&id, &reverted.changes).await?;
        let left = reverted.applied.left.iter().map(|(path, left)| NotRestored {
            path: String::from_utf8_lossy(path).into_owned(),
            reason: reason(*left),
        });
        Ok(Json(RevertedStep {
            environment_id: thread.environment_id.to_string(),
            snapshot_id: reverted.snapshot.id.into(),
            revert_step_id: new.map(|step| step.id.into()),
            reverted_to_step_id: step.id.into(),
            reverted_change_step_id: undone.map(|undone| undone.id.into()),
            not_restored: left.collect(),
            thread: find_thread(&api, &caller, &id).await?.into(),
        }))
    })
    .await
}

fn parse_path(path: &str) -> Result<WorkspacePath> {
    let refused = |why: String| Error::invalid_field("revertedFilePath", why);
    let path = WorkspacePath::parse(path).map_err(|err| refused(err.to_string()))?;
    match path.is_root() {
        true => Err(refused("must be in the workspace; leave it out for all files".to_owned())),
        false => Ok(path),
    }
}

async fn state_before(api: &Api, caller: &Caller, step: &Step) -> Result<Snapshot> {
    let change = &step.change;
    let found = api.store.find_snapshot(&caller.project, &change.environment_id, &change.before_id).await?;
    found.ok_or_else(|| Error::not_found("Snapshot", &change.before_id))
}

/// Says what the new step does.
fn title(source: Source, step: &Step, undone: Option<&Step>, file: Option<&str>) -> String {
    let verb = if source == Source::Reapply { "Reapplied" } else { "Reverted" };
    let file: Option<String> = file.map(|file| file.chars().take(200).collect());
    match (undone, file) {
        (Some(undone), Some(file)) => format!("{verb} step {} in {file}", undone.sequence),
        (Some(undone), None) => format!("{verb} step {}", undone.sequence),
        (None, Some(file)) => format!("{verb} {file} to step {}", step.sequence),
        (None, None) => format!("{verb} to step {}", step.sequence),
    }
}

fn reason(left: Left) -> &'static str {
    match left {
        Left::NotKept => "the content was not kept: it was too large, or could not be read",
        Left::Unknown => "something stands there that no snapshot holds",
        Left::Changed => "it was changed meanwhile",
        Left::Refused => "the system did not allow it",
    }
}
