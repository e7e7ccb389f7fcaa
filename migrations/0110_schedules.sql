-- Work that starts by itself. A schedule's next moment is a column, so that due ones are an index scan and a row lock
-- decides which server fires one; an execution is unique per schedule and moment, so that nothing fires twice.
create table schedules (
    id text primary key,
    project_id text not null references projects,
    name text not null,
    description text,
    agent_id text,
    environment_id text,
    task text not null,
    -- Five fields of cron, or null for one that fires once at `scheduled_time`.
    cron text,
    scheduled_time timestamptz,
    -- IANA name.
    timezone text not null,
    enabled boolean not null,
    -- Why it was switched off by itself.
    paused_reason text,
    -- After this moment failures count anew: when it was made, enabled or changed.
    counted_from timestamptz not null default now(),
    missed text not null,
    overlap text not null,
    next_run_at timestamptz,
    -- What clients keep with it and nobody here reads.
    stored jsonb not null,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    deleted_at timestamptz,
    constraint schedules_one_timing check ((cron is null) <> (scheduled_time is null))
);
create index schedules_by_project on schedules (project_id, created_at);
create index schedules_due on schedules (next_run_at) where enabled and deleted_at is null;

create table schedule_executions (
    id text primary key,
    schedule_id text not null references schedules on delete cascade,
    project_id text not null references projects,
    is_manual boolean not null,
    scheduled_for timestamptz not null,
    -- waiting (for the run before it), started, skipped or failed (it could not start). How a started one goes is its run's.
    state text not null,
    thread_id text references threads on delete set null,
    run_id text references runs on delete set null,
    claimed_by text not null,
    error text,
    created_at timestamptz not null default now(),
    started_at timestamptz
);
create unique index schedule_executions_once on schedule_executions (schedule_id, scheduled_for) where not is_manual;
create index schedule_executions_by_schedule on schedule_executions (schedule_id, scheduled_for);
create index schedule_executions_by_project on schedule_executions (project_id, scheduled_for);
create index schedule_executions_waiting on schedule_executions (schedule_id, scheduled_for) where state = 'waiting';
