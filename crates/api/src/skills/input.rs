//! What clients send to make and change a skill, and what of it is acceptable.

use base64::{Engine, engine::general_purpose::STANDARD};
use domain::skill::{self, Category, DOCUMENT_NAME, Document, MAX_DESCRIPTION_CHARS, MAX_MARKDOWN_BYTES, SkillFile};
use serde::Deserialize;
use store::skills::NewSkill;
use utoipa::ToSchema;

use crate::{
    Error, Result,
    body::Patch,
    check::{self, Fields, Verdict},
};

/// A new skill.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(example = json!({
    "name": "Release notes", "description": "Writes release notes. Use when asked for a changelog.",
    "markdown": "# Release notes\n\nRun scripts/log.sh, then …",
    "files": [{"name": "scripts/log.sh", "content": "git log --oneline", "isExecutable": true}],
}))]
pub(super) struct CreateSkill {
    /// 1 to 255 characters. Models call the skill by what of it are letters, digits and hyphens. If absent, the name that
    /// the frontmatter of `markdown` gives.
    name: Option<String>,
    /// What the skill does and when to use it; in the prompt of every run that has the skill. At most 1024 characters.
    description: Option<String>,
    /// What the model reads when it uses the skill: Markdown, or a whole SKILL.md.
    markdown: Option<String>,
    files: Option<Vec<FileInput>>,
    icon: Option<String>,
    /// `research`, `creative`, `productivity`, `development`, `documents` or `custom`, which it is if absent.
    category: Option<String>,
    /// False: it is offered to no model.
    is_active: Option<bool>,
}

/// A change of a skill. An absent field is left alone.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct UpdateSkill {
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    name: Patch<String>,
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    description: Patch<String>,
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    markdown: Patch<String>,
    /// All files; those that are there are replaced.
    #[serde(default)]
    #[schema(value_type = Option<Vec<FileInput>>)]
    files: Patch<Vec<FileInput>>,
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    icon: Patch<String>,
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    category: Patch<String>,
    #[serde(default)]
    #[schema(value_type = Option<bool>)]
    is_active: Patch<bool>,
}

/// A file of a skill.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = SkillFileInput)]
pub(super) struct FileInput {
    /// Its path in the skill's directory.
    #[schema(example = "scripts/fill.py")]
    #[serde(alias = "path")]
    name: String,
    content: String,
    /// What an editor shows it as.
    language: Option<String>,
    /// `utf-8`, which it is if absent, or `base64`.
    encoding: Option<String>,
    is_executable: Option<bool>,
}

impl CreateSkill {
    pub(super) fn into_new(self) -> Result<NewSkill> {
        let mut fields = Fields::default();
        let (mut markdown, mut files) = (self.markdown, self.files.unwrap_or_default());
        // Clients that send a directory send its text among the files.
        if markdown.is_none()
            && let Some(at) = files.iter().position(|file| file.name == DOCUMENT_NAME)
        {
            markdown = Some(files.remove(at).content);
        }
        let document = document(&mut fields, "markdown", &markdown.unwrap_or_default());
        let name = self.name.or(document.name);
        let Some(name) = name else { return Err(Error::missing_field("name")) };
        fields.check("name", check::name(&name));
        let description = one_line(&self.description.or(document.description).unwrap_or_default());
        fields.check("description", check_description(&description));
        let files = read_files(&mut fields, files);
        let category = self.category.as_deref().map_or(Ok(Category::Custom), category);
        fields.finish()?;
        Ok(NewSkill {
            name,
            description,
            markdown: document.body,
            category: category?,
            icon: self.icon,
            is_active: self.is_active.unwrap_or(true),
            archive_sha256: None,
            files,
        })
    }
}

/// A change that is acceptable.
#[derive(Default)]
pub(super) struct Change {
    name: Option<String>,
    description: Option<String>,
    markdown: Option<String>,
    files: Option<Vec<SkillFile>>,
    icon: Patch<String>,
    category: Option<Category>,
    is_active: Option<bool>,
}

