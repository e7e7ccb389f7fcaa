-- Ports of environments that whoever has the link may open. The link's token is kept as its SHA-256, as API keys are: it
-- is 256 random bits. A preview that is revoked has no row.
create table previews (
    id text primary key,
    environment_id text not null references environments on delete cascade,
    hash bytea not null,
    port integer not null check (port between 1 and 65535),
    name text,
    -- Whether what listens is told that it is called `localhost`.
    rewrites_host boolean not null,
    created_at timestamptz not null default now(),
    expires_at timestamptz not null
);
create index previews_by_environment on previews (environment_id, created_at);
create index previews_by_expiry on previews (expires_at);
