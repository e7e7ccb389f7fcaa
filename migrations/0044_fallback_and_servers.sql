-- The model that a run goes on with after its own could not answer: whoever takes the run up asks that one.
alter table runs add column fallback_model text;

-- The servers of the installation that drive runs, and how many each. One that has not been heard of is not counted.
create table servers (
    node text primary key,
    concurrent_runs integer not null,
    seen_at timestamptz not null default now()
);