impl UpdateSkill {
    pub(super) fn check(self) -> Result<Change> {
        let mut fields = Fields::default();
        fields.check_patch("name", &self.name, |name| check::name(name));
        let mut change = Change { icon: self.icon, ..Change::default() };
        self.name.apply(&mut change.name);
        change.markdown = match self.markdown {
            Patch::Absent => None,
            Patch::Null => Some(String::new()),
            Patch::Value(markdown) => Some(document(&mut fields, "markdown", &markdown).body),
        };
        change.description = match self.description {
            Patch::Absent => None,
            Patch::Null => Some(String::new()),
            Patch::Value(description) => Some(one_line(&description)),
        };
        if let Some(description) = &change.description {
            fields.check("description", check_description(description));
        }
        change.files = match self.files {
            Patch::Absent => None,
            Patch::Null => Some(Vec::new()),
            Patch::Value(files) => Some(read_files(&mut fields, files)),
        };
        change.is_active = match self.is_active {
            Patch::Absent => None,
            Patch::Null => Some(true),
            Patch::Value(is_active) => Some(is_active),
        };
        fields.finish()?;
        change.category = match self.category {
            Patch::Absent => None,
            Patch::Null => Some(Category::Custom),
            Patch::Value(word) => Some(category(&word)?),
        };
        Ok(change)
    }
}

impl Change {
    pub(super) fn apply(self, skill: &mut NewSkill) {
        let Self { name, description, markdown, files, icon, category, is_active } = self;
        skill.name = name.unwrap_or_else(|| std::mem::take(&mut skill.name));
        skill.description = description.unwrap_or_else(|| std::mem::take(&mut skill.description));
        skill.markdown = markdown.unwrap_or_else(|| std::mem::take(&mut skill.markdown));
        skill.files = files.unwrap_or_else(|| std::mem::take(&mut skill.files));
        icon.apply(&mut skill.icon);
        skill.category = category.unwrap_or(skill.category);
        skill.is_active = is_active.unwrap_or(skill.is_active);
    }
}

/// Reads a category.
pub(super) fn category(word: &str) -> Result<Category> {
    word.parse().map_err(|_| {
        let words: Vec<_> = Category::ALL.iter().map(|category| category.as_str()).collect();
        Error::invalid_field("category", format!("must be one of {}", words.join(", ")))
    })
}

/// Reads a skill's text, with or without a frontmatter.
pub(super) fn document(fields: &mut Fields, field: &str, text: &str) -> Document {
    if text.len() > MAX_MARKDOWN_BYTES {
        fields.refuse(field, format!("must have at most {MAX_MARKDOWN_BYTES} bytes"));
        return Document::default();
    }
    Document::parse(text).unwrap_or_else(|err| {
        fields.refuse(field, err.to_string());
        Document::default()
    })
}

pub(super) fn check_description(description: &str) -> Verdict {
    match description.chars().count() {
        0..=MAX_DESCRIPTION_CHARS => Ok(()),
        _ => Err(format!("must have at most {MAX_DESCRIPTION_CHARS} characters")),
    }
}

/// A description is a line of a list that models read.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn read_files(fields: &mut Fields, files: Vec<FileInput>) -> Vec<SkillFile> {
    let mut read = Vec::with_capacity(files.len());
    for (n, file) in files.into_iter().enumerate() {
        let content = match file.encoding.as_deref() {
            None | Some("" | "utf-8" | "utf8") => Ok(file.content.into_bytes()),
            Some("base64") => STANDARD.decode(file.content.trim()).map_err(|_| ("content", "is not valid base64")),
            Some(_) => Err(("encoding", "must be utf-8 or base64")),
        };
        match content {
            Ok(content) => read.push(SkillFile {
                path: file.name,
                content,
                language: file.language,
                is_executable: file.is_executable.unwrap_or(false),
            }),
            Err((part, why)) => fields.refuse(format!("files[{n}].{part}"), why),
        }
    }
    if let Err(err) = skill::check_files(read.iter().map(|file| (file.path.as_str(), file.content.len()))) {
        fields.refuse("files", err.to_string());
    }
    read.sort_by(|a, b| a.path.cmp(&b.path));
    read
}
