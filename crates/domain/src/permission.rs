//! Permissions: which tool calls are made, asked about, or refused.
//!
//! A [`PermissionSet`] is carried by an agent or by a message. Its rules (in the syntax of Claude Code: `Bash(npm run *)`,
//! `Read(/workspace/secrets/**)`, `WebFetch(domain:example.com)`, `mcp__srv__*`, `Write`) are looked at in the order deny,
//! ask, allow. Where no rule fits, the level of the tool's action decides; a tool with allow rules asks about the rest at
//! least. Several sets only ever narrow each other: the strictest verdict holds.
//!
//! Deny and ask rules match widely, allow rules narrowly, and where a shell command cannot be judged it is asked about.
//! Rules bind the calls, not the kernel: a rule about `Read` also looks at the words of shell commands, but what a program
//! opens by itself is for the sandbox to limit.

mod paths;
mod request;
mod rule;
mod shell;

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use request::{Decided, Decider, Decision, Request};
pub use rule::{InvalidRule, Rule};

use rule::Match;

/// What is to happen with a call, from the mildest to the strictest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Access {
    Allow,
    Ask,
    Deny,
}

/// What is to happen with a call, and what says so: a rule as it was written, or a level (`local_shell: no_access`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    pub access: Access,
    /// Nothing, where nothing is said about the call.
    pub rule: Option<String>,
}

impl Verdict {
    const FREE: Self = Self { access: Access::Allow, rule: None };
}

/// A level of access, in the words of the wire format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Level {
    FullAccess,
    AskForPermission,
    ReadOnly,
    NoAccess,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::FullAccess => "full_access",
            Self::AskForPermission => "ask_for_permission",
            Self::ReadOnly => "read_only",
            Self::NoAccess => "no_access",
        })
    }
}

