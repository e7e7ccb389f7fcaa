-- What fills a thread's context window: which model call saw which part of the transcript, and questions beside it.

-- `kind`: reply (of a run's loop) or compaction (the summary was written). `position`: the transcript's newest entry when
-- the call was done; how full the window is follows from the newest reply, if nothing was compacted after it.
alter table turns add column kind text not null default 'reply';
alter table turns add column position bigint not null default 0;

-- Transcript entries of the roles `compaction` and `clear` replace, for the model, everything before them.
create index transcript_markers on transcript (thread_id, position) where role in ('compaction', 'clear');

-- Questions about a thread, answered from its transcript while its run goes on and never part of it.
create table side_questions (
    id text primary key,
    thread_id text not null references threads on delete cascade,
    project_id text not null references projects,
    prompt text not null,
    status text not null,
    answer text,
    -- Why there is none: a word and a sentence.
    error_code text,
    error text,
    attempt integer not null default 0,
    lease_token uuid,
    lease_until timestamptz,
    model text,
    input_tokens bigint not null default 0,
    output_tokens bigint not null default 0,
    cache_read_tokens bigint not null default 0,
    cache_write_tokens bigint not null default 0,
    cost_micro_usd bigint not null default 0,
    created_at timestamptz not null default now(),
    completed_at timestamptz
);
create index side_questions_claimable on side_questions (created_at) where status in ('queued', 'running');
create index side_questions_by_thread on side_questions (thread_id, created_at);
