//! What an API key may do.
//!
//! A scope is a word that stands on a key. Most are of an area (`threads:read`); some are for many areas at once. Which
//! one a route wants is a table of the API's; here is only what a scope includes.

use std::fmt;

use crate::word::{UnknownWord, words};

words! {
    /// A scope.
    Scope {
        /// Everything in the key's project.
        All = "*",
        /// Everything in the key's organization, and its projects, keys and audit log.
        Admin = "admin",
        /// Everything that reads.
        Read = "read",
        /// Everything that reads or changes, but not keys, budgets, and what starts runs.
        Write = "write",
        /// To start, steer and stop runs, and to decide about their calls.
        Execute = "execute",
        ThreadsRead = "threads:read",
        ThreadsWrite = "threads:write",
        AgentsRead = "agents:read",
        AgentsWrite = "agents:write",
        EnvironmentsRead = "environments:read",
        EnvironmentsWrite = "environments:write",
        SchedulesRead = "schedules:read",
        SchedulesWrite = "schedules:write",
        ProjectsRead = "projects:read",
        ProjectsWrite = "projects:write",
        BillingRead = "billing:read",
        BillingWrite = "billing:write",
        KeysRead = "keys:read",
        KeysWrite = "keys:write",
    }
}

impl Scope {
    /// Tells whether who has this one may do what asks for `other`, and give that away.
    pub fn includes(self, other: Self) -> bool {
        if self == other {
            return true;
        }
        match self {
            Self::Admin => true,
            Self::All => other != Self::Admin,
            Self::Read => other.is_read(),
            Self::Write => other.is_read() || other.is_plain_write(),
            // Who changes something is shown it.
            Self::ThreadsWrite => other == Self::ThreadsRead,
            Self::AgentsWrite => other == Self::AgentsRead,
            Self::EnvironmentsWrite => other == Self::EnvironmentsRead,
            Self::SchedulesWrite => other == Self::SchedulesRead,
            Self::ProjectsWrite => other == Self::ProjectsRead,
            Self::BillingWrite => other == Self::BillingRead,
            Self::KeysWrite => other == Self::KeysRead,
            Self::Execute
            | Self::ThreadsRead
            | Self::AgentsRead
            | Self::EnvironmentsRead
            | Self::SchedulesRead
            | Self::ProjectsRead
            | Self::BillingRead
            | Self::KeysRead => false,
        }
    }

    /// Tells whether what it allows leaves everything as it is.
    pub fn is_read(self) -> bool {
        self == Self::Read || self.as_str().ends_with(":read")
    }

    /// A write that hands out no power over others: keys and money are apart.
    fn is_plain_write(self) -> bool {
        match self {
            Self::BillingWrite | Self::KeysWrite => false,
            Self::Write => true,
            other => other.as_str().ends_with(":write"),
        }
    }
}

/// What stands on a key, without repetitions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scopes(Vec<Scope>);

impl Scopes {
    /// Everything in a project.
    pub fn all() -> Self {
        Self(vec![Scope::All])
    }

    /// Everything in an organization.
    pub fn admin() -> Self {
        Self(vec![Scope::All, Scope::Admin])
    }

    pub fn new(scopes: impl IntoIterator<Item = Scope>) -> Self {
        let mut list = Vec::new();
        for scope in scopes {
            if !list.contains(&scope) {
                list.push(scope);
            }
        }
        Self(list)
    }

    /// Reads scopes by their words.
    pub fn parse<'a>(words: impl IntoIterator<Item = &'a str>) -> Result<Self, UnknownWord> {
        Ok(Self::new(words.into_iter().map(str::parse).collect::<Result<Vec<Scope>, _>>()?))
    }

    pub fn iter(&self) -> impl Iterator<Item = Scope> {
        self.0.iter().copied()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Tells whether one of them includes `needed`.
    pub fn include(&self, needed: Scope) -> bool {
        self.0.iter().any(|scope| scope.includes(needed))
    }

    /// Finds what is asked for in `others` and not included in these.
    pub fn missing_from(&self, others: &Self) -> Option<Scope> {
        others.iter().find(|needed| !self.include(*needed))
    }

    pub fn words(&self) -> Vec<&'static str> {
        self.0.iter().map(|scope| scope.as_str()).collect()
    }
}

impl fmt::Display for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words().join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Everything that `scopes` include, by words.
    fn included(scopes: &str) -> Vec<&'static str> {
        let scopes = Scopes::parse(scopes.split(' ')).expect("are scopes");
        Scope::ALL.iter().filter(|scope| scopes.include(**scope)).map(|scope| scope.as_str()).collect()
    }

    #[test]
    fn a_scope_includes_what_it_says_and_no_more() {
        assert_eq!(included("threads:read"), ["threads:read"]);
        assert_eq!(included("threads:write execute"), ["execute", "threads:read", "threads:write"]);
        let reads = included("read");
        assert!(reads.iter().all(|word| *word == "read" || word.ends_with(":read")), "{reads:?}");
        assert_eq!(reads.len(), 8);
        let writes = included("write");
        for apart in ["*", "admin", "execute", "keys:write", "billing:write"] {
            assert!(!writes.contains(&apart), "{apart}");
        }
        assert!(writes.contains(&"schedules:write") && writes.contains(&"read"));
    }

    #[test]
    fn only_an_administrator_is_above_a_project() {
        assert_eq!(included("admin").len(), Scope::ALL.len());
        assert_eq!(included("*").len(), Scope::ALL.len() - 1);
        assert!(!included("*").contains(&"admin"));
    }

    #[test]
    fn what_one_does_not_have_is_found() {
        let mine = Scopes::parse(["threads:write", "execute"]).expect("are scopes");
        let asked = |words: &[&str]| Scopes::parse(words.iter().copied()).expect("are scopes");
        assert_eq!(mine.missing_from(&asked(&["threads:read", "execute", "threads:write"])), None);
        assert_eq!(mine.missing_from(&asked(&["threads:read", "agents:read"])), Some(Scope::AgentsRead));
        assert_eq!(mine.missing_from(&Scopes::all()), Some(Scope::All));
        assert!(Scopes::parse(["threads:all"]).is_err());
    }
}
