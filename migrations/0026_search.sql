-- Full text over titles, tasks and messages.
--
-- Each text is indexed twice: by 'simple', which knows no language and so finds code, names and every other language
-- word by word, and by 'english', which finds "running tests" for "run test". A query is asked both ways.
--
-- Only the first 50,000 characters of a message are searched: a tsvector has at most 1 MiB, and a message that is too
-- long to be indexed must not be too long to be stored.
--
-- What stands between < and > would be taken for markup and left out: Vec<String>, <button>. So the brackets go first.
create function searched(content text, length integer) returns text
    language sql immutable parallel safe
    return translate(left(coalesce(content, ''), length), '<>', '  ');

alter table messages
    add column search tsvector not null generated always as (
        to_tsvector('simple', searched(content, 50000)) || to_tsvector('english', searched(content, 50000))
    ) stored;

-- A short list of what is not merged yet: it is read by every search and merged by some insert.
create index messages_search on messages using gin (search) with (gin_pending_list_limit = 256);

-- The task is the text of the first message in most threads, which is searched as such.
-- It is dear, and with a `set` it is not taken apart by the planner, which so knows that the index is cheaper.
create function thread_search(title text, task text) returns tsvector
    language sql immutable parallel safe cost 100000 set search_path = pg_catalog
    return setweight(
        to_tsvector('simple', searched(title, 500)) || to_tsvector('english', searched(title, 500)),
        'A'
    ) || setweight(
        to_tsvector('simple', searched(task, 1000)) || to_tsvector('english', searched(task, 1000)),
        'B'
    );
create index threads_search on threads using gin (thread_search(title, task)) with (gin_pending_list_limit = 256);

-- What people ask for: words, "phrases", or, -not. Never an error, whatever they type.
create function search_query(words text) returns tsquery
    language sql immutable parallel safe
    return websearch_to_tsquery('simple', searched(words, 10000))
        || websearch_to_tsquery('english', searched(words, 10000));
