-- What callers think of a thread. A caller is an API key: there are no persons here yet.
create table thread_ratings (
    thread_id text not null references threads on delete cascade,
    key_id text not null,
    rating text not null,
    rated_at timestamptz not null default now(),
    primary key (thread_id, key_id)
);

create table thread_reports (
    id text primary key,
    thread_id text not null references threads on delete cascade,
    key_id text not null,
    kind text not null,
    message text not null,
    metadata jsonb,
    created_at timestamptz not null default now()
);
create index thread_reports_by_thread on thread_reports (thread_id);
