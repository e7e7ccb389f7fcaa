//! MCP servers as clients send them, with an environment or with a message: one check for both.

use domain::mcp::{MAX_SERVERS, SEALED_KEY, fill_in};
use secrecy::SecretString;
use serde_json::{Map, Value, json};
use store::runs::NewRun;

use crate::{Api, check::Fields, environments};

/// The longest that a call may be let go on in silence, in milliseconds.
const MAX_TIMEOUT_MS: u64 = 24 * 3600 * 1000;

const MAX_TEXT_BYTES: usize = 64 * 1024;

/// Where messages carry their servers among what is stored for their run.
pub(crate) const FIELD: &str = "mcpServers";

/// Seals the servers of a message for its run; what is stored beside it shows no value that may be a secret.
pub(crate) fn seal(api: &Api, run: &mut NewRun) {
    let Some(Value::Array(servers)) = run.options.stored.get_mut(FIELD) else { return };
    let text = Value::Array(servers.clone()).to_string();
    *servers = std::mem::take(servers).into_iter().map(environments::mask_server).collect();
    let id = run.id.get_or_insert_with(domain::RunId::generate);
    run.secrets.extend(api.store.seal_run_secrets(id, &[(SEALED_KEY.to_owned(), SecretString::from(text))]));
}

/// Checks MCP servers and gives each its `type` where it can be told from the rest.
pub(crate) fn check(fields: &mut Fields, mut servers: Vec<Value>) -> Vec<Value> {
    if servers.len() > MAX_SERVERS {
        fields.refuse("mcpServers", format!("must have at most {MAX_SERVERS} items"));
        return servers;
    }
    let mut names: Vec<String> = Vec::new();
    for (index, server) in servers.iter_mut().enumerate() {
        let at = |name: &str| format!("mcpServers[{index}].{name}");
        let Value::Object(server) = server else {
            fields.refuse(format!("mcpServers[{index}]"), "must be an object");
            continue;
        };
        server.retain(|_, value| !value.is_null());
        match server.get("name") {
            Some(Value::String(name)) if names.contains(name) => {
                fields.refuse(at("name"), format!("'{name}' is there twice"))
            }
            Some(Value::String(name)) if (1..=255).contains(&name.len()) => names.push(name.clone()),
            _ => fields.refuse(at("name"), "must be a string of 1 to 255 characters"),
        }
        if !server.contains_key("type") {
            let kind = if server.contains_key("url") { "http" } else { "stdio" };
            server.insert("type".into(), json!(kind));
        }
        let text = |name: &str| server.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
        match server.get("type").and_then(Value::as_str) {
            Some("stdio") if text("command").is_none() => {
                fields.refuse(at("command"), "is required for the type stdio")
            }
            Some("stdio") => {}
            Some(kind @ ("http" | "streamable-http" | "sse")) => {
                if !text("url").is_some_and(is_url) {
                    fields.refuse(at("url"), format!("must be an http or https URL for the type {kind}"));
                }
            }
            _ => fields.refuse(at("type"), "must be stdio, http or sse"),
        }
        if Value::Object(server.clone()).to_string().len() > MAX_TEXT_BYTES {
            fields.refuse(format!("mcpServers[{index}]"), format!("must have at most {MAX_TEXT_BYTES} bytes"));
        }
        for (name, is_right, what) in [
            ("args", is_texts as fn(&Value) -> bool, "an array of strings"),
            ("env", is_text_map, "an object of strings"),
            ("headers", is_headers, "an object of strings, by the names of headers"),
            ("timeout", is_timeout, "a whole number of milliseconds, at least 1 and at most a day"),
            ("bearerToken", Value::is_string, "a string"),
            ("clientId", Value::is_string, "a string"),
            ("clientSecret", Value::is_string, "a string"),
            ("enabled", Value::is_boolean, "a boolean"),
        ] {
            if server.get(name).is_some_and(|value| !is_right(value)) {
                fields.refuse(at(name), format!("must be {what}"));
            }
        }
    }
    servers
}

/// A variable may be part of it, or all of it: what comes of that is checked again before it is reached.
fn is_url(text: &str) -> bool {
    let filled = fill_in(text, |_| None).or_else(|_| fill_in(text, |_| Some("x")));
    let is_variable = text.trim_start().starts_with("${");
    let url = filled.ok().and_then(|text| url::Url::parse(&text).ok());
    is_variable || url.is_some_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
}

fn is_headers(value: &Value) -> bool {
    let is_name = |name: &str| {
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
    };
    is_text_map(value) && value.as_object().is_some_and(|map: &Map<_, _>| map.keys().all(|name| is_name(name)))
}

fn is_timeout(value: &Value) -> bool {
    value.as_u64().is_some_and(|timeout| (1..=MAX_TIMEOUT_MS).contains(&timeout))
}

fn is_texts(value: &Value) -> bool {
    value.as_array().is_some_and(|items| items.iter().all(Value::is_string))
}

fn is_text_map(value: &Value) -> bool {
    value.as_object().is_some_and(|map| map.values().all(Value::is_string))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_server_is_refused_by_its_field() {
        let http = |fields: Value| {
            let mut server = json!({"type": "http", "name": "a", "url": "https://example.com"});
            server.as_object_mut().expect("an object").extend(fields.as_object().cloned().expect("an object"));
            server
        };
        for (server, expected) in [
            (http(json!({})), None),
            (http(json!({"url": "https://${HOST}/mcp", "timeout": 500, "headers": {"X-A": "${B}"}})), None),
            (http(json!({"url": "${URL}", "type": "sse"})), None),
            (json!({"name": "a", "command": "x", "env": {"A": "1"}, "args": []}), None),
            (http(json!({"url": "ftp://example.com"})), Some("url")),
            (http(json!({"url": "https://"})), Some("url")),
            (http(json!({"type": "ws"})), Some("type")),
            (http(json!({"headers": {"a b": "x"}})), Some("headers")),
            (http(json!({"headers": {"A": 1}})), Some("headers")),
            (http(json!({"timeout": 0})), Some("timeout")),
            (http(json!({"timeout": "1s"})), Some("timeout")),
            (http(json!({"enabled": "yes"})), Some("enabled")),
            (http(json!({"name": ""})), Some("name")),
            (json!({"name": "a"}), Some("command")),
        ] {
            let mut fields = Fields::default();
            check(&mut fields, vec![server.clone()]);
            let refused = fields.finish().err().map(|err| err.to_string());
            match expected {
                None => assert_eq!(refused, None, "{server}"),
                Some(field) => {
                    let refused = refused.expect("is refused");
                    assert!(refused.contains(&format!("mcpServers[0].{field}")), "{server}: {refused}");
                }
            }
        }
        let mut fields = Fields::default();
        check(&mut fields, vec![json!({"name": "a", "command": "x".repeat(70_000)})]);
        assert!(fields.finish().is_err());
    }
}
