-- What callers call a run and keep on it. A run without a row is called after its thread.
create table run_labels (
    run_id text primary key references runs on delete cascade,
    name text,
    agent_name text,
    title text,
    metadata jsonb,
    -- Labels that only the caller understands.
    stored jsonb not null default '{}',
    updated_at timestamptz not null default now(),
    -- It is no longer listed; what it did and cost stays.
    deleted_at timestamptz
);

-- A line that was added for one run is among that run's lines.
alter table thread_logs add column run_id text references runs on delete cascade;

create index runs_by_project on runs (project_id, queued_at desc, id desc) where parent_run_id is null;
