-- What a run may use, why it ended, and what happens to a message that finds its thread busy.
--
-- Beside `queued` and `running` a run may be `held` (it waits behind another one of its thread) or `paused` (somebody
-- stopped it for a while). A thread has at most one run that is neither held nor over.

alter table runs
    -- Why it shall stop: 'user' where nothing is said, or 'interrupted' by another message.
    add column cancel_reason text,
    add column pause_requested_at timestamptz,
    add column parked_at timestamptz,
    -- Time that workers spent on it, without the times it was parked. Counted from mark to mark; checkpoints set marks.
    add column worked_ms bigint not null default 0,
    add column marked_at timestamptz,
    -- Its messages while it is held; they become the thread's when its turn comes.
    add column held_messages jsonb,
    -- Its place among the thread's held runs. May be negative: in front.
    add column place bigint,
    -- Notes for it that the model has not been given yet.
    add column steers integer not null default 0;

alter table threads
    -- Held runs. Changes under the thread's row lock, like the numbers of events.
    add column held integer not null default 0,
    -- Why the last run ended, as a word; null while one is under way.
    add column stop_reason text,
    -- What all runs of the thread together may use.
    add column limits jsonb;

drop index runs_one_active;
create unique index runs_one_active on runs (thread_id) where status not in ('held', 'completed', 'failed', 'cancelled');
create index runs_held on runs (thread_id, place) where status = 'held';
create index runs_by_project_under_way on runs (project_id) where status in ('queued', 'running');

-- Notes to a run under way. `taken_at` is set by the checkpoint that appends the note to the transcript.
create table steering (
    id text primary key,
    thread_id text not null references threads on delete cascade,
    run_id text not null references runs on delete cascade,
    mode text not null,
    content text not null,
    created_at timestamptz not null default now(),
    taken_at timestamptz
);
create index steering_open on steering (run_id, id) where taken_at is null;
