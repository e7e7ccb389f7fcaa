-- What a POST with an Idempotency-Key was answered, so that its retry is answered the same and does nothing. A row
-- without a status is a request under way, as long as its server keeps renewing the claim.
create table idempotent_responses (
    project_id text not null references projects,
    key text not null,
    request_hash bytea not null,
    -- Who carries the request out, and until when without a sign of life.
    claim uuid not null,
    claimed_until timestamptz not null,
    status smallint,
    headers jsonb,
    -- Sealed, since answers may hold secrets that are told once. Null where it was too large to be kept.
    body bytea,
    created_at timestamptz not null default now(),
    constraint idempotent_responses_pkey primary key (project_id, key)
);
create index idempotent_responses_by_age on idempotent_responses (created_at);
create index idempotency_keys_by_age on idempotency_keys (created_at);
