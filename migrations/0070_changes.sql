-- The past of environments: when their files were what, and who changed them. What the files held is kept beside the
-- workspaces, by the name of the root directory (`tree`).

create table snapshots (
    id text primary key,
    environment_id text not null references environments on delete cascade,
    -- Each follows from the one before: whoever adds one names the number it expects, and of two only one is added.
    number bigint not null,
    parent_id text references snapshots on delete cascade,
    tree text not null,
    files bigint not null,
    directories bigint not null,
    bytes bigint not null,
    left_out bigint not null,
    created_at timestamptz not null default now(),
    constraint snapshots_number unique (environment_id, number),
    constraint snapshots_parent check ((parent_id is null) = (number = 1))
);

create table changes (
    id text primary key,
    environment_id text not null references environments on delete cascade,
    snapshot_id text not null references snapshots on delete cascade,
    before_id text not null references snapshots on delete cascade,
    source text not null,
    title text not null,
    thread_id text references threads on delete set null,
    run_id text,
    message_id text,
    agent_id text,
    key_id text,
    shared_with text[] not null default '{}',
    additions bigint not null,
    deletions bigint not null,
    -- All of them; the first are in `change_paths`.
    paths bigint not null,
    created_at timestamptz not null default now(),
    constraint changes_snapshot unique (snapshot_id)
);
create index changes_by_environment on changes (environment_id, created_at desc, id desc);

create table change_paths (
    change_id text not null references changes on delete cascade,
    position integer not null,
    path text not null,
    operation text not null,
    is_directory boolean not null,
    previous_path text,
    additions bigint not null,
    deletions bigint not null,
    size bigint,
    primary key (change_id, position)
);
-- Paths may be longer than what another kind of index takes.
create index change_paths_by_path on change_paths using hash (path);

-- A change seen from a thread. Copies of threads have steps of their own that lead to the same changes.
create table steps (
    id text primary key,
    thread_id text not null references threads on delete cascade,
    sequence bigint not null,
    change_id text not null references changes on delete cascade,
    created_at timestamptz not null default now(),
    constraint steps_sequence unique (thread_id, sequence)
);
create index steps_by_change on steps (change_id);

alter table threads
    -- The number of the newest step; given under this row's lock.
    add column last_step bigint not null default 0;
