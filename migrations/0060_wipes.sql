-- Set when an environment is deleted with its files, cleared when they are gone: whatever fails between is tried again.
alter table environments add column wipe_requested_at timestamptz;
create index environments_to_wipe on environments (wipe_requested_at) where wipe_requested_at is not null;

-- Deleted environments never come back, so nothing can use these.
delete from environment_secrets s
using environments e
where e.id = s.environment_id and e.deleted_at is not null;
