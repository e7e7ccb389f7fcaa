-- Builds of images for environments. A build belongs to what it makes, named by a hash, and not to an environment: two
-- equal environments share one.
create table builds (
    id text primary key,
    hash text not null,
    image text not null,
    base text not null,
    dockerfile text not null,
    status text not null,
    error text,
    attempt integer not null default 0,
    -- Who may write its progress, and until when without renewing; as for runs.
    lease_token uuid,
    lease_node text,
    lease_until timestamptz,
    cancel_requested_at timestamptz,
    log_bytes bigint not null default 0,
    created_at timestamptz not null default now(),
    started_at timestamptz,
    completed_at timestamptz,
    -- When somebody last wanted its image; it may go when that is long ago.
    wanted_at timestamptz not null default now(),
    constraint builds_status check (status in ('queued', 'running', 'ready', 'failed', 'cancelled', 'removed'))
);
-- Two who want the same at once: one row is made, and both wait for it.
create unique index builds_one_under_way on builds (hash) where status in ('queued', 'running');
create index builds_by_hash on builds (hash, created_at);
create index builds_claimable on builds (created_at) where status in ('queued', 'running');

create table build_log (
    build_id text not null references builds on delete cascade,
    number bigint generated always as identity,
    text text not null,
    created_at timestamptz not null default now(),
    primary key (build_id, number)
);

-- The build that the settings asked for last (none after they have changed), and the last one that went well.
alter table environments add column build_id text references builds;
alter table environments add column image_build_id text references builds;
create index environments_by_build on environments (build_id) where build_id is not null;
create index environments_by_image_build on environments (image_build_id) where image_build_id is not null;
