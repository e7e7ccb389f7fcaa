-- What an agent was: a version at each change, numbered from 0. A run notes the one it uses when it is first claimed.
create table agent_versions (
    id text primary key,
    project_id text not null,
    agent_id text not null,
    number integer not null,
    -- What people say of it.
    name text,
    description text,
    -- The agent itself, as it was.
    agent_name text not null,
    model text not null,
    settings jsonb not null,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    constraint agent_versions_number unique (project_id, agent_id, number),
    foreign key (project_id, agent_id) references agents on delete cascade
);

alter table agents
    -- What it is now.
    add column version_id text,
    -- What its runs use, where that is another one.
    add column published_version_id text,
    add column published_at timestamptz;
-- Stays when the version is gone: that it was used remains true.
alter table runs add column agent_version_id text;

insert into agent_versions (id, project_id, agent_id, number, agent_name, model, settings, created_at)
select 'agentver_' || replace(gen_random_uuid()::text, '-', ''), project_id, id, 0, name, model, settings, updated_at
from agents;
update agents a set version_id = v.id
from agent_versions v
where v.project_id = a.project_id and v.agent_id = a.id;
