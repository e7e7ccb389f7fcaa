//! What MCP servers' tools were when they were allowed: a rule allows a tool as it was, not what it becomes.

use domain::EnvironmentId;
use sha2::{Digest, Sha256};
use sqlx::Row;

use super::hash;
use crate::{Result, Store};

/// A tool as a server offers it now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OfferedTool {
    /// How its server is reached.
    pub fingerprint: String,
    /// By the server's own name.
    pub tool: String,
    /// All that the model is told of it.
    pub definition: String,
}

impl OfferedTool {
    /// Gives some digits that tell this definition from others of the tool.
    pub fn digits(&self) -> String {
        Sha256::digest(self.definition.as_bytes())[..6].iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The database takes no NUL.
    fn name(&self) -> String {
        self.tool.replace('\0', "\u{fffd}")
    }
}

impl Store {
    /// Tells of tools that are allowed by rules whether each is what it was when it was allowed, in their order. Of one that
    /// is seen for the first time that is now.
    pub async fn compare_mcp_tools(&self, environment: &EnvironmentId, offered: &[OfferedTool]) -> Result<Vec<bool>> {
        let servers: Vec<_> = offered.iter().map(|tool| hash(&tool.fingerprint)).collect();
        let names: Vec<_> = offered.iter().map(OfferedTool::name).collect();
        let definitions: Vec<_> = offered.iter().map(|tool| hash(&tool.definition)).collect();
        let rows = sqlx::query(
            "-- compare_mcp_tools
             with offered as (
                 select * from unnest($2::bytea[], $3::text[], $4::bytea[])
                 with ordinality as o(server, tool, definition, n)
             ), first_seen as (
                 insert into mcp_approvals (environment_id, server, tool, definition)
                 select distinct on (o.server, o.tool) e.id, o.server, o.tool, o.definition
                 from offered o join environments e on e.id = $1
                 on conflict (environment_id, server, tool) do nothing
             )
             select coalesce(a.definition = o.definition, true) as is_same
             from offered o
             left join mcp_approvals a on a.environment_id = $1 and a.server = o.server and a.tool = o.tool
             order by o.n",
        )
        .bind(environment.as_str())
        .bind(servers)
        .bind(names)
        .bind(definitions)
        .fetch_all(&self.pool)
        .await?;
        rows.iter().map(|row| Ok(row.try_get("is_same")?)).collect()
    }

    /// Somebody has allowed a tool as it is now.
    pub async fn approve_mcp_tool(&self, environment: &EnvironmentId, offered: &OfferedTool) -> Result<()> {
        sqlx::query(
            "-- approve_mcp_tool
             insert into mcp_approvals (environment_id, server, tool, definition)
             select id, $2, $3, $4 from environments where id = $1
             on conflict (environment_id, server, tool) do update
             set definition = excluded.definition, approved_at = excluded.approved_at",
        )
        .bind(environment.as_str())
        .bind(hash(&offered.fingerprint))
        .bind(offered.name())
        .bind(hash(&offered.definition))
        .execute(&self.pool)
        .await?;
        Ok(())
    }
}
