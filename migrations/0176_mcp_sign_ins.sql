-- Who is on the way to sign in to an MCP server. `state` is the SHA-256 of what comes back with them; what they began with
-- is sealed. `address` is the SHA-256 of how the server is reached: with variables filled in, a URL may hold secrets.
create table mcp_sign_ins (
    state bytea primary key,
    environment_id text not null references environments on delete cascade,
    server text not null,
    address bytea not null,
    sealed bytea not null,
    created_at timestamptz not null default now(),
    expires_at timestamptz not null
);
create index mcp_sign_ins_by_environment on mcp_sign_ins (environment_id, created_at);
create index mcp_sign_ins_by_expiry on mcp_sign_ins (expires_at);

-- The tokens of those who came back, sealed. They are of use for a server of this name at this address only.
create table mcp_tokens (
    environment_id text not null references environments on delete cascade,
    server text not null,
    address bytea not null,
    sealed bytea not null,
    signed_in_at timestamptz not null default now(),
    renewed_at timestamptz,
    -- Until when somebody is renewing them and others wait.
    renewing_until timestamptz,
    primary key (environment_id, server, address)
);
