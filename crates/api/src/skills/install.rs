//! Installing a skill from an archive, whose checksum the client knows.

use axum::{
    Json,
    extract::{FromRequest, Multipart, Request, State, multipart::MultipartError},
    http::StatusCode,
};
use domain::skill::{Category, MAX_SLUG_CHARS, slug};
use sha2::{Digest, Sha256};
use store::skills::NewSkill;
use tokio::time::timeout;
use utoipa::ToSchema;

use super::{
    archive::{MAX_ARCHIVE_BYTES, Unpacked, unpack},
    input::{category, check_description, document},
    view::SkillEnvelope,
};
use crate::{Api, Error, Result, auth::Caller, check::Fields};

/// A field of the form that is no file.
const MAX_TEXT_BYTES: usize = 1024;

/// The body of an installation.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
#[allow(dead_code, reason = "describes the form")]
pub(super) struct InstallForm {
    /// A zip archive with a SKILL.md at its top, or in its one directory. At most 16 MiB, and 30 MiB unpacked.
    #[schema(format = Binary, content_media_type = "application/zip")]
    file: String,
    /// The archive's SHA-256 in hexadecimal, as its publisher gives it.
    sha256: String,
    /// `custom` if absent.
    category: Option<String>,
    icon: Option<String>,
    /// `true`: it takes the place of the skill of its name, which keeps its id.
    replace: Option<String>,
}

#[derive(Default)]
struct Form {
    file: Option<Vec<u8>>,
    sha256: Option<String>,
    category: Option<String>,
    icon: Option<String>,
    replace: Option<String>,
}

/// Install a skill from an archive
///
/// Nothing is installed unless the archive has the checksum that the request names.
#[utoipa::path(post, path = "/skills/install", tag = "skills",
    request_body(content = InstallForm, content_type = "multipart/form-data"),
    responses(
        (status = 200, description = "The skill, which took the place of one that was there", body = SkillEnvelope),
        (status = 201, description = "The skill", body = SkillEnvelope),
        (status = 409, description = "There is a skill of its name", body = crate::error::ErrorBody),
        (status = 413, description = "It is too large", body = crate::error::ErrorBody),
        (status = 422, description = "The archive is another than the checksum says", body = crate::error::ErrorBody),
    ))]
pub(super) async fn install_skill(
    State(api): State<Api>,
    caller: Caller,
    request: Request,
) -> Result<(StatusCode, Json<SkillEnvelope>)> {
    let form = read(&api, request).await?;
    let bytes = form.file.ok_or_else(|| Error::missing_field("file"))?;
    let expected = form.sha256.ok_or_else(|| Error::missing_field("sha256"))?.trim().to_ascii_lowercase();
    if expected.len() != 64 || !expected.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(Error::invalid_field("sha256", "must be 64 hexadecimal digits"));
    }
    let unpacking = tokio::task::spawn_blocking(move || {
        let found: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        // Before anything of it is looked at.
        if found == expected { Ok((found, unpack(&bytes))) } else { Err(found) }
    });
    let (archive_sha256, unpacked) = match unpacking.await.map_err(Error::internal)? {
        Ok(unpacked) => unpacked,
        Err(found) => {
            let message = format!("The archive is not the one that the checksum is of: its SHA-256 is {found}");
            return Err(Error::new(StatusCode::UNPROCESSABLE_ENTITY, message).with_code("checksum_mismatch"));
        }
    };
    let Unpacked { document: text, files } =
        unpacked.map_err(|why| Error::invalid_field("file", format!("the archive {why}")))?;
    let mut fields = Fields::default();
    let document = document(&mut fields, "file", &text);
    // What is published keeps to the format, so that its name means the same everywhere.
    let name = document.name.unwrap_or_default();
    if slug(&name).as_deref() != Some(name.as_str()) {
        let message = format!("the name in SKILL.md must be 1 to {MAX_SLUG_CHARS} letters a-z, digits and hyphens");
        fields.refuse("file", message);
    }
    let description = document.description.unwrap_or_default();
    if description.is_empty() {
        fields.refuse("file", "SKILL.md must have a description");
    }
    fields.check("file", check_description(&description));
    fields.finish()?;
    let new = NewSkill {
        name,
        description,
        markdown: document.body,
        category: form.category.as_deref().map_or(Ok(Category::Custom), category)?,
        icon: form.icon,
        is_active: true,
        archive_sha256: Some(archive_sha256),
        files,
    };
    if form.replace.as_deref() == Some("true")
        && let Some(before) = api.store.find_skill_by_slug(&caller.project, &new.name).await?
    {
        let changed = api.store.update_skill(&caller.project, &before.id, |skill| *skill = new).await?;
        return Ok((StatusCode::OK, Json(SkillEnvelope::new(changed.0, changed.1))));
    }
    let files = new.files.clone();
    let skill = api.store.create_skill(&caller.project, new).await?;
    Ok((StatusCode::CREATED, Json(SkillEnvelope::new(skill, files))))
}

async fn read(api: &Api, request: Request) -> Result<Form> {
    let mut multipart = Multipart::from_request(request, api)
        .await
        .map_err(|_| Error::bad_request("The body must be a form: Content-Type multipart/form-data with a boundary"))?;
    let idle = api.settings.upload_idle_timeout;
    let silent = |_| {
        let message = format!("The upload was silent for {} seconds", idle.as_secs());
        Error::new(StatusCode::REQUEST_TIMEOUT, message)
    };
    let mut form = Form::default();
    while let Some(mut field) = timeout(idle, multipart.next_field()).await.map_err(silent)?.map_err(broken)? {
        let name = field.name().unwrap_or_default().to_owned();
        let most = if name == "file" { MAX_ARCHIVE_BYTES } else { MAX_TEXT_BYTES };
        let mut bytes = Vec::new();
        while let Some(chunk) = timeout(idle, field.chunk()).await.map_err(silent)?.map_err(broken)? {
            if bytes.len() + chunk.len() > most {
                let message = format!("The field {name} is larger than {most} bytes");
                return Err(Error::new(StatusCode::PAYLOAD_TOO_LARGE, message));
            }
            bytes.extend_from_slice(&chunk);
        }
        let text = |bytes| String::from_utf8(bytes).map_err(|_| Error::invalid_field(&*name, "must be UTF-8"));
        match name.as_str() {
            "file" => form.file = Some(bytes),
            "sha256" => form.sha256 = Some(text(bytes)?),
            "category" => form.category = Some(text(bytes)?),
            "icon" => form.icon = Some(text(bytes)?),
            "replace" => form.replace = Some(text(bytes)?),
            _ => {}
        }
    }
    Ok(form)
}

fn broken(err: MultipartError) -> Error {
    Error::bad_request(format!("The form is not valid: {}", err.body_text()))
}
