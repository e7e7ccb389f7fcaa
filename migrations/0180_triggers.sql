-- Work that starts when somebody else tells of an event, by a signed webhook. The trigger's row lock orders what comes for
-- it; an execution is unique per trigger and delivery, so that what is told twice is done once.
create table triggers (
    id text primary key,
    project_id text not null references projects,
    name text not null,
    environment_id text not null,
    agent_id text,
    source text not null,
    event text not null,
    filters jsonb not null,
    action jsonb not null,
    enabled boolean not null,
    -- What its senders sign with, sealed.
    secret bytea not null,
    last_triggered_at timestamptz,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    deleted_at timestamptz
);
create index triggers_by_project on triggers (project_id, created_at);

create table trigger_executions (
    id text primary key,
    trigger_id text not null references triggers on delete cascade,
    project_id text not null references projects,
    is_test boolean not null,
    -- What the sender calls this telling; none where it has no name for it.
    delivery_id text,
    -- Of the body, for senders without names: the same again within minutes is a repetition.
    body_hash bytea not null,
    event text,
    payload jsonb not null,
    -- started or failed (it could not start). How a started one goes is its run's.
    state text not null,
    thread_id text references threads on delete set null,
    run_id text references runs on delete set null,
    error text,
    created_at timestamptz not null default now()
);
create unique index trigger_executions_once on trigger_executions (trigger_id, delivery_id) where not is_test;
create index trigger_executions_by_trigger on trigger_executions (trigger_id, created_at);
-- From a run or thread that is deleted to its execution.
create index trigger_executions_by_run on trigger_executions (run_id);
create index trigger_executions_by_thread on trigger_executions (thread_id);
