-- Events may be forgotten after a time. What is gone of a thread's log is always its beginning: the events up to
-- `forgotten_sequence`. Readers are told so instead of being shown a log that merely looks shorter.
alter table threads
    add column forgotten_sequence bigint not null default 0,
    add column forgotten_at timestamptz;
