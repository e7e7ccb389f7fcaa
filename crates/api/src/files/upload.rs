//! Taking a file.
//!
//! Clients send the fields in different orders, so where the file belongs may be known only after all of it has arrived. It
//! is written as it comes, under a name of its own at the top of the workspace, which nobody sees, and put in its place
//! at the end. Memory stays flat, whatever the size.

use std::{task::Poll, time::Duration};

use axum::{
    Json,
    body::Body,
    extract::{
        FromRequest, Multipart, Request, State,
        multipart::{Field, MultipartError},
    },
    http::StatusCode,
};
use domain::{EnvironmentId, WorkspacePath, change::Source};
use futures::{StreamExt, stream};
use sandbox::{Workspace, workspace::Upload};
use serde::Serialize;
use tokio::time::timeout;
use utoipa::ToSchema;

use super::{workspace_path, writable};
use crate::{Api, Error, Result, auth::Caller, changes, path::Path};

/// All that a form may hold beside its file.
const MAX_TEXT_BYTES: usize = 64 * 1024;

/// What a field counts for that holds nothing.
const FIELD_BYTES: usize = 64;

/// The body of an upload.
#[derive(ToSchema)]
#[allow(dead_code, reason = "describes the form")]
pub(super) struct UploadForm {
    /// The file, with its name.
    #[schema(format = Binary, content_media_type = "application/octet-stream")]
    file: String,
    /// The directory it goes to; the top of the workspace if absent. If the file has no name (or is called `undefined` or
    /// `blob`), the whole path with the name.
    path: Option<String>,
}

/// A file that was taken.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct UploadedFile {
    success: bool,
    environment_id: String,
    /// The name it was sent with.
    filename: String,
    /// Where it is, relative to the workspace.
    #[schema(example = "src/app.py")]
    path: String,
    /// Bytes.
    size: u64,
    /// False: it took the place of one that was there.
    created: bool,
}

/// Upload a file
///
/// A form with the fields `file` and `path` in any order. The directories above it are made; a file there is replaced.
#[utoipa::path(post, path = "/environments/{id}/files/upload", tag = "files",
    params(("id" = String, Path, description = "The environment's id")),
    request_body(content = UploadForm, content_type = "multipart/form-data"),
    responses(
        (status = 200, description = "It is there", body = UploadedFile),
        (status = 409, description = "Something is in the way", body = crate::error::ErrorBody),
        (status = 413, description = "It is too large", body = crate::error::ErrorBody),
        (status = 507, description = "The disk is full, or the environment takes as much of it as it may", body = crate::error::ErrorBody),
    ))]
pub(super) async fn upload_file(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<EnvironmentId>,
    request: Request,
) -> Result<Json<UploadedFile>> {
    let workspace = writable(&api, &caller, &id).await?;
    let mut form = Multipart::from_request(request.map(in_turns), &api)
        .await
        .map_err(|_| Error::bad_request("The body must be a form: Content-Type multipart/form-data with a boundary"))?;
    let idle = api.settings.upload_idle_timeout;
    let mut directory = None;
    let mut file = None;
    // For all that is no file, and for there being a field at all.
    let mut room = MAX_TEXT_BYTES;
    while let Some(mut field) = within(idle, form.next_field()).await? {
        room = room.checked_sub(FIELD_BYTES).ok_or_else(too_much_text)?;
        match field.name().unwrap_or_default() {
            "path" => directory = Some(read_text(&mut field, idle, &mut room).await?),
            "file" if file.is_some() => return Err(Error::bad_request("The form has more than one file")),
            "file" => {
                let name = field.file_name().unwrap_or_default().to_owned();
                file = Some((name, receive(&workspace, &mut field, idle, api.settings.max_upload_bytes).await?));
            }
            _ => {
                while let Some(chunk) = within(idle, field.chunk()).await? {
                    room = room.checked_sub(chunk.len()).ok_or_else(too_much_text)?;
                }
            }
        }
    }
    let Some((filename, upload)) = file else { return Err(Error::missing_field("file")) };
    let path = destination(directory.as_deref().unwrap_or_default(), &filename)?;
    changes::prepare(&api, &id).await;
    let uploaded = upload.commit_to(&path).await?;
    changes::record(&api, &caller, &id, Source::Upload, &[&path]).await;
    Ok(Json(UploadedFile {
        success: true,
        environment_id: id.into(),
        filename: match is_named(&filename) {
            true => filename,
            false => path.file_name().unwrap_or_default().to_owned(),
        },
        path: path.as_str().to_owned(),
        size: uploaded.size,
        created: uploaded.created,
    }))
}

