//! A skill as clients see it.

use base64::{Engine, engine::general_purpose::STANDARD};
use domain::skill::{Skill, SkillFile};
use serde::Serialize;
use utoipa::ToSchema;

use crate::timestamp::Timestamp;

/// A custom skill.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Skill)]
pub(crate) struct SkillView {
    #[schema(example = "skill_0198c0f2a7d07d1c9f7b1f5b5b0c2a11")]
    id: String,
    /// The project's id: a key opens a project, not a person.
    user_id: String,
    #[schema(example = "Release notes")]
    name: String,
    /// What models call it.
    #[schema(example = "release-notes")]
    slug: String,
    description: String,
    markdown: String,
    /// In lists it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    files: Option<Vec<FileView>>,
    icon: Option<String>,
    #[schema(example = "custom")]
    category: &'static str,
    is_active: bool,
    /// Another one whenever something that a model may read is another.
    version: String,
    /// The SHA-256 of the archive that it was installed from.
    archive_sha256: Option<String>,
    created_at: Timestamp,
    updated_at: Timestamp,
}

/// A file of a skill.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = SkillFile)]
pub(crate) struct FileView {
    /// Its path in the skill's directory.
    name: String,
    content: String,
    language: Option<String>,
    /// `utf-8`, or `base64` for what is no text.
    encoding: &'static str,
    is_executable: bool,
    /// Bytes.
    size: usize,
}

impl SkillView {
    pub(super) fn new(skill: Skill, files: Option<Vec<SkillFile>>) -> Self {
        Self {
            id: skill.id.into(),
            user_id: skill.project_id.into(),
            name: skill.name,
            slug: skill.slug,
            description: skill.description,
            markdown: skill.markdown,
            files: files.map(|files| files.into_iter().map(FileView::from).collect()),
            icon: skill.icon,
            category: skill.category.as_str(),
            is_active: skill.is_active,
            version: skill.version,
            archive_sha256: skill.archive_sha256,
            created_at: skill.created_at.into(),
            updated_at: skill.updated_at.into(),
        }
    }
}

impl From<SkillFile> for FileView {
    fn from(file: SkillFile) -> Self {
        let size = file.content.len();
        let (content, encoding) = match String::from_utf8(file.content) {
            Ok(text) => (text, "utf-8"),
            Err(err) => (STANDARD.encode(err.into_bytes()), "base64"),
        };
        Self { name: file.path, content, language: file.language, encoding, is_executable: file.is_executable, size }
    }
}

/// `{skill}`.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SkillEnvelope {
    skill: SkillView,
}

impl SkillEnvelope {
    pub(super) fn new(skill: Skill, files: Vec<SkillFile>) -> Self {
        Self { skill: SkillView::new(skill, Some(files)) }
    }
}
