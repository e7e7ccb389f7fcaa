-- Deep research: a question that agents of a run answer from many pages. What its parts came to is in the rows of their runs;
-- what is here is how far it is, and which pages were really read.
create table research_sessions (
    id text primary key,
    project_id text not null references projects,
    thread_id text not null references threads on delete cascade,
    -- The run whose call it answers, and the call.
    run_id text not null references runs on delete cascade,
    call_id text not null,
    -- The attempt of that run which has taken it up last, and how often it was taken up again.
    attempt integer not null,
    resumes integer not null default 0,
    query text not null,
    model text not null,
    status text not null default 'running' check (status in ('running', 'completed', 'failed', 'cancelled')),
    phase text not null default 'planning',
    -- Of a hundred; it only grows, so that what is done twice is told once.
    progress integer not null default 0,
    questions jsonb not null default '[]',
    -- What was told of it: moment, phase, sentence.
    notes jsonb not null default '[]',
    report jsonb,
    error text,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    completed_at timestamptz,
    deleted_at timestamptz
);
-- A call is answered by one session, however often it is taken up again.
create unique index research_sessions_once on research_sessions (run_id, call_id);
create index research_sessions_by_thread on research_sessions (thread_id, created_at);

-- Pages that a session has come across. Only one that was fetched has a number, and only such a one is a source.
create table research_sources (
    session_id text not null references research_sessions on delete cascade,
    -- Where the page was in the end.
    url text not null,
    -- The addresses that led there.
    requested text[] not null default '{}',
    number integer,
    title text,
    -- BLAKE3 of the text that was read.
    hash text,
    fetched_at timestamptz,
    is_cited boolean not null default false,
    primary key (session_id, url),
    check (num_nonnulls(number, hash, fetched_at) in (0, 3))
);
create unique index research_sources_by_number on research_sources (session_id, number) where number is not null;
