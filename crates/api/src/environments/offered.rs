//! What a workspace's `.mcp.json` offers: shown, so that somebody can take it over, and never started by itself.
//!
//! Whoever can write files there could otherwise have programs started and addresses called in the name of whoever sends
//! the next message. It is read as data of a stranger: a part that is no server is left out, and what may be a secret
//! is masked.

use axum::{Json, extract::State};
use domain::{EnvironmentId, WorkspacePath};
use serde::Serialize;
use serde_json::{Map, Value};
use tokio::io::AsyncReadExt;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{McpServer, find, servers};
use crate::{Api, Error, Result, auth::Caller, check::Fields, mcp, path::Path};

const FILE: &str = ".mcp.json";

/// The most that is read of it, in bytes.
const MAX_BYTES: u64 = 256 * 1024;

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(list_mcp_servers))
}

/// The MCP servers of an environment, and those that its files offer.
#[derive(Debug, Serialize, ToSchema)]
struct McpServers {
    /// Those that runs here use.
    #[schema(value_type = Vec<McpServer>)]
    data: Vec<Value>,
    /// Those in the workspace's `.mcp.json`. Runs do not use them: put one into `mcpServers` to have it used.
    #[schema(value_type = Vec<McpServer>)]
    offered: Vec<Value>,
}

/// Lists the MCP servers of an environment, and those that the file `.mcp.json` of its workspace offers.
#[utoipa::path(get, path = "/environments/{id}/mcp-servers", tag = "environments",
    params(("id" = String, Path, description = "The environment's id")),
    responses((status = 200, description = "The servers, without what may be a secret", body = McpServers)))]
async fn list_mcp_servers(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<EnvironmentId>,
) -> Result<Json<McpServers>> {
    let environment = find(&api, &caller, &id).await?;
    let data = environment.settings.mcp_servers.into_iter().map(servers::mask).collect();
    let offered = read(&api, &id).await?.map(|text| offered(&text)).unwrap_or_default();
    Ok(Json(McpServers { data, offered }))
}

/// Reads the file; `None` if there is none that can be read.
async fn read(api: &Api, id: &EnvironmentId) -> Result<Option<Vec<u8>>> {
    let (sandboxes, id) = (api.sandboxes.clone(), id.clone());
    let workspace = tokio::task::spawn_blocking(move || sandboxes.workspace(&id)).await.map_err(Error::internal)??;
    let path = WorkspacePath::parse(FILE).map_err(Error::internal)?;
    let Ok(open) = workspace.open_file(&path).await else { return Ok(None) };
    let mut text = Vec::new();
    let read = open.file.take(MAX_BYTES).read_to_end(&mut text).await;
    Ok(read.is_ok().then_some(text))
}

/// Gives the servers that a file offers, as an environment would have them.
fn offered(text: &[u8]) -> Vec<Value> {
    let file: Value = serde_json::from_slice(text).unwrap_or_default();
    let named = file.get("mcpServers").and_then(Value::as_object).into_iter().flatten();
    let named = named.filter_map(|(name, server)| {
        let mut fields = Map::from_iter([("name".to_owned(), Value::from(name.as_str()))]);
        fields
            .extend(server.as_object()?.iter().filter(|(key, _)| *key != "name").map(|(k, v)| (k.clone(), v.clone())));
        let mut problems = Fields::default();
        let server = mcp::check(&mut problems, vec![Value::Object(fields)]).pop()?;
        problems.finish().is_ok().then_some(server)
    });
    named.take(domain::mcp::MAX_SERVERS).map(servers::mask).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_file_offers_is_shown_as_far_as_it_makes_sense_and_without_secrets() {
        let file = json!({"mcpServers": {
            "files": {"command": "npx", "args": ["-y", "x"], "env": {"TOKEN": "canary"}, "name": "other"},
            "docs": {"type": "http", "url": "https://example.com/mcp", "headers": {"Authorization": "canary"}},
            "none": {"type": "http"},
            "silly": 1,
        }});
        let shown = offered(file.to_string().as_bytes());
        assert!(!json!(shown).to_string().contains("canary"));
        let names: Vec<_> = shown.iter().map(|server| (&server["name"], &server["type"])).collect();
        assert_eq!(names, [(&json!("files"), &json!("stdio")), (&json!("docs"), &json!("http"))]);
        for nonsense in [&b""[..], b"{", b"[]", br#"{"mcpServers": []}"#, b"\xff\x00"] {
            assert!(offered(nonsense).is_empty());
        }
    }
}
