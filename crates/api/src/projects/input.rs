//! What a project is made from, and how it is changed.

use domain::{
    ProjectId,
    project::{Project, ProjectKind},
    scope::Scope,
    tier::Tiers,
};
use serde::Deserialize;
use serde_json::{Map, Value};
use store::projects::NewProject;
use utoipa::ToSchema;

use crate::{
    Result,
    auth::Caller,
    body::{Patch, patch_named},
    check::{self, Fields, Verdict},
};

/// What clients keep with a project and nobody here reads, and what it is while there is nothing.
const STORED: [(&str, Empty); 8] = [
    ("color", Empty::Null),
    ("environmentIds", Empty::List),
    ("defaultEnvironmentId", Empty::Null),
    ("permissionSet", Empty::Null),
    ("metadata", Empty::Null),
    ("missionControl", Empty::Null),
    ("tags", Empty::List),
    ("sources", Empty::List),
];

#[derive(Clone, Copy)]
enum Empty {
    Null,
    List,
}

pub(super) fn stored_names() -> impl Iterator<Item = (&'static str, Value)> {
    STORED.into_iter().map(|(name, empty)| match empty {
        Empty::Null => (name, Value::Null),
        Empty::List => (name, Value::Array(Vec::new())),
    })
}

/// A new project. Fields that are kept as they come: `color`, `environmentIds`, `defaultEnvironmentId`, `permissionSet`,
/// `metadata`, `missionControl`, `tags`, `sources`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct CreateProject {
    /// An id of your choice.
    id: Option<String>,
    #[schema(example = "Website")]
    name: String,
    description: Option<String>,
    /// `cloud` (if absent), `local` or `synced`.
    #[serde(rename = "type")]
    kind: Option<String>,
    /// One of the settings' tiers, by which it may have other than the general settings say.
    #[schema(example = "free")]
    tier: Option<String>,
    #[serde(flatten)]
    #[schema(ignore)]
    rest: Map<String, Value>,
}

/// A change of a project. An absent field is left alone, `null` clears it.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct UpdateProject {
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    name: Patch<String>,
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    description: Patch<String>,
    /// One of the settings' tiers; `null`: what the general settings say. For administrators.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    tier: Patch<String>,
    #[serde(flatten)]
    #[schema(ignore)]
    rest: Map<String, Value>,
}

impl CreateProject {
    pub(super) fn into_new(self, tiers: &Tiers) -> Result<NewProject> {
        let mut fields = Fields::default();
        fields.check("name", check::name(&self.name));
        if let Some(tier) = &self.tier {
            fields.check("tier", known(tiers, tier));
        }
        let id = self.id.map(|id| id.parse::<ProjectId>()).transpose().unwrap_or_else(|err| {
            fields.refuse("id", err.to_string());
            None
        });
        let kind = match self.kind.as_deref().map(str::parse::<ProjectKind>) {
            None => ProjectKind::default(),
            Some(Ok(kind)) => kind,
            Some(Err(_)) => {
                fields.refuse("type", "must be cloud, local or synced");
                ProjectKind::default()
            }
        };
        fields.finish()?;
        let mut stored = Map::new();
        patch_named(&mut stored, self.rest, STORED.map(|(name, _)| name));
        Ok(NewProject { id, name: self.name, description: self.description, kind, tier: self.tier, stored })
    }
}

impl UpdateProject {
    pub(super) fn apply(self, project: &mut Project, caller: &Caller, tiers: &Tiers) -> Result<()> {
        let mut fields = Fields::default();
        let mut tier = project.tier.clone();
        self.tier.apply(&mut tier);
        // Who sends a project back as it was asks for nothing.
        if tier != project.tier {
            caller.require(Scope::Admin)?;
            if let Some(tier) = &tier {
                fields.check("tier", known(tiers, tier));
            }
        }
        fields.check_patch("name", &self.name, |name| check::name(name));
        fields.finish()?;
        if let Patch::Value(name) = self.name {
            project.name = name;
        }
        self.description.apply(&mut project.description);
        project.tier = tier;
        patch_named(&mut project.stored, self.rest, STORED.map(|(name, _)| name));
        Ok(())
    }
}

fn known(tiers: &Tiers, tier: &str) -> Verdict {
    if tiers.is_known(tier) {
        return Ok(());
    }
    let names: Vec<_> = tiers.names().collect();
    Err(if names.is_empty() {
        "must be null: the settings have no tiers".to_owned()
    } else {
        format!("must be a tier of the settings: {}", names.join(", "))
    })
}
