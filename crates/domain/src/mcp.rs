//! MCP servers as environments and messages name them, and the names by which a model calls their tools.
//!
//! What is stored is the wire's own shape. It is read here as generously as it was checked when it came: a server that
//! cannot be read is left out with a sentence, and the others work. Variables in it are filled in from those of the run and
//! from nothing else; the server's own environment holds the operator's secrets.

mod names;
mod variables;

use std::{collections::BTreeMap, time::Duration};

use serde::Deserialize;
use serde_json::Value;

pub use names::{Named, Names};
pub use variables::{MissingVariable, fill_in};

/// The most servers of one environment or message.
pub const MAX_SERVERS: usize = 100;

/// Under which key the servers of a message are sealed among its run's secrets: none that could name a variable.
pub const SEALED_KEY: &str = " mcpServers";

/// What words of a variable's name say that its value is a secret.
const SECRET_WORDS: [&str; 7] = ["TOKEN", "SECRET", "PASSWORD", "PASSWD", "KEY", "CREDENTIAL", "AUTH"];

/// A server, and how it is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct McpServer {
    pub name: String,
    pub transport: Transport,
    pub is_enabled: bool,
    /// How long one call may take, where its owner says so.
    pub timeout: Option<Duration>,
}

/// How a server is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transport {
    /// A process in the environment's container.
    Stdio { command: String, args: Vec<String>, env: BTreeMap<String, String> },
    /// Streamable HTTP, from the server's side.
    Http(Remote),
    /// HTTP with server-sent events, as of the revision 2024-11-05.
    Sse(Remote),
}

/// A server somewhere on the network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remote {
    pub url: String,
    pub bearer_token: Option<String>,
    pub headers: BTreeMap<String, String>,
    /// What is known to whoever gives tokens for it; without, a client is registered there.
    pub client_id: Option<String>,
    pub client_secret: Option<String>,
}

impl Remote {
    /// Tells whether it is sent something by which it knows who asks.
    pub fn has_credentials(&self) -> bool {
        let has_header = self.headers.keys().any(|name| name.eq_ignore_ascii_case("authorization"));
        has_header || self.bearer_token.as_ref().is_some_and(|token| !token.is_empty())
    }
}

/// What is stored is no server.
#[derive(Debug, thiserror::Error)]
#[error("the MCP server {name:?} is not described as one: {why}")]
pub struct InvalidServer {
    pub name: String,
    why: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Stored {
    #[serde(rename = "type")]
    kind: Option<String>,
    name: String,
    command: Option<String>,
    #[serde(default)]
    args: Vec<String>,
    #[serde(default)]
    env: BTreeMap<String, String>,
    url: Option<String>,
    bearer_token: Option<String>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    client_id: Option<String>,
    client_secret: Option<String>,
    enabled: Option<bool>,
    timeout: Option<u64>,
}

impl McpServer {
    /// Reads a server from the shape in which it is stored.
    ///
    /// # Errors
    /// When it is not of that shape.
    pub fn parse(stored: &Value) -> Result<Self, InvalidServer> {
        let invalid = |why: String| InvalidServer {
            name: stored.get("name").and_then(Value::as_str).unwrap_or_default().to_owned(),
            why,
        };
        let read = Stored::deserialize(stored).map_err(|err| invalid(err.to_string()))?;
        let kind = read.kind.as_deref().unwrap_or(if read.url.is_some() { "http" } else { "stdio" });
        let remote = |url: Option<String>| {
            let url = url.ok_or_else(|| invalid("it has no url".into()))?;
            let (client_id, client_secret) = (read.client_id, read.client_secret);
            Ok(Remote { url, bearer_token: read.bearer_token, headers: read.headers, client_id, client_secret })
        };
        let transport = match kind {
            "stdio" => Transport::Stdio {
                command: read.command.ok_or_else(|| invalid("it has no command".into()))?,
                args: read.args,
                env: read.env,
            },
            "http" | "streamable-http" => Transport::Http(remote(read.url)?),
            "sse" => Transport::Sse(remote(read.url)?),
            other => return Err(invalid(format!("its type is {other:?}"))),
        };
        Ok(Self {
            name: read.name,
            transport,
            is_enabled: read.enabled.unwrap_or(true),
            timeout: read.timeout.map(Duration::from_millis),
        })
    }

