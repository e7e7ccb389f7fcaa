//! What is secret of an environment's MCP servers: sealed where it stands, opened for its runs only.
//!
//! A server is kept in the shape in which it was sent, so a sealed value stands in the place of the value: an object with
//! one key, where whoever sends a server can only put a text. What an older release has kept as a text is read as it is,
//! and sealed when the environment is written the next time. The seal names the project and not the environment, as
//! environments of a project are made from each other.

use base64::{Engine, engine::general_purpose::STANDARD};
use domain::{
    ProjectId,
    environment::{Environment, EnvironmentSettings},
};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

use crate::{Error, Result, Store, seal::Sealer};

const SEALED: &str = "sealed";
const TEXTS: [&str; 2] = ["bearerToken", "clientSecret"];
/// Objects all of whose values are secret.
const MAPS: [&str; 2] = ["env", "headers"];

impl Store {
    /// Opens what is secret of an environment's MCP servers, for its runs.
    ///
    /// # Errors
    /// `Unreadable` when something was sealed with another key.
    pub fn open_mcp_servers(&self, environment: &Environment) -> Result<Vec<Value>> {
        let mut servers = environment.settings.mcp_servers.clone();
        each(&environment.project_id, &mut servers, &mut |place, value| {
            let Some(sealed) = value.get(SEALED).and_then(Value::as_str) else { return Ok(()) };
            let sealed = STANDARD.decode(sealed).map_err(Error::unreadable("a sealed secret"))?;
            *value = self.sealer.open(place, &sealed)?.expose_secret().into();
            Ok(())
        })?;
        Ok(servers)
    }
}

/// Seals what is not sealed yet.
pub(super) fn seal(sealer: &Sealer, project: &ProjectId, settings: &mut EnvironmentSettings) -> Result<()> {
    each(project, &mut settings.mcp_servers, &mut |place, value| {
        if let Some(text) = value.as_str() {
            let sealed = sealer.seal(place, &SecretString::from(text));
            *value = json!({ SEALED: STANDARD.encode(sealed) });
        }
        Ok(())
    })
}

/// Gives the names of servers that are not there any more, or at another address: who signed in to one did not sign in to
/// what has its name now.
pub(super) fn moved<'a>(before: &'a EnvironmentSettings, after: &EnvironmentSettings) -> Vec<&'a str> {
    let is_there = |server: &&Value| {
        let mut now = after.mcp_servers.iter();
        now.any(|other| other["name"] == server["name"] && other["url"] == server["url"])
    };
    let moved = before.mcp_servers.iter().filter(|server| !is_there(server));
    moved.filter_map(|server| server["name"].as_str()).collect()
}

/// Does something to each secret, with the place that it belongs to.
fn each(
    project: &ProjectId,
    servers: &mut [Value],
    work: &mut dyn FnMut(&str, &mut Value) -> Result<()>,
) -> Result<()> {
    for server in servers {
        // Each part in quotes, so that no two places are written alike.
        let place = |server: &Value, field: &str, key: &str| {
            json!([project.as_str(), "mcpServers", server["name"], field, key]).to_string()
        };
        for text in TEXTS {
            let of_text = place(server, text, "");
            if let Some(value) = server.get_mut(text) {
                work(&of_text, value)?;
            }
        }
        for map in MAPS {
            let keys: Vec<String> =
                server.get(map).and_then(Value::as_object).into_iter().flat_map(|map| map.keys().cloned()).collect();
            for key in keys {
                let of_value = place(server, map, &key);
                work(&of_value, &mut server[map][&key])?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_secret_is_sealed_once_and_in_its_place() {
        let sealer = Sealer::new(&[7; 32]);
        let project: ProjectId = ProjectId::generate();
        let servers = vec![
            json!({"name": "docs", "url": "https://example.com", "bearerToken": "canary-1", "headers": {"X-Key": "canary-2"}}),
            json!({"name": "local", "command": "run", "args": ["-x"], "env": {"TOKEN": "canary-3"}, "enabled": null}),
            json!("nonsense"),
        ];
        let mut settings = EnvironmentSettings { mcp_servers: servers, ..EnvironmentSettings::default() };
        seal(&sealer, &project, &mut settings).expect("seals");
        let sealed = json!(settings.mcp_servers).to_string();
        assert!(!sealed.contains("canary") && sealed.contains("https://example.com"), "{sealed}");
        seal(&sealer, &project, &mut settings).expect("leaves it");
        assert_eq!(json!(settings.mcp_servers).to_string(), sealed);
    }
}
