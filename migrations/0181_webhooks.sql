-- What an installation tells others of, by requests to URLs of theirs. A delivery is written in the transaction that makes
-- true what it tells of, and stays until somebody took it or its time was over; any server may send it.
create table webhooks (
    id text primary key,
    project_id text not null references projects,
    url text not null,
    description text,
    -- What is told; * is everything.
    events text[] not null,
    enabled boolean not null,
    -- Why it was switched off by itself.
    disabled_reason text,
    -- What deliveries are signed with, sealed; the one before too, for as long as both hold.
    secret bytea not null,
    old_secret bytea,
    old_secret_until timestamptz,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    deleted_at timestamptz
);
create index webhooks_by_project on webhooks (project_id, created_at) where deleted_at is null;

create table webhook_deliveries (
    -- The same at each try: receivers know by it what they have already.
    id text primary key,
    webhook_id text not null references webhooks on delete cascade,
    project_id text not null references projects,
    event text not null,
    -- As it is sent, byte for byte.
    payload text not null,
    -- pending, delivered or failed (nobody took it in time).
    state text not null default 'pending',
    -- Tries begun. It stands in each write of a try's result, so that a try of a server that was too slow writes nothing.
    attempts integer not null default 0,
    -- The next try; while one is under way, when it is given up for dead.
    next_attempt_at timestamptz not null default now(),
    -- From here on the time counts that there is for it.
    queued_at timestamptz not null default now(),
    last_status integer,
    last_error text,
    created_at timestamptz not null default now(),
    completed_at timestamptz
);
create index webhook_deliveries_due on webhook_deliveries (next_attempt_at) where state = 'pending';
create index webhook_deliveries_by_webhook on webhook_deliveries (webhook_id, created_at);
create index webhook_deliveries_over on webhook_deliveries (completed_at) where state <> 'pending';