/// What may be done, as it is stored and sent: the wire format's `PermissionSet` with the extension `rules`.
///
/// Source: the wire format, 6.7. Of `resources` the rules of `files` and `directories` that take something away count.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PermissionSet {
    default_access: Option<Level>,
    rings: BTreeMap<String, Ring>,
    actions: BTreeMap<String, Action>,
    resources: BTreeMap<String, Resource>,
    rules: Option<Rules>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Ring {
    default_access: Option<Level>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Action {
    ring_id: Option<String>,
    access: Option<Level>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Resource {
    rules: Vec<ResourceRule>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ResourceRule {
    path: Option<String>,
    access: Option<Level>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
struct Rules {
    allow: Vec<Rule>,
    ask: Vec<Rule>,
    deny: Vec<Rule>,
}

/// A permission set that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidSet(String);

impl PermissionSet {
    /// Reads a set. `null` is the empty one, under which everything is allowed.
    pub fn parse(json: &Value) -> Result<Self, InvalidSet> {
        if json.is_null() {
            return Ok(Self::default());
        }
        let mut set = Self::deserialize(json).map_err(|err| InvalidSet(err.to_string()))?;
        let mut rules = set.rules.take().unwrap_or_default();
        for kind in ["files", "directories"] {
            for rule in set.resources.get(kind).into_iter().flat_map(|resource| &resource.rules) {
                let (Some(path), Some(level)) = (&rule.path, rule.access) else { continue };
                let on = |tool: &str| {
                    format!("{tool}({path})").parse().map_err(|err: InvalidRule| InvalidSet(err.to_string()))
                };
                match level {
                    Level::FullAccess => {}
                    Level::AskForPermission => rules.ask.extend([on("Read")?, on("Edit")?]),
                    Level::ReadOnly => rules.deny.push(on("Edit")?),
                    Level::NoAccess => rules.deny.extend([on("Read")?, on("Edit")?]),
                }
            }
        }
        set.rules = Some(rules);
        Ok(set)
    }

    /// Gives the set that stands in for one that cannot be read any more: everything is asked about.
    pub fn ask_always() -> Self {
        Self { default_access: Some(Level::AskForPermission), ..Self::default() }
    }

    /// Judges a call.
    pub fn judge(&self, tool: &str, input: &Value) -> Verdict {
        let none = Rules::default();
        let rules = self.rules.as_ref().unwrap_or(&none);
        let said = |access, rule: &Rule| Verdict { access, rule: Some(rule.to_string()) };
        let mut doubt = None;
        for (access, list) in [(Access::Deny, &rules.deny), (Access::Ask, &rules.ask)] {
            for rule in list {
                match rule.restricts(tool, input) {
                    Match::Yes => return said(access, rule),
                    Match::Perhaps => doubt = doubt.or(Some(rule)),
                    Match::No => {}
                }
            }
        }
        // Whether it holds cannot be told, so no allow rule may wave the call through.
        if let Some(rule) = doubt {
            return said(Access::Ask, rule);
        }
        let level = self.level(tool);
        if rule::allows(&rules.allow, tool, input) {
            return Verdict { access: Access::Allow, rule: None };
        }
        match rules.allow.iter().find(|rule| rule.covers(tool)) {
            Some(rule) if level.access < Access::Ask => {
                Verdict { access: Access::Ask, rule: Some(format!("not allowed by {rule}")) }
            }
            _ => level,
        }
    }

    /// What the levels say about a tool.
    fn level(&self, tool: &str) -> Verdict {
        let kind = Kind::of(tool);
        if kind == Kind::Harmless {
            return Verdict::FREE;
        }
        let action = kind.action();
        let entry = action.and_then(|name| self.actions.get(name));
        let of_ring = |entry: &Action| self.rings.get(entry.ring_id.as_deref()?)?.default_access;
        let (name, level) = match entry.and_then(|entry| entry.access.or_else(|| of_ring(entry))) {
            Some(level) => (action.unwrap_or_default(), Some(level)),
            None => ("defaultAccess", self.default_access),
        };
        let Some(level) = level else { return Verdict::FREE };
        let access = match level {
            Level::FullAccess => return Verdict::FREE,
            Level::ReadOnly if kind.only_reads() => return Verdict::FREE,
            Level::AskForPermission => Access::Ask,
            Level::ReadOnly | Level::NoAccess => Access::Deny,
        };
        Verdict { access, rule: Some(format!("{name}: {level}")) }
    }
}

/// Judges a call by all sets that bind it: none may widen another.
pub fn judge(sets: &[PermissionSet], tool: &str, input: &Value) -> Verdict {
    // The first of equals is kept, so that the agent's own rule is named before a message's.
    sets.iter()
        .map(|set| set.judge(tool, input))
        .fold(Verdict::FREE, |strictest, verdict| if verdict.access > strictest.access { verdict } else { strictest })
}

/// What a tool does, as far as levels tell tools apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Read,
    Write,
    Shell,
    Web,
    Skill,
    Delegation,
    /// It changes nothing but the run itself.
    Harmless,
    Other,
}

impl Kind {
    fn of(tool: &str) -> Self {
        match tool {
            "Read" | "Glob" | "Grep" => Self::Read,
            "Edit" | "GenerateImage" | "Write" | "NotebookEdit" => Self::Write,
            "Bash" => Self::Shell,
            "DeepResearch" | "WebFetch" | "WebSearch" => Self::Web,
            "Skill" => Self::Skill,
            "Agent" | "Task" => Self::Delegation,
            "TaskStop" | "TodoWrite" => Self::Harmless,
            _ => Self::Other,
        }
    }

    fn action(self) -> Option<&'static str> {
        match self {
            Self::Read => Some("workspace_read"),
            Self::Write => Some("workspace_write"),
            Self::Shell => Some("local_shell"),
            Self::Web => Some("external_read"),
            Self::Skill => Some("local_skill_run"),
            Self::Delegation => Some("team_agent_delegation"),
            Self::Harmless | Self::Other => None,
        }
    }

    fn only_reads(self) -> bool {
        matches!(self, Self::Read | Self::Web)
    }
}

#[cfg(test)]
mod tests;
