-- Organizations own projects. What was there before belongs to the first one, which every installation has.
create table organizations (
    id text primary key,
    name text not null,
    created_at timestamptz not null default now()
);
insert into organizations (id, name) values ('org_default', 'Default');

alter table projects
    add column organization_id text not null default 'org_default' references organizations,
    add column description text,
    -- cloud, local or synced, as clients call them.
    add column kind text not null default 'cloud',
    -- What clients keep with it and nobody here reads.
    add column stored jsonb not null default '{}',
    add column updated_at timestamptz not null default now(),
    -- From then on its keys open nothing.
    add column deleted_at timestamptz;
create index projects_by_organization on projects (organization_id, created_at) where deleted_at is null;
