-- Lines that callers add to a thread's log, for work that happened outside of its runs. What runs did is in `events`.
create table thread_logs (
    thread_id text not null references threads on delete cascade,
    number bigint not null,
    -- The thread's newest event when the line came: its place among them.
    after_sequence bigint not null,
    entry jsonb not null,
    created_at timestamptz not null default now(),
    primary key (thread_id, number)
);
