//! Reading a file, or a directory as a zip archive.
//!
//! A workspace holds what an agent wrote, which may be what a stranger told it to write. A page or an image with scripts
//! in it must not run in the origin of the API, so what a browser shows inline is a short list, nothing is sniffed, and
//! everything else is an attachment in a sandbox.

use axum::{
    body::Body,
    extract::State,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use domain::{EnvironmentId, WorkspacePath};
use sandbox::{Workspace, workspace::OpenFile};
use serde::Deserialize;

use super::{
    condition::{Version, Wanted, wanted},
    workspace, workspace_path,
};
use crate::{Api, Error, Result, auth::Caller, path::Path, query::Query};

#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct DownloadQuery {
    /// True: a browser saves it instead of showing it.
    #[serde(default, deserialize_with = "crate::query::boolean")]
    download: Option<bool>,
}

/// Download a file
///
/// The bytes of a file, or those that `Range` asks for. A directory comes as a zip archive.
#[utoipa::path(get, path = "/environments/{id}/files/download/{*path}", tag = "files",
    params(
        ("id" = String, Path, description = "The environment's id"),
        ("path" = String, Path, description = "Relative to the workspace; `/` as it is or as `%2F`"),
        DownloadQuery,
    ),
    responses(
        (status = 200, description = "The bytes", content_type = "*/*", body = Vec<u8>),
        (status = 206, description = "Those of the one range asked for", body = Vec<u8>),
        (status = 304, description = "It is the one named by `If-None-Match`, or older than `If-Modified-Since`"),
        (status = 412, description = "It is not the one named by `If-Match`", body = crate::error::ErrorBody),
        (status = 416, description = "It is shorter than where the range begins", body = crate::error::ErrorBody),
    ))]
pub(super) async fn download_file(
    State(api): State<Api>,
    caller: Caller,
    Path((id, path)): Path<(EnvironmentId, String)>,
    Query(query): Query<DownloadQuery>,
    headers: HeaderMap,
) -> Result<Response> {
    send(&api, &caller, &id, &path, query.download.unwrap_or(false), &headers).await
}

/// Read a file
///
/// The bytes of a file, or those that `Range` asks for. A directory comes as a zip archive. For a file in a directory `download`, `upload`, `mkdir`, `move`,
/// `send`, `share-with-team` or `thumbnail` at the top of the workspace use the route with `download/` before the path.
#[utoipa::path(get, path = "/environments/{id}/files/{*path}", tag = "files",
    params(
        ("id" = String, Path, description = "The environment's id"),
        ("path" = String, Path, description = "Relative to the workspace; `/` as it is or as `%2F`"),
        DownloadQuery,
    ),
    responses(
        (status = 200, description = "The bytes", content_type = "*/*", body = Vec<u8>),
        (status = 206, description = "Those of the one range asked for", body = Vec<u8>),
        (status = 304, description = "It is the one named by `If-None-Match`, or older than `If-Modified-Since`"),
        (status = 412, description = "It is not the one named by `If-Match`", body = crate::error::ErrorBody),
        (status = 416, description = "It is shorter than where the range begins", body = crate::error::ErrorBody),
    ))]
pub(super) async fn get_file(
    State(api): State<Api>,
    caller: Caller,
    Path((id, path)): Path<(EnvironmentId, String)>,
    Query(query): Query<DownloadQuery>,
    headers: HeaderMap,
) -> Result<Response> {
    send(&api, &caller, &id, &path, query.download.unwrap_or(false), &headers).await
}

async fn send(
    api: &Api,
    caller: &Caller,
    id: &EnvironmentId,
    path: &str,
    is_attachment: bool,
    asked: &HeaderMap,
) -> Result<Response> {
    let path = workspace_path("path", path)?;
    let workspace = workspace(api, caller, id).await?;
    match workspace.open_file(&path).await {
        Ok(file) => send_file(&path, file, is_attachment, asked).await,
        Err(sandbox::Error::IsDirectory(_)) => send_directory(&workspace, &path).await,
        Err(err) => Err(err.into()),
    }
}

