//! What the model is told of servers' tools.

use std::{hash::Hasher, sync::Arc};

use domain::mcp::Names;
use mcp::Listing;
use serde_json::{Value, json, value::RawValue};

/// What is asked of a server by a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Asked {
    /// A tool, by the server's name for it.
    Tool(String),
    /// Its resources: one, or which there are.
    Resources,
    /// Its prompts: one, or which there are.
    Prompts,
}

/// All tools of all servers.
#[derive(Default)]
pub(super) struct Offer {
    pub names: Names<Asked>,
    /// Sorted by name.
    pub definitions: Vec<claude::Tool>,
    /// Of the definitions; `None` if there are none.
    pub digest: Option<String>,
    /// What it was made of, for each server.
    listings: Vec<Option<Arc<Listing>>>,
}

impl Offer {
    /// Makes the offer of servers, each with what it has, if that is known.
    pub(super) fn new(servers: &[(String, Option<Arc<Listing>>)]) -> Self {
        let names = Names::new(servers.iter().map(|(name, listing)| {
            let listing = listing.as_deref();
            let tools = listing.into_iter().flat_map(|listing| &listing.tools);
            let mut all: Vec<_> = tools.map(|tool| (tool.name.clone(), Asked::Tool(tool.name.clone()))).collect();
            // After the server's own: where one has such a name, these two give way.
            for (name, asked, is_there) in [
                ("resources", Asked::Resources, listing.is_some_and(|listing| listing.has_resources)),
                ("prompts", Asked::Prompts, listing.is_some_and(|listing| listing.has_prompts)),
            ] {
                if is_there {
                    let is_taken = all.iter().any(|(taken, _)| taken == name);
                    all.push((if is_taken { format!("mcp {name}") } else { name.to_owned() }, asked));
                }
            }
            (name.as_str(), all)
        }));
        let definitions: Vec<_> = names
            .iter()
            .filter_map(|(name, named)| {
                let (server, listing) = servers.get(named.server)?;
                let (description, schema) = describe(server, listing.as_deref()?, &named.tool)?;
                let input_schema = RawValue::from_string(schema.to_string()).ok()?;
                Some(claude::Tool { name: name.to_owned(), description, input_schema })
            })
            .collect();
        let digest = (!definitions.is_empty()).then(|| digest(&definitions));
        let listings = servers.iter().map(|(_, listing)| listing.clone()).collect();
        Self { names, definitions, digest, listings }
    }

    /// Gives what a server had when this was offered.
    pub(super) fn listing(&self, server: usize) -> Option<Arc<Listing>> {
        self.listings.get(server)?.clone()
    }

    /// Gives a server's tool as it is offered.
    pub(super) fn tool(&self, server: usize, name: &str) -> Option<&mcp::Tool> {
        self.listings.get(server)?.as_ref()?.tools.iter().find(|tool| tool.name == name)
    }
}

fn describe(server: &str, listing: &Listing, asked: &Asked) -> Option<(String, Value)> {
    Some(match asked {
        Asked::Tool(name) => {
            let tool = listing.tools.iter().find(|tool| tool.name == *name)?;
            let description = match tool.description.trim() {
                "" => format!("The tool {name} of the MCP server {server}."),
                description => description.to_owned(),
            };
            (description, tool.input_schema.clone())
        }
        Asked::Resources => (
            format!("Reads a resource of the MCP server {server} by its uri. Without a uri: lists the resources."),
            json!({"type": "object", "properties": {"uri": {"type": "string", "description": "The resource to read"}}}),
        ),
        Asked::Prompts => (
            format!("Gives a prompt of the MCP server {server} by its name. Without a name: lists the prompts."),
            json!({"type": "object", "properties": {
                "name": {"type": "string", "description": "The prompt"},
                "arguments": {"type": "object", "description": "What the prompt asks for, as strings"},
            }}),
        ),
    })
}

/// The same in every process and release: it is kept with the thread.
fn digest(definitions: &[claude::Tool]) -> String {
    let json = serde_json::to_string(definitions).expect("definitions have string keys");
    let mut hasher = Fnv(0xcbf2_9ce4_8422_2325);
    hasher.write(json.as_bytes());
    format!("{:016x}{:x}", hasher.finish(), json.len())
}

struct Fnv(u64);

impl Hasher for Fnv {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use mcp::Tool;

    use super::*;

    fn server(name: &str, tools: &[&str]) -> (String, Option<Arc<Listing>>) {
        let tool = |name: &&str| Tool {
            name: (*name).to_owned(),
            description: String::new(),
            input_schema: json!({"type": "object"}),
        };
        let tools = tools.iter().map(tool).collect();
        (name.to_owned(), Some(Arc::new(Listing { tools, has_resources: true, ..Listing::default() })))
    }

    #[test]
    fn an_offer_is_the_same_bytes_for_the_same_servers() {
        let servers = [server("a", &["x", "resources"]), server("b", &["x"]), ("c".to_owned(), None)];
        let offer = Offer::new(&servers);
        let names: Vec<_> = offer.definitions.iter().map(|tool| tool.name.as_str()).collect();
        assert_eq!(
            names,
            ["mcp__a__mcp_resources", "mcp__a__resources", "mcp__a__x", "mcp__b__resources", "mcp__b__x"]
        );
        assert_eq!(offer.names.find("mcp__a__resources").unwrap().tool, Asked::Tool("resources".into()));
        assert_eq!(offer.names.find("mcp__a__mcp_resources").unwrap().tool, Asked::Resources);
        assert_eq!(offer.digest, Offer::new(&servers).digest);
        assert_ne!(offer.digest, Offer::new(&servers[..1]).digest);
        assert_eq!(Offer::new(&[]).digest, None);
    }
}
