-- A thread that is rewound keeps what was said: messages are marked, not deleted, and an entry of the transcript (role
-- `rewind`, `{"keep": N}`) says that of all before it only the entries up to position N count.
alter table messages add column superseded_at timestamptz;
-- The messages that are still shown are `message_count`; both together give the next one's position.
alter table threads add column superseded_count bigint not null default 0;
create index transcript_rewinds on transcript (thread_id) where role = 'rewind';