/// Gives a body chunk by chunk with a pause between them. The reader of forms takes all chunks that are there into its
/// memory before it gives any of them on, and from a fast client there are always more. The end is a chunk here, too: the
/// reader must have looked at the last one before it learns of it.
fn in_turns(body: Body) -> Body {
    let mut chunks = body.into_data_stream();
    let mut is_paused = false;
    Body::from_stream(stream::poll_fn(move |cx| {
        if is_paused {
            is_paused = false;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let next = chunks.poll_next_unpin(cx);
        is_paused = next.is_ready();
        next
    }))
}

async fn receive(workspace: &Workspace, field: &mut Field<'_>, idle: Duration, max_bytes: u64) -> Result<Upload> {
    let mut upload = workspace.receive().await?;
    while let Some(chunk) = within(idle, field.chunk()).await? {
        if upload.size() + chunk.len() as u64 > max_bytes {
            let message = format!("The file is larger than {max_bytes} bytes");
            return Err(Error::new(StatusCode::PAYLOAD_TOO_LARGE, message));
        }
        upload.write(chunk).await?;
    }
    Ok(upload)
}

async fn read_text(field: &mut Field<'_>, idle: Duration, room: &mut usize) -> Result<String> {
    let mut bytes = Vec::new();
    while let Some(chunk) = within(idle, field.chunk()).await? {
        *room = room.checked_sub(chunk.len()).ok_or_else(too_much_text)?;
        bytes.extend_from_slice(&chunk);
    }
    String::from_utf8(bytes).map_err(|_| Error::invalid_field("path", "must be UTF-8"))
}

fn too_much_text() -> Error {
    let message = format!("The fields of the form beside the file are larger than {MAX_TEXT_BYTES} bytes");
    Error::new(StatusCode::PAYLOAD_TOO_LARGE, message)
}

/// Waits for the next part of the form, but not for ever.
async fn within<T>(idle: Duration, next: impl Future<Output = Result<T, MultipartError>>) -> Result<T> {
    match timeout(idle, next).await {
        Ok(Ok(next)) => Ok(next),
        Ok(Err(err)) => Err(Error::bad_request(format!("The form is not valid: {}", err.body_text()))),
        Err(_) => {
            let message = format!("The upload was silent for {} seconds", idle.as_secs());
            Err(Error::new(StatusCode::REQUEST_TIMEOUT, message))
        }
    }
}

/// Tells whether a client gave the file a name. One that has none to give sends a placeholder.
fn is_named(filename: &str) -> bool {
    !matches!(filename, "" | "undefined" | "null" | "blob")
}

/// Decides where a file goes: `path` is a directory, unless the file has no name of its own.
fn destination(path: &str, filename: &str) -> Result<WorkspacePath> {
    if !is_named(filename) {
        let path = workspace_path("path", path)?;
        return if path.is_root() { Err(Error::missing_field("path")) } else { Ok(path) };
    }
    if filename.contains('/') || filename.contains('\\') || matches!(filename, "." | "..") {
        return Err(Error::invalid_field("file", "the file's name must not be a path; name the directory in 'path'"));
    }
    let directory = workspace_path("path", path)?;
    workspace_path("path", &format!("{}/{filename}", directory.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_a_directory_unless_the_file_has_no_name() {
        for (path, filename, expected) in [
            ("", "app.py", "app.py"),
            ("/", "app.py", "app.py"),
            ("src", "app.py", "src/app.py"),
            ("/workspace/src/", "ä b.py", "src/ä b.py"),
            ("src/app.py", "undefined", "src/app.py"),
            ("src/app.py", "", "src/app.py"),
            ("src/app.py", "blob", "src/app.py"),
        ] {
            assert_eq!(destination(path, filename).expect(path).as_str(), expected);
        }
        for (path, filename) in [("..", "a"), ("", "../a"), ("", ".."), ("", "undefined"), ("", "a\0b")] {
            assert!(destination(path, filename).is_err(), "{path} {filename}");
        }
    }
}
