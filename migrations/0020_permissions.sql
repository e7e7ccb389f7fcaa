-- Tool calls that somebody must allow before they are made. A run with open ones is `waiting` and no worker holds it.

alter table runs
    -- Changes under the run's row lock, so that a worker about to park and somebody deciding the last one see each other.
    add column open_requests integer not null default 0;

create table permission_requests (
    id text primary key,
    thread_id text not null references threads on delete cascade,
    project_id text not null references projects,
    run_id text not null references runs on delete cascade,
    call_id text not null,
    tool text not null,
    -- As the model wrote it, byte for byte.
    input text not null,
    -- What says that the call is asked about.
    rule text not null,
    -- The transcript's entry that answers the call if the run is stopped first: whoever stops it knows no model's JSON.
    unanswered text not null,
    created_at timestamptz not null default now(),
    expires_at timestamptz not null,
    -- allow or deny; written once.
    decision text,
    -- user, expiry or cancel.
    decided_by text,
    decided_at timestamptz,
    reason text,
    -- What the call is made with instead.
    updated_input text,
    -- The decision was acted upon: the call began, or the model was told that it was not made. What was begun once is never
    -- begun again.
    taken_at timestamptz,
    constraint permission_requests_decided check (num_nonnulls(decision, decided_by, decided_at) in (0, 3))
);
create index permission_requests_open on permission_requests (thread_id, id) where decided_at is null;
create index permission_requests_by_expiry on permission_requests (expires_at) where decided_at is null;
create index permission_requests_by_run on permission_requests (run_id, id);
