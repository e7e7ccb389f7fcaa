-- Who did what: a line for each request that may have changed something. Only added to, whoever asks.
create table audit_log (
    id bigint generated always as identity primary key,
    at timestamptz not null default now(),
    organization_id text not null,
    project_id text not null,
    key_id text not null,
    method text not null,
    -- The path with names instead of values, as in the OpenAPI document.
    route text not null,
    -- The ids in the path, by name. No names of files, no query, nothing of a body.
    subject jsonb not null,
    -- What it was answered with; null if nobody waited for the answer.
    status integer,
    request_id text,
    address text
);
create index audit_log_by_organization on audit_log (organization_id, id);

create function audit_log_stays() returns trigger language plpgsql as $$
begin
    raise exception 'audit_log is only added to';
end
$$;
create trigger audit_log_stays before update or delete or truncate on audit_log
    for each statement execute function audit_log_stays();
