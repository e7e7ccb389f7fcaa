-- Secrets that came with a message, sealed as those of environments are, and gone with the end of the run.
create table run_secrets (
    run_id text not null references runs on delete cascade,
    key text not null,
    sealed bytea not null,
    primary key (run_id, key)
);
