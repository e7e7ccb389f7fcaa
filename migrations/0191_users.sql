-- The people of an organization. A key may be somebody's; who is deactivated has no key that opens anything.
create table users (
    organization_id text not null references organizations,
    id text not null,
    name text not null,
    email text,
    metadata jsonb,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    deactivated_at timestamptz,
    constraint users_pkey primary key (organization_id, id)
);

-- Those that keys name already.
insert into users (organization_id, id, name)
select distinct p.organization_id, k.user_id, k.user_id
from api_keys k join projects p on p.id = k.project_id
where k.user_id is not null;

create index api_keys_by_user on api_keys (user_id) where user_id is not null;

-- Whose key it was then: keys change hands, the log does not.
alter table audit_log add column user_id text;
