-- What a key may do, what it is for, and how much it is used. Keys that are there already may do what they could before:
-- everything in their project.
alter table api_keys
    add column scopes text[] not null default '{*}',
    -- standard, or internal: budgets do not hold for it.
    add column kind text not null default 'standard',
    add column description text,
    -- Whose it is, by whatever name those who made it have for people.
    add column user_id text,
    add column metadata jsonb,
    -- The key that made it; none for keys made on the server.
    add column created_by text,
    -- No longer listed, and revoked.
    add column deleted_at timestamptz;
create index api_keys_by_project on api_keys (project_id, created_at);

-- Requests by key and day, written a minute at a time.
create table key_usage (
    key_id text not null references api_keys on delete cascade,
    day date not null,
    requests bigint not null,
    -- Those that were answered with 400 or above.
    failures bigint not null,
    primary key (key_id, day)
);
