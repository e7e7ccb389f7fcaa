//! A skill: what an agent can be given beyond its tools.
//!
//! Built-in skills are tools of this server, switched on by a word. A custom skill is a text with files in the open
//! SKILL.md format, shown to the model in three steps: its name and description always, its text when the model asks for
//! it, its files when the text leads there. So a hundred skills cost little while none is used.

mod document;
mod file;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

pub use document::{Document, InvalidDocument};
pub use file::{InvalidFiles, MAX_FILES, MAX_FILES_BYTES, SkillFile, check_files};

use crate::{ProjectId, SkillId, word::words};

/// The longest description, in characters. It is in every prompt.
pub const MAX_DESCRIPTION_CHARS: usize = 1024;
/// The longest text, in bytes.
pub const MAX_MARKDOWN_BYTES: usize = 1024 * 1024;
/// The longest slug, in characters.
pub const MAX_SLUG_CHARS: usize = 64;
/// The file of a skill that is its text.
pub const DOCUMENT_NAME: &str = "SKILL.md";

words! {
    /// What a skill is for.
    #[derive(Serialize, Deserialize)]
    #[serde(rename_all = "lowercase")]
    Category {
        Research = "research",
        Creative = "creative",
        Productivity = "productivity",
        Development = "development",
        Documents = "documents",
        Custom = "custom",
    }
}

/// A tool of this server that is switched on as a skill.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BuiltIn {
    WebSearch,
    DeepResearch,
    ImageGeneration,
}

impl BuiltIn {
    pub const ALL: [Self; 3] = [Self::WebSearch, Self::DeepResearch, Self::ImageGeneration];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::WebSearch => "web_search",
            Self::DeepResearch => "deep_research",
            Self::ImageGeneration => "image_generation",
        }
    }

    /// Reads its id, which catalogues also write with hyphens.
    pub fn find(id: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.as_str() == id.replace('-', "_"))
    }
}

/// A custom skill as stored.
#[derive(Debug, Clone, PartialEq)]
pub struct Skill {
    pub id: SkillId,
    pub project_id: ProjectId,
    /// What models call it: unique within its project.
    pub slug: String,
    pub name: String,
    pub description: String,
    /// What the model reads when it uses the skill.
    pub markdown: String,
    pub category: Category,
    pub icon: Option<String>,
    /// One that is not active is offered to no model.
    pub is_active: bool,
    /// Another one whenever anything that a model may read is another.
    pub version: String,
    pub archive_sha256: Option<String>,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

impl Skill {
    /// Gives the name of the directory in which containers see the files of this version.
    pub fn directory(&self) -> String {
        format!("{}-{}", self.slug, self.version.get(..12).unwrap_or(&self.version))
    }

    /// Gives the skill's SKILL.md.
    pub fn document(&self) -> Document {
        let (name, description) = (Some(self.slug.clone()), Some(self.description.clone()));
        Document { name, description, body: self.markdown.clone(), ..Document::default() }
    }
}

/// Makes what models call a skill of a name: lower-case letters, digits and hyphens. `None` where nothing of it is left.
pub fn slug(name: &str) -> Option<String> {
    let mut slug = String::new();
    for char in name.chars() {
        match char.to_ascii_lowercase() {
            char @ ('a'..='z' | '0'..='9') => slug.push(char),
            _ if slug.is_empty() || slug.ends_with('-') => {}
            _ => slug.push('-'),
        }
        if slug.len() == MAX_SLUG_CHARS {
            break;
        }
    }
    let slug = slug.trim_end_matches('-');
    (!slug.is_empty()).then(|| slug.to_owned())
}

/// Hashes all that a model may read of a skill. The order of the files does not matter.
pub fn version(slug: &str, description: &str, markdown: &str, files: &[SkillFile]) -> String {
    let mut hash = Sha256::new();
    let mut add = |part: &[u8]| {
        // With its length, so that no two skills are the same when strung together.
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    };
    [slug, description, markdown].into_iter().for_each(|part| add(part.as_bytes()));
    let mut files: Vec<_> = files.iter().collect();
    files.sort_by(|a, b| a.path.cmp(&b.path));
    for file in files {
        add(file.path.as_bytes());
        add(&file.content);
        add(&[u8::from(file.is_executable)]);
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_becomes_what_models_can_call() {
        for (name, expected) in [
            ("pdf-forms", Some("pdf-forms")),
            ("PDF Forms & Tables!", Some("pdf-forms-tables")),
            ("  --a__b  ", Some("a-b")),
            ("Größe 2", Some("gr-e-2")),
            ("数据", None),
            ("---", None),
        ] {
            assert_eq!(slug(name).as_deref(), expected, "{name}");
        }
        assert_eq!(slug(&"x".repeat(100)).map(|slug| slug.len()), Some(MAX_SLUG_CHARS));
    }

    #[test]
    fn every_change_of_what_is_read_is_another_version() {
        let file = |path: &str, content: &[u8]| SkillFile {
            path: path.to_owned(),
            content: content.to_vec(),
            language: None,
            is_executable: false,
        };
        let files = [file("a", b"1"), file("b", b"2")];
        let first = version("s", "d", "m", &files);
        let [a, b] = files.clone();
        assert_eq!(version("s", "d", "m", &[b, a]), first);
        let executable = SkillFile { is_executable: true, ..files[1].clone() };
        for other in [
            version("s2", "d", "m", &files),
            version("s", "dm", "", &files),
            version("s", "d", "m2", &files),
            version("s", "d", "m", &files[..1]),
            version("s", "d", "m", &[file("a", b"1b"), file("", b"2")]),
            version("s", "d", "m", &[files[0].clone(), executable]),
        ] {
            assert_ne!(other, first);
        }
    }

    #[test]
    fn a_built_in_skill_is_known_in_both_spellings() {
        assert_eq!(BuiltIn::find("web_search"), Some(BuiltIn::WebSearch));
        assert_eq!(BuiltIn::find("image-generation"), Some(BuiltIn::ImageGeneration));
        assert_eq!(BuiltIn::find("websearch"), None);
    }
}
