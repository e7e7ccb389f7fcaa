//! Skills that a workspace brings along, in `.claude/skills`.
//!
//! Whoever wrote the files of the workspace wrote them: they are told as what they are, and nothing of them is trusted. A
//! name that is not plain, and a text that cannot be read, is passed over.

use domain::{WorkspacePath, skill::Document};
use tokio::io::AsyncReadExt;

use super::{Kind, Workspace};

/// Where they are.
const DIRECTORY: &str = ".claude/skills";

const MAX_SKILLS: usize = 50;
const MAX_DESCRIPTION_CHARS: usize = 300;
const MAX_DOCUMENT_BYTES: u64 = 256 * 1024;

/// A skill of a workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundSkill {
    /// The name of its directory: letters, digits, `-` and `_`.
    pub name: String,
    pub description: String,
    /// Of its directory, relative to the workspace.
    pub path: String,
}

impl Workspace {
    /// Lists the workspace's skills by name; none where they cannot be read.
    pub async fn list_skills(&self) -> Vec<FoundSkill> {
        let directory = WorkspacePath::parse(DIRECTORY).expect("the name above is valid");
        let Ok(listing) = self.list(&directory, Some(1)).await else { return Vec::new() };
        let mut found = Vec::new();
        let directories = listing.entries.into_iter().filter(|entry| entry.kind == Kind::Directory);
        for entry in directories.filter(|entry| is_plain(&entry.name)).take(MAX_SKILLS) {
            let Some(document) = self.read_skill(&entry.name).await else { continue };
            let description = document.description.unwrap_or_default();
            found.push(FoundSkill {
                path: format!("{DIRECTORY}/{}", entry.name),
                description: description.chars().filter(|c| !c.is_control()).take(MAX_DESCRIPTION_CHARS).collect(),
                name: entry.name,
            });
        }
        found
    }

    /// Reads the text of a skill of the workspace.
    pub async fn read_skill(&self, name: &str) -> Option<Document> {
        if !is_plain(name) {
            return None;
        }
        let path = WorkspacePath::parse(&format!("{DIRECTORY}/{name}/{}", domain::skill::DOCUMENT_NAME)).ok()?;
        let open = self.open_file(&path).await.ok()?;
        let mut bytes = Vec::new();
        open.file.take(MAX_DOCUMENT_BYTES).read_to_end(&mut bytes).await.ok()?;
        Document::parse(&String::from_utf8_lossy(&bytes)).ok()
    }
}

fn is_plain(name: &str) -> bool {
    (1..=64).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn skills_of_a_workspace_are_found_and_never_followed_out_of_it() {
        let root = tempfile::tempdir().expect("a directory");
        let skills = root.path().join("w/.claude/skills");
        let write = |name: &str, text: &str| {
            std::fs::create_dir_all(skills.join(name)).expect("made");
            std::fs::write(skills.join(name).join("SKILL.md"), text).expect("written");
        };
        let workspace = Workspace::open(root.path().join("w")).expect("opens");
        assert_eq!(workspace.list_skills().await, []);
        write("deploy", "---\nname: other\ndescription: \"How\\nwe\\u0007 deploy\"\n---\nRun it.");
        write("bare", "Just text.");
        write("not plain", "x");
        write("broken", "---\nname: [\n---\n");
        std::fs::create_dir_all(skills.join("empty")).expect("made");
        std::fs::create_dir_all(root.path().join("outside")).expect("made");
        std::fs::write(root.path().join("outside/SKILL.md"), "secret").expect("written");
        std::os::unix::fs::symlink(root.path().join("outside"), skills.join("link")).expect("linked");
        let found = workspace.list_skills().await;
        let told: Vec<_> = found.iter().map(|skill| (skill.name.as_str(), skill.description.as_str())).collect();
        assert_eq!(told, [("bare", ""), ("deploy", "How we deploy")]);
        assert_eq!(found[1].path, ".claude/skills/deploy");
        assert_eq!(workspace.read_skill("deploy").await.expect("is there").body, "Run it.");
        for name in ["link", "../../outside", "", "nobody"] {
            assert_eq!(workspace.read_skill(name).await, None, "{name}");
        }
    }
}
