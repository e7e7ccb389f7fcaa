-- How many requests a key or a project has left, for all servers together. Servers take them by the dozen, so a row is
-- written once in many requests.
create table request_buckets (
    subject text primary key,
    -- What there was when it was last looked at; more comes back with time.
    tokens double precision not null,
    -- What was given then.
    taken integer not null,
    at timestamptz not null
);
