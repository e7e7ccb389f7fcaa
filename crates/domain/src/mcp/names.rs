//! The names by which a model calls the tools of MCP servers: `mcp__server__tool`.
//!
//! Servers name things as they like; the Messages API takes 64 letters, digits, `_` and `-`. And names are what
//! permissions are about: a rule `mcp__mail` is for every tool of `mail` and for no tool of another server. So a server's
//! part never holds two underscores in a row and neither begins nor ends with one, else `a` and `a__b` could not be told apart.

use std::collections::{BTreeMap, HashSet};

/// What the Messages API takes.
const MAX_BYTES: usize = 64;

/// Of that, the most a server's part may have: enough of the tool's must be left to be told by it.
const MAX_SERVER_BYTES: usize = 28;

const HASH_DIGITS: usize = 8;

const PREFIX: &str = "mcp__";

/// What a name stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named<T> {
    /// The index of the server among those that were given.
    pub server: usize,
    pub tool: T,
}

/// Names and what they stand for, sorted by name.
#[derive(Debug, Clone)]
pub struct Names<T>(BTreeMap<String, Named<T>>);

impl<T: Clone> Names<T> {
    /// Tells whether a call is one of an MCP server's tool.
    pub fn are(name: &str) -> bool {
        name.starts_with(PREFIX)
    }

    /// Gives a name to each of the servers' tools. The same servers with the same tools get the same names; of two that
    /// would have one name, the later gets another that tells the two apart.
    pub fn new<'a, Tools>(servers: impl IntoIterator<Item = (&'a str, Tools)>) -> Self
    where
        Tools: IntoIterator<Item = (String, T)>,
    {
        let (mut names, mut parts) = (BTreeMap::new(), Vec::new());
        for (server, (server_name, tools)) in servers.into_iter().enumerate() {
            let mut part = server_part(server_name);
            if parts.contains(&part) {
                part = with_hash(&part, server_name, MAX_SERVER_BYTES);
            }
            parts.push(part.clone());
            let mut seen = HashSet::new();
            for (tool_name, tool) in tools {
                // A server that names two tools alike can be asked for one only.
                if !seen.insert(tool_name.clone()) {
                    continue;
                }
                let mut name = format!("{PREFIX}{part}__{}", sanitise(&tool_name));
                if name.len() > MAX_BYTES || name.ends_with("__") || names.contains_key(&name) {
                    name = with_hash(&name, &format!("{server_name}\0{tool_name}"), MAX_BYTES);
                }
                names.entry(name).or_insert(Named { server, tool });
            }
        }
        Self(names)
    }

    pub fn find(&self, name: &str) -> Option<&Named<T>> {
        self.0.get(name)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &Named<T>)> {
        self.0.iter().map(|(name, named)| (name.as_str(), named))
    }
}

impl<T> Default for Names<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

fn server_part(name: &str) -> String {
    let mut part = String::with_capacity(name.len());
    for c in sanitise(name).chars() {
        if c != '_' || !part.ends_with('_') {
            part.push(c);
        }
    }
    let trimmed = part.trim_matches('_');
    match trimmed.len() {
        // Of a name in another script nothing is left.
        0 => with_hash("server", name, MAX_SERVER_BYTES),
        1..=MAX_SERVER_BYTES => trimmed.to_owned(),
        _ => with_hash(trimmed, name, MAX_SERVER_BYTES),
    }
}

fn sanitise(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' || c == '_' { c } else { '_' }).collect()
}

/// Shortens `name` as far as it must be and ends it with a hash of what it stands for. All of it is ASCII.
fn with_hash(name: &str, original: &str, max: usize) -> String {
    let room = max - HASH_DIGITS - 1;
    let kept = &name[..name.len().min(room)];
    format!("{kept}-{:08x}", fnv(original) as u32)
}

/// FNV-1a: the same in every process and every release, which the standard library's hashes are not.
fn fnv(text: &str) -> u64 {
    let hash = text
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    // The upper bits are the better ones.
    hash >> 32 ^ hash
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(servers: &[(&str, &[&str])]) -> Vec<(String, usize, String)> {
        let servers = servers.iter().map(|(server, tools)| {
            (*server, tools.iter().map(|tool| ((*tool).to_owned(), (*tool).to_owned())).collect::<Vec<_>>())
        });
        let names = Names::new(servers);
        names.iter().map(|(name, named)| (name.to_owned(), named.server, named.tool.clone())).collect()
    }

    fn only(servers: &[(&str, &[&str])]) -> String {
        let mut all = names(servers);
        assert_eq!(all.len(), 1, "{all:?}");
        all.remove(0).0
    }

    #[test]
    fn names_are_what_the_messages_api_takes() {
        assert_eq!(only(&[("memory", &["read_graph"])]), "mcp__memory__read_graph");
        assert_eq!(only(&[("my.srv", &["a.b/c d"])]), "mcp__my_srv__a_b_c_d");
        let long = "x".repeat(200);
        for (server, tool) in
            [(long.as_str(), long.as_str()), ("ünïcödé", "ツール"), ("__", "__"), ("a", ""), (" ", "\0")]
        {
            let name = only(&[(server, &[tool])]);
            assert!(name.len() <= MAX_BYTES, "{name}");
            assert!(name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte)), "{name}");
        }
    }

    #[test]
    fn no_server_is_taken_for_another() {
        for (server, other) in [("a__b", "a"), ("a_", "a"), ("_a", "a"), ("a.", "a")] {
            let all = names(&[(other, &["t"]), (server, &["t", "_t", "__t"])]);
            let of_other: Vec<_> =
                all.iter().filter(|(name, ..)| name.starts_with(&format!("mcp__{other}__"))).collect();
            assert_eq!(of_other.len(), 1, "{all:?}");
            assert_eq!(of_other[0].1, 0);
        }
    }

    #[test]
    fn names_that_would_be_one_are_told_apart_always_in_the_same_way() {
        let servers: &[(&str, &[&str])] = &[("s", &["a.b", "a_b", "a b"]), ("s.", &["a_b"])];
        let all = names(servers);
        assert_eq!(all.len(), 4, "{all:?}");
        assert!(all.iter().any(|(name, server, tool)| name == "mcp__s__a_b" && *server == 0 && tool == "a.b"));
        assert_eq!(all, names(servers));
    }

    #[test]
    fn a_tool_that_is_there_twice_is_one() {
        assert_eq!(names(&[("s", &["t", "t", "t"])]).len(), 1);
    }
}
