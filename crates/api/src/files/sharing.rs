//! Giving files to others: to another environment of the project, or to a team.

use axum::{Json, extract::State};
use domain::{EnvironmentId, change::Source};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{workspace, workspace_path, writable};
use crate::{Api, Error, Result, auth::Caller, body::Body, changes, environments, path::Path};

const MAX_PATHS: usize = 1000;

/// What to copy, and where to.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(example = json!({"destinationEnvironmentId": "env_1", "paths": ["src"]}))]
pub(super) struct SendFiles {
    #[schema(value_type = String)]
    destination_environment_id: EnvironmentId,
    /// Files and directories, relative to the workspace.
    paths: Vec<String>,
}

/// What was copied.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct SentFiles {
    success: bool,
    environment_id: String,
    destination_environment_id: String,
    paths: Vec<String>,
    /// Files and links.
    files: u64,
    /// Bytes.
    size: u64,
    /// Left out: pipes, sockets, devices, and names that are not UTF-8.
    skipped: u64,
}

/// Copy files to another environment
///
/// To the same paths, over what is there. Files are replaced one by one, each as a whole; directories are filled up.
#[utoipa::path(post, path = "/environments/{id}/files/send", tag = "files",
    params(("id" = String, Path, description = "The environment's id")), request_body = SendFiles,
    responses(
        (status = 200, description = "They are there", body = SentFiles),
        (status = 409, description = "Something is in the way", body = crate::error::ErrorBody),
        (status = 507, description = "The disk is full, or the other environment takes as much of it as it may", body = crate::error::ErrorBody),
    ))]
pub(super) async fn send_files(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<EnvironmentId>,
    Body(body): Body<SendFiles>,
) -> Result<Json<SentFiles>> {
    let from = workspace(&api, &caller, &id).await?;
    if body.paths.is_empty() || body.paths.len() > MAX_PATHS {
        return Err(Error::invalid_field("paths", format!("must have 1 to {MAX_PATHS} items")));
    }
    let paths = body.paths.iter().enumerate();
    let paths: Vec<_> = paths.map(|(n, path)| workspace_path(&format!("paths[{n}]"), path)).collect::<Result<_>>()?;
    let other = body.destination_environment_id;
    if other == id {
        return Err(Error::invalid_field("destinationEnvironmentId", "must be another environment"));
    }
    let to = writable(&api, &caller, &other).await?;
    changes::prepare(&api, &other).await;
    let mut sent = SentFiles {
        success: true,
        environment_id: id.into(),
        destination_environment_id: other.to_string(),
        paths: Vec::new(),
        files: 0,
        size: 0,
        skipped: 0,
    };
    let mut result = Ok(());
    for path in &paths {
        let copied = match from.copy_to(path, &to).await {
            Ok(copied) => copied,
            Err(err) => {
                result = Err(err);
                break;
            }
        };
        sent.files += copied.files;
        sent.size += copied.bytes;
        sent.skipped += copied.skipped;
        sent.paths.push(path.to_string());
    }
    // What was copied before a failure is there, too.
    changes::record(&api, &caller, &other, Source::Upload, &paths.iter().collect::<Vec<_>>()).await;
    result?;
    Ok(Json(sent))
}

/// With whom to share.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(example = json!({"teamId": "team_1", "paths": ["src"], "accessLevel": "use"}))]
pub(super) struct ShareFiles {
    team_id: String,
    paths: Vec<String>,
    /// `use`, `edit` or `manage`; `use` if absent.
    access_level: Option<String>,
}

/// Share files with a team
///
/// There are no teams on this server: a project's key opens all of its environments.
#[utoipa::path(post, path = "/environments/{id}/files/share-with-team", tag = "files",
    params(("id" = String, Path, description = "The environment's id")), request_body = ShareFiles,
    responses((status = 501, description = "There are no teams", body = crate::error::ErrorBody)))]
pub(super) async fn share_files(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<EnvironmentId>,
    Body(body): Body<ShareFiles>,
) -> Result<Json<SentFiles>> {
    environments::find(&api, &caller, &id).await?;
    let ShareFiles { team_id, paths, access_level } = body;
    for (n, path) in paths.iter().enumerate() {
        workspace_path(&format!("paths[{n}]"), path)?;
    }
    if !matches!(access_level.as_deref(), None | Some("use" | "edit" | "manage")) {
        return Err(Error::invalid_field("accessLevel", "must be use, edit or manage"));
    }
    let message = format!(
        "There are no teams on this server, so {team_id} cannot be given files; a project's keys open all its environments"
    );
    Err(Error::not_implemented(message))
}
