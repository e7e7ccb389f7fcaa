-- What model calls cost. One line for each, which stays when its thread is deleted: costs and budgets are read from here.
create table charges (
    id bigint generated always as identity primary key,
    at timestamptz not null default now(),
    project_id text not null,
    thread_id text not null,
    -- None for side questions and titles.
    run_id text,
    environment_id text,
    agent_id text,
    -- The key that asked; none for schedules, and for what was done before keys were noted.
    key_id text,
    -- reply, compaction, side_question, title; or tool: what a search engine or the like took, without a model.
    kind text not null,
    model text,
    input_tokens bigint not null,
    output_tokens bigint not null,
    cache_read_tokens bigint not null,
    cache_write_tokens bigint not null,
    cost_micro_usd bigint not null
);
create index charges_by_project on charges (project_id, at);
create index charges_by_thread on charges (thread_id);

insert into charges (at, project_id, thread_id, run_id, environment_id, agent_id, kind, model, input_tokens, output_tokens,
    cache_read_tokens, cache_write_tokens, cost_micro_usd)
select u.created_at, r.project_id, r.thread_id, r.id, t.environment_id, t.agent_id, u.kind, u.model, u.input_tokens,
    u.output_tokens, u.cache_read_tokens, u.cache_write_tokens, u.cost_micro_usd
from turns u join runs r on r.id = u.run_id join threads t on t.id = r.thread_id
union all
select coalesce(q.completed_at, q.created_at), q.project_id, q.thread_id, null, t.environment_id, t.agent_id,
    'side_question', q.model, q.input_tokens, q.output_tokens, q.cache_read_tokens, q.cache_write_tokens,
    q.cost_micro_usd
from side_questions q join threads t on t.id = q.thread_id
where q.model is not null;

alter table side_questions add column key_id text;

-- The same by the day, so that looking whether a budget is used up is a few rows whatever was done before. Written in the
-- statement that writes the charge. `subject` is the project, a key or an agent; a project's id is empty, it is `project_id`.
create table spending (
    project_id text not null,
    subject text not null,
    subject_id text not null,
    day date not null,
    cost_micro_usd bigint not null,
    primary key (project_id, subject, subject_id, day)
);
insert into spending (project_id, subject, subject_id, day, cost_micro_usd)
select project_id, s.subject, s.id, (at at time zone 'utc')::date, sum(cost_micro_usd)
from charges, lateral (values ('project', ''), ('agent', agent_id)) as s(subject, id)
where s.id is not null
group by 1, 2, 3, 4;

-- What may be spent.
create table budgets (
    project_id text not null references projects,
    subject text not null check (subject in ('project', 'key', 'agent')),
    subject_id text not null,
    -- By the day, by the month (UTC), or in all.
    period text not null check (period in ('day', 'month', 'total')),
    limit_micro_usd bigint not null check (limit_micro_usd >= 0),
    updated_at timestamptz not null default now(),
    primary key (project_id, subject, subject_id, period)
);

-- Money that was added to what a project may spend in all.
create table top_ups (
    id text primary key,
    project_id text not null references projects,
    amount_micro_usd bigint not null check (amount_micro_usd > 0),
    description text,
    key_id text,
    created_at timestamptz not null default now()
);
create index top_ups_by_project on top_ups (project_id, created_at);