async fn send_file(path: &WorkspacePath, file: OpenFile, is_attachment: bool, asked: &HeaderMap) -> Result<Response> {
    let (size, modified) = (file.size, file.modified);
    let etag = format!("\"{}\"", file.version);
    let wanted = wanted(asked, &Version { etag: &etag, modified, size });
    let (status, first, length) = match wanted {
        Wanted::Whole => (StatusCode::OK, 0, size),
        Wanted::Part(first, length) => (StatusCode::PARTIAL_CONTENT, first, length),
        Wanted::NotModified => (StatusCode::NOT_MODIFIED, 0, 0),
        Wanted::Nothing => {
            let message = format!("The file has {size} bytes, and none of them where the range asks for some");
            let mut response = Error::new(StatusCode::RANGE_NOT_SATISFIABLE, message).into_response();
            let range = HeaderValue::from_str(&format!("bytes */{size}")).map_err(Error::internal)?;
            response.headers_mut().insert(header::CONTENT_RANGE, range);
            return Ok(response);
        }
        Wanted::Changed => {
            return Err(Error::new(StatusCode::PRECONDITION_FAILED, "The file is not the one that the request names"));
        }
    };
    // Clients decode text by the charset they are told.
    let is_text = file.mime.starts_with("text/") || TEXTS.contains(&file.mime.as_str());
    let mime = if is_text { format!("{}; charset=utf-8", file.mime) } else { file.mime.clone() };
    let is_shown = !is_attachment && is_harmless(&file.mime);
    let body = match status {
        StatusCode::NOT_MODIFIED => Body::empty(),
        _ => Body::from_stream(file.into_stream(first, length).await?),
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_str(&mime).map_err(Error::internal)?);
    if status != StatusCode::NOT_MODIFIED {
        headers.insert(header::CONTENT_LENGTH, length.into());
    }
    if status == StatusCode::PARTIAL_CONTENT {
        let range = format!("bytes {first}-{}/{size}", first + length - 1);
        headers.insert(header::CONTENT_RANGE, HeaderValue::from_str(&range).map_err(Error::internal)?);
    }
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(header::ETAG, HeaderValue::from_str(&etag).map_err(Error::internal)?);
    let modified = modified.format("%a, %d %b %Y %H:%M:%S GMT").to_string();
    headers.insert(header::LAST_MODIFIED, HeaderValue::from_str(&modified).map_err(Error::internal)?);
    guard(headers, if is_shown { "inline" } else { "attachment" }, path.file_name().unwrap_or("file"));
    Ok(response)
}

async fn send_directory(workspace: &Workspace, path: &WorkspacePath) -> Result<Response> {
    let mut response = Response::new(Body::from_stream(workspace.zip(path).await?));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/zip"));
    guard(headers, "attachment", &format!("{}.zip", path.file_name().unwrap_or("workspace")));
    Ok(response)
}

/// Media types that are text although they do not say so.
const TEXTS: [&str; 6] = [
    "application/json",
    "application/javascript",
    "application/xml",
    "application/toml",
    "application/x-sh",
    "image/svg+xml",
];

/// Tells whether a browser can show it without running anything in it.
fn is_harmless(mime: &str) -> bool {
    let is_text =
        mime.starts_with("text/") && !matches!(mime, "text/html" | "text/xml" | "text/javascript" | "text/xsl");
    let is_image = mime.starts_with("image/") && mime != "image/svg+xml";
    is_text || is_image || mime == "application/json" || mime.starts_with("audio/") || mime.starts_with("video/")
}

pub(super) fn guard(headers: &mut HeaderMap, disposition: &str, name: &str) {
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("sandbox; default-src 'none'"));
    // An agent may change a file at any moment.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(HeaderName::from_static("cross-origin-resource-policy"), HeaderValue::from_static("same-origin"));
    if let Ok(value) = HeaderValue::from_str(&content_disposition(disposition, name)) {
        headers.insert(header::CONTENT_DISPOSITION, value);
    }
}

/// Writes the name twice: in ASCII for old clients, percent-encoded UTF-8 for all others (RFC 6266).
fn content_disposition(disposition: &str, name: &str) -> String {
    let plain: String = name
        .chars()
        .map(|c| if c.is_ascii_graphic() && !matches!(c, '"' | '\\') || c == ' ' { c } else { '_' })
        .collect();
    let mut encoded = String::new();
    for byte in name.bytes() {
        match byte {
            b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b'-' | b'.' | b'_' | b'~' => encoded.push(char::from(byte)),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    format!("{disposition}; filename=\"{plain}\"; filename*=UTF-8''{encoded}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_break_out_of_its_header() {
        let cases = [
            ("a b.txt", "inline; filename=\"a b.txt\"; filename*=UTF-8''a%20b.txt"),
            ("ü\"\r\n;x", "inline; filename=\"____;x\"; filename*=UTF-8''%C3%BC%22%0D%0A%3Bx"),
        ];
        for (name, header) in cases {
            assert_eq!(content_disposition("inline", name), header);
        }
    }

    #[test]
    fn what_could_run_a_script_is_not_shown() {
        for bad in
            ["text/html", "image/svg+xml", "application/xhtml+xml", "text/xml", "application/pdf", "text/javascript"]
        {
            assert!(!is_harmless(bad), "{bad}");
        }
        for good in ["text/plain", "text/x-python", "text/csv", "image/png", "application/json"] {
            assert!(is_harmless(good), "{good}");
        }
    }
}
