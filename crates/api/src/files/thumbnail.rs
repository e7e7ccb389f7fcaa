//! Small pictures of images.
//!
//! An image is what a stranger wrote, and a few bytes of it can claim to be gigabytes of pixels. So the size it claims is
//! looked at before it is decoded, few are decoded at once, and a decoder that gives up takes nothing with it.

use std::io::{BufReader, Cursor};

use axum::{
    body::Body,
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::Response,
};
use domain::EnvironmentId;
use image::{DynamicImage, ImageDecoder, ImageError, ImageReader, Limits, codecs::jpeg::JpegEncoder};
use serde::Deserialize;

use super::{
    condition::{Version, Wanted, wanted},
    download::guard,
    workspace, workspace_path,
};
use crate::{Api, Error, Result, auth::Caller, path::Path, query::Query};

const DEFAULT_SIDE: u32 = 256;
const MAX_SIDE: u32 = 1024;
/// The most that a decoded image may take in memory.
const MAX_DECODED_BYTES: u64 = 192 * 1024 * 1024;
const MAX_FILE_BYTES: u64 = 100 * 1024 * 1024;
/// How many may be decoded at once.
pub(crate) const AT_ONCE: usize = 2;
const JPEG_QUALITY: u8 = 80;

#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct ThumbnailQuery {
    /// The widest it may be, in pixels: 1 to 1024, as `h` or 256 if absent.
    w: Option<u32>,
    /// The highest it may be: 1 to 1024, as `w` or 256 if absent.
    h: Option<u32>,
}

/// Get a thumbnail of an image
///
/// Of a JPEG, PNG, GIF or WebP file: its proportions are kept, and none is made larger. A PNG where something is
/// transparent, otherwise a JPEG.
#[utoipa::path(get, path = "/environments/{id}/files/thumbnail/{*path}", tag = "files",
    params(
        ("id" = String, Path, description = "The environment's id"),
        ("path" = String, Path, description = "Relative to the workspace; `/` as it is or as `%2F`"),
        ThumbnailQuery,
    ),
    responses(
        (status = 200, description = "The picture", content_type = "image/jpeg", body = Vec<u8>),
        (status = 304, description = "It is the one named by `If-None-Match`"),
        (status = 413, description = "The image is too large", body = crate::error::ErrorBody),
        (status = 415, description = "It is no image of these kinds", body = crate::error::ErrorBody),
    ))]
pub(super) async fn get_thumbnail(
    State(api): State<Api>,
    caller: Caller,
    Path((id, path)): Path<(EnvironmentId, String)>,
    Query(query): Query<ThumbnailQuery>,
    headers: HeaderMap,
) -> Result<Response> {
    let (w, h) = sides(&query)?;
    let path = workspace_path("path", &path)?;
    let file = workspace(&api, &caller, &id).await?.open_file(&path).await?;
    let etag = format!("\"{}-{w}x{h}\"", file.version);
    let version = Version { etag: &etag, modified: file.modified, size: file.size };
    let mut response = if wanted(&headers, &version) == Wanted::NotModified {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response
    } else {
        if file.size > MAX_FILE_BYTES {
            return Err(too_large());
        }
        let _one_of_few = api.thumbnails.acquire().await.map_err(Error::internal)?;
        let file = file.file.into_std().await;
        let made = tokio::task::spawn_blocking(move || shrink(file, w, h)).await;
        // A decoder that panics has met what it cannot read.
        let (bytes, mime) = made.unwrap_or_else(|_| Err(unreadable("its decoder gave up")))?;
        let mut response = Response::new(Body::from(bytes));
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(mime));
        response
    };
    let headers = response.headers_mut();
    headers.insert(header::ETAG, HeaderValue::from_str(&etag).map_err(Error::internal)?);
    guard(headers, "inline", path.file_name().unwrap_or("thumbnail"));
    Ok(response)
}

fn sides(query: &ThumbnailQuery) -> Result<(u32, u32)> {
    let side = |name: &str, own: Option<u32>, other: Option<u32>| match own.or(other).unwrap_or(DEFAULT_SIDE) {
        side @ 1..=MAX_SIDE => Ok(side),
        _ => Err(Error::invalid_field(name, format!("must be 1 to {MAX_SIDE}"))),
    };
    Ok((side("w", query.w, query.h)?, side("h", query.h, query.w)?))
}

/// Decodes an image, once its claims were looked at, and encodes it small.
fn shrink(file: std::fs::File, w: u32, h: u32) -> Result<(Vec<u8>, &'static str)> {
    let mut reader = ImageReader::new(BufReader::new(file)).with_guessed_format().map_err(Error::internal)?;
    let mut limits = Limits::default();
    limits.max_alloc = Some(MAX_DECODED_BYTES);
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(failed)?;
    if decoder.total_bytes() > MAX_DECODED_BYTES {
        return Err(too_large());
    }
    let orientation = decoder.orientation().map_err(failed)?;
    let mut image = DynamicImage::from_decoder(decoder).map_err(failed)?;
    image.apply_orientation(orientation);
    let small = if image.width() > w || image.height() > h { image.thumbnail(w, h) } else { image };
    let mut bytes = Vec::new();
    if small.color().has_alpha() {
        let small = DynamicImage::from(small.into_rgba8());
        small.write_to(&mut Cursor::new(&mut bytes), image::ImageFormat::Png).map_err(Error::internal)?;
        return Ok((bytes, "image/png"));
    }
    let encoder = JpegEncoder::new_with_quality(&mut bytes, JPEG_QUALITY);
    small.into_rgb8().write_with_encoder(encoder).map_err(Error::internal)?;
    Ok((bytes, "image/jpeg"))
}

fn failed(err: ImageError) -> Error {
    match err {
        ImageError::Limits(_) => too_large(),
        err => unreadable(&err.to_string()),
    }
}

fn unreadable(why: &str) -> Error {
    let message = format!("There is no JPEG, PNG, GIF or WebP image in this file: {why}");
    Error::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message).with_code("not_an_image")
}

fn too_large() -> Error {
    Error::new(StatusCode::PAYLOAD_TOO_LARGE, "The image is too large for a thumbnail").with_code("image_too_large")
}
