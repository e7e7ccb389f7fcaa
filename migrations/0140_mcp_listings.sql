-- What the MCP servers of an environment have, as they said last: known to a run before its servers are there. `hash` is
-- that of how the server is reached, without any value that may be a secret.
create table mcp_listings (
    environment_id text not null references environments on delete cascade,
    hash bytea not null,
    listing text not null,
    listed_at timestamptz not null default now(),
    primary key (environment_id, hash)
);
