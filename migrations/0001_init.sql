-- The first shape of the database. Invariants that the code relies on are constraints here; the names of constraints
-- are part of the code (store::error maps them to errors a client can act on).
--
-- Lock order, everywhere: runs, then threads, then the rest.

create table projects (
    id text primary key,
    name text not null,
    created_at timestamptz not null default now()
);

-- A key is stored only as the SHA-256 of its text: it is 256 random bits, so no slow hash is needed.
create table api_keys (
    id text primary key,
    project_id text not null references projects,
    name text not null,
    prefix text not null,
    hash bytea not null constraint api_keys_hash unique,
    created_at timestamptz not null default now(),
    last_used_at timestamptz,
    expires_at timestamptz,
    revoked_at timestamptz
);

create table agents (
    project_id text not null references projects,
    id text not null,
    name text not null,
    model text not null,
    settings jsonb not null,
    is_default boolean not null default false,
    is_system boolean not null default false,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    last_run_at timestamptz,
    deleted_at timestamptz,
    constraint agents_pkey primary key (project_id, id)
);
create unique index agents_one_default on agents (project_id) where is_default and deleted_at is null;

create table environments (
    id text primary key,
    project_id text not null references projects,
    name text not null,
    settings jsonb not null,
    is_default boolean not null default false,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    deleted_at timestamptz
);
create unique index environments_one_default on environments (project_id) where is_default and deleted_at is null;
create index environments_by_project on environments (project_id, created_at) where deleted_at is null;

-- Sealed with a key that is not in the database.
create table environment_secrets (
    environment_id text not null references environments on delete cascade,
    key text not null,
    sealed bytea not null,
    created_at timestamptz not null default now(),
    primary key (environment_id, key)
);

create table threads (
    id text primary key,
    project_id text not null references projects,
    environment_id text not null references environments,
    agent_id text,
    app_id text,
    title text,
    task text,
    status text not null default 'active',
    metadata jsonb,
    message_count bigint not null default 0,
    last_message_at timestamptz,
    last_message_preview text,
    -- The numbers of the newest event and of the newest transcript entry; given under this row's lock, so that what
    -- has a number becomes visible in order.
    last_sequence bigint not null default 0,
    last_position bigint not null default 0,
    input_tokens bigint not null default 0,
    output_tokens bigint not null default 0,
    cache_read_tokens bigint not null default 0,
    cache_write_tokens bigint not null default 0,
    cost_micro_usd bigint not null default 0,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    started_at timestamptz,
    completed_at timestamptz,
    deleted_at timestamptz
);
create index threads_by_project on threads (project_id, created_at desc) where deleted_at is null;

create table messages (
    id text primary key,
    thread_id text not null references threads on delete cascade,
    position bigint not null,
    role text not null,
    content text not null,
    run_id text,
    metadata jsonb,
    input_tokens bigint,
    output_tokens bigint,
    duration_ms bigint,
    actions_count bigint,
    created_at timestamptz not null default now(),
    constraint messages_position unique (thread_id, position)
);

create table runs (
    id text primary key,
    thread_id text not null references threads on delete cascade,
    project_id text not null references projects,
    message_id text,
    status text not null,
    options jsonb not null,
    attempt integer not null default 0,
    -- Claims since the last reply; a run that only ever kills its workers must end some time.
    fruitless_attempts integer not null default 0,
    -- Its first event is the one after this number.
    after_sequence bigint not null,
    -- Who may write its progress, and until when without renewing.
    lease_token uuid,
    lease_node text,
    lease_until timestamptz,
    -- Checkpoints written; each names the number it expects, so none is written twice.
    checkpoints bigint not null default 0,
    cancel_requested_at timestamptz,
    outcome jsonb,
    input_tokens bigint not null default 0,
    output_tokens bigint not null default 0,
    cache_read_tokens bigint not null default 0,
    cache_write_tokens bigint not null default 0,
    cost_micro_usd bigint not null default 0,
    turns integer not null default 0,
    calls integer not null default 0,
    queued_at timestamptz not null default now(),
    started_at timestamptz,
    completed_at timestamptz
);
-- Two messages at once: the second one meets this and is told that the thread is busy.
create unique index runs_one_active on runs (thread_id) where status in ('queued', 'running');
create index runs_claimable on runs (queued_at) where status in ('queued', 'running');
create index runs_by_thread on runs (thread_id, queued_at);

-- What the model sees, as it was sent or received: `blocks` is a JSON array kept byte for byte (text, not jsonb, which
-- would reorder keys and so break prompt caching and signed thinking).
create table transcript (
    thread_id text not null references threads on delete cascade,
    position bigint not null,
    run_id text not null,
    role text not null,
    blocks text not null,
    created_at timestamptz not null default now(),
    primary key (thread_id, position)
);

-- One row a model call: what it used and what it cost.
create table turns (
    run_id text not null references runs on delete cascade,
    number integer not null,
    model text not null,
    request_id text,
    stop_reason text not null,
    input_tokens bigint not null,
    output_tokens bigint not null,
    cache_read_tokens bigint not null,
    cache_write_tokens bigint not null,
    cost_micro_usd bigint not null,
    duration_ms bigint not null,
    created_at timestamptz not null default now(),
    primary key (run_id, number)
);

create table events (
    thread_id text not null references threads on delete cascade,
    sequence bigint not null,
    run_id text,
    event text not null,
    created_at timestamptz not null default now(),
    primary key (thread_id, sequence)
);

-- A retried POST finds what the first one did.
create table idempotency_keys (
    project_id text not null references projects,
    key text not null,
    request_hash bytea not null,
    thread_id text not null,
    run_id text,
    created_at timestamptz not null default now(),
    constraint idempotency_keys_pkey primary key (project_id, key)
);
