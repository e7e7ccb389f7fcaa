-- Agents that a run calls. Each is a run of the same thread that is not claimed by itself: whoever drives the run that has
-- called it drives it too.

alter table runs
    -- The run whose call it answers, the call, and the run at the top of the tree.
    add column parent_run_id text references runs on delete cascade,
    add column parent_call_id text,
    add column root_run_id text references runs on delete cascade,
    add column depth integer not null default 0,
    -- Its call was answered at once; what it came to is told later.
    add column is_background boolean not null default false,
    -- What it came to has been told to the run that called it in the background.
    add column told_at timestamptz,
    -- It is `waiting` since all agents that it waits for are.
    add column waits_for_agents boolean not null default false,
    add constraint runs_subagent check (num_nonnulls(parent_run_id, parent_call_id, root_run_id) in (0, 3));

-- A call is answered by one run, however often it is taken up again.
create unique index runs_one_per_call on runs (parent_run_id, parent_call_id) where parent_run_id is not null;
create index runs_by_root on runs (root_run_id) where root_run_id is not null;

-- Of a thread's runs, one at most is neither held nor over, beside the agents that it has called.
drop index runs_one_active;
create unique index runs_one_active on runs (thread_id)
    where parent_run_id is null and status not in ('held', 'completed', 'failed', 'cancelled');

-- Whose entry or event it is: an agent's run, or (null) the thread's own.
alter table transcript add column branch text;
create index transcript_by_branch on transcript (branch, position) where branch is not null;
alter table events add column branch text;
create index events_by_branch on events (thread_id, branch, sequence) where branch is not null;
