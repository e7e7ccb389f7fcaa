-- What the tools of an environment's MCP servers were when rules first allowed them, or when somebody last allowed them
-- anew. `server` is the hash of how the server is reached, as in mcp_listings; `definition` that of name, description and
-- input. A tool that is another by now is asked about.
create table mcp_approvals (
    environment_id text not null references environments on delete cascade,
    server bytea not null,
    tool text not null,
    definition bytea not null,
    approved_at timestamptz not null default now(),
    primary key (environment_id, server, tool)
);