    /// Gives the server with its variables filled in.
    ///
    /// # Errors
    /// When one is not set and has no default.
    pub fn with_variables<'a>(&self, find: impl Fn(&str) -> Option<&'a str>) -> Result<Self, MissingVariable> {
        let fill = |text: &String| fill_in(text, &find);
        let map = |values: &BTreeMap<String, String>| {
            values.iter().map(|(name, value)| Ok((name.clone(), fill(value)?))).collect::<Result<_, MissingVariable>>()
        };
        let remote = |remote: &Remote| {
            let bearer_token = remote.bearer_token.as_ref().map(fill).transpose()?;
            let client_id = remote.client_id.as_ref().map(fill).transpose()?;
            let client_secret = remote.client_secret.as_ref().map(fill).transpose()?;
            Ok(Remote {
                url: fill(&remote.url)?,
                bearer_token,
                headers: map(&remote.headers)?,
                client_id,
                client_secret,
            })
        };
        let transport = match &self.transport {
            Transport::Stdio { command, args, env } => Transport::Stdio {
                command: fill(command)?,
                args: args.iter().map(fill).collect::<Result<_, _>>()?,
                env: map(env)?,
            },
            Transport::Http(there) => Transport::Http(remote(there)?),
            Transport::Sse(there) => Transport::Sse(remote(there)?),
        };
        Ok(Self { transport, ..self.clone() })
    }

    /// Gives the values that must be in nothing that a tool gives.
    pub fn secrets(&self) -> Vec<&str> {
        match &self.transport {
            Transport::Stdio { env, .. } => {
                env.iter().filter(|(name, _)| is_secret(name)).map(|(_, value)| value.as_str()).collect()
            }
            Transport::Http(remote) | Transport::Sse(remote) => {
                let values = remote.headers.values().map(String::as_str);
                // `Bearer x`, `Basic x`: the second word by itself would be as good to whoever sees it.
                let words = values.clone().filter_map(|value| value.split_once(' ').map(|(_, word)| word));
                let ours = [&remote.bearer_token, &remote.client_secret].into_iter().filter_map(Option::as_deref);
                ours.chain(values).chain(words).collect()
            }
        }
    }
}

fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    SECRET_WORDS.iter().any(|word| name.contains(word))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn servers_are_read_as_they_are_stored() {
        let stdio =
            McpServer::parse(&json!({"name": "a", "command": "run", "args": ["-x"], "env": {"K": "v"}})).unwrap();
        let env = BTreeMap::from([("K".to_owned(), "v".to_owned())]);
        assert_eq!(stdio.transport, Transport::Stdio { command: "run".into(), args: vec!["-x".into()], env });
        assert!(stdio.is_enabled);
        let http = McpServer::parse(&json!({
            "name": "b", "url": "https://example.com/mcp", "bearerToken": "t", "enabled": false, "timeout": 1500,
        }));
        let http = http.unwrap();
        assert!(matches!(http.transport, Transport::Http(Remote { bearer_token: Some(_), .. })));
        assert!(!http.is_enabled && http.timeout == Some(Duration::from_millis(1500)));
        let sse = McpServer::parse(&json!({"type": "sse", "name": "c", "url": "https://example.com/sse"})).unwrap();
        assert!(matches!(sse.transport, Transport::Sse(_)));
        for broken in [
            json!({"name": "x"}),
            json!({"type": "pipe", "name": "x"}),
            json!("x"),
            json!({"type": "http", "name": "x"}),
        ] {
            assert!(McpServer::parse(&broken).is_err(), "{broken}");
        }
    }

    #[test]
    fn variables_come_from_those_of_the_run_alone() {
        let stored = json!({
            "name": "a", "url": "https://${HOST:-example.com}/mcp", "bearerToken": "${TOKEN}", "headers": {"X-A": "b ${HOST:-c}"},
        });
        let server = McpServer::parse(&stored).unwrap();
        let filled = server.with_variables(|name| (name == "TOKEN").then_some("t0ken")).unwrap();
        let Transport::Http(remote) = &filled.transport else { panic!("{filled:?}") };
        assert_eq!(remote.url, "https://example.com/mcp");
        assert_eq!(remote.bearer_token.as_deref(), Some("t0ken"));
        assert_eq!(filled.secrets(), ["t0ken", "b c", "c"]);
        // `PATH` is set for this process.
        let stored = json!({"name": "a", "command": "${PATH}"});
        let missing = McpServer::parse(&stored).unwrap().with_variables(|_| None).unwrap_err();
        assert_eq!(missing.to_string(), "the variable PATH is not set");
    }

    #[test]
    fn of_a_process_what_looks_like_a_secret_is_one() {
        let stored = json!({"name": "a", "command": "x", "env": {"API_TOKEN": "s3cret", "ROOT": "/workspace"}});
        assert_eq!(McpServer::parse(&stored).unwrap().secrets(), ["s3cret"]);
    }
}
