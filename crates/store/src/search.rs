//! Searching a project's threads by the words of their titles, tasks and messages.
//!
//! Matching and ranking are Postgres's full text search, over indexes that the inserts keep (see the migration for what
//! is indexed and how). Showing where the words are is dear, so it is done only for the threads of the page.

use domain::{
    MessageId, ProjectId, ThreadId,
    message::Role,
    thread::{Thread, ThreadStatus},
};
use sqlx::{Row, postgres::PgRow};

use crate::{Page, Paged, Result, Store, row::ReadColumn, threads};

/// Stands around the words that were found, in [`Excerpt`]s: characters that no text has a use for.
pub const MARKS: (char, char) = ('\u{1}', '\u{2}');

/// Stand for `<` and `>` while Postgres looks for the words, which it would not look for in what it takes for markup.
const BRACKETS: (char, char) = ('\u{e000}', '\u{e001}');

/// Which threads are searched; `None` does not filter.
#[derive(Debug, Clone, Default)]
pub struct Search {
    /// Words, `"phrases"`, `or`, `-not`.
    pub words: String,
    pub environment_id: Option<String>,
    pub status: Option<ThreadStatus>,
    /// How many messages are wanted of each thread.
    pub messages: i64,
}

/// A thread that was found, best first.
#[derive(Debug, Clone)]
pub struct Found {
    pub thread: Thread,
    /// Above 0; comparable only within one search.
    pub score: f64,
    /// The beginning of the title and of the task, where words of theirs were found.
    pub excerpts: Vec<Excerpt>,
    /// The best of its messages that match, best first.
    pub messages: Vec<FoundMessage>,
}

/// A piece of text with [`MARKS`] around the words that were found.
pub type Excerpt = String;

/// A message that was found.
#[derive(Debug, Clone)]
pub struct FoundMessage {
    pub id: MessageId,
    pub role: Role,
    pub score: f64,
    pub excerpt: Excerpt,
    pub created_at: chrono::DateTime<chrono::Utc>,
}

impl Store {
    /// Finds the project's threads with these words, best first. Any text is a query; one without words finds nothing.
    pub async fn search_threads(&self, project: &ProjectId, search: &Search, page: Page) -> Result<Paged<Found>> {
        let words = &without_idle_nots(&search.words);
        // A thread counts by its title and task, by the best of its messages, and a little by how many they are. What
        // the indexes find comes first, whatever the planner thinks of it: it cannot guess how many have a word.
        let rows = sqlx::query(sqlx::AssertSqlSafe(format!(
            "-- search_threads
             with hits as materialized (
                 select m.thread_id, ts_rank(m.search, search_query($2), 1) as rank
                 from messages m
                 where m.search @@ search_query($2) and m.superseded_at is null
             ), said as (
                 select thread_id, max(rank) as rank, count(*) as count from hits group by thread_id
             ), named as materialized (
                 select t.id, ts_rank(thread_search(t.title, t.task), search_query($2)) as rank
                 from threads t
                 where thread_search(t.title, t.task) @@ search_query($2)
             ), found as materialized (
                 select t.id, t.updated_at,
                     2 * coalesce(named.rank, 0) + coalesce(said.rank, 0) + 0.01 * ln(1 + coalesce(said.count, 0))
                         as score
                 from said
                 full join named on named.id = said.thread_id
                 join threads t on t.id = coalesce(said.thread_id, named.id)
                 where t.project_id = $1
                   and t.deleted_at is null
                   and ($3::text is null or t.environment_id = $3)
                   and ($4::text is null or t.status = $4)
             ), part as (
                 select * from found order by score desc, updated_at desc, id desc limit $5 offset $6
             )
             -- The count comes also with a part that is empty.
             select {columns}, part.score::float8 as score, whole.count as found
             from (select count(*) as count from found) whole
             left join part on true
             left join threads t on t.id = part.id {joins}
             order by part.score desc, part.updated_at desc, part.id desc",
            columns = threads::COLUMNS,
            joins = threads::JOINS,
        )))
        .bind(project.as_str())
        .bind(words)
        .bind(&search.environment_id)
        .bind(search.status.map(ThreadStatus::as_str))
        .bind(page.limit)
        .bind(page.offset)
        .fetch_all(&self.pool)
        .await?;
        let total = rows.first().map(|row| row.try_get("found")).transpose()?.unwrap_or(0);
        let mut items = Vec::with_capacity(rows.len());
        for row in &rows {
            if row.try_get::<Option<&str>, _>("id")?.is_some() {
                let (excerpts, messages) = (Vec::new(), Vec::new());
                items.push(Found { thread: threads::read(row)?, score: row.try_get("score")?, excerpts, messages });
            }
        }
        self.mark_titles(words, &mut items).await?;
        self.find_messages(words, search.messages, &mut items).await?;
        Ok(Paged { items, total })
    }

    async fn mark_titles(&self, words: &str, found: &mut [Found]) -> Result<()> {
        let rows = sqlx::query(
            r#"-- mark_titles
             select t.id,
                 case when title.text like o.mark then title.text
                     else ts_headline('simple', translate(left(t.title, 500), '<>', $5), search_query($2), o.whole) end as title,
                 case when task.text like o.mark then task.text
                     else ts_headline('simple', translate(left(t.task, 1000), '<>', $5), search_query($2), o.pieces) end as task
             from threads t, (
                 select 'HighlightAll=true,StartSel="' || $3 || '",StopSel="' || $4 || '"',
                     'MaxFragments=2,MaxWords=24,MinWords=8,StartSel="' || $3 || '",StopSel="' || $4 || '"',
                     '%' || $3 || '%'
             ) as o(whole, pieces, mark),
                 ts_headline('english', translate(left(t.title, 500), '<>', $5), search_query($2), o.whole) as title(text),
                 ts_headline('english', translate(left(t.task, 1000), '<>', $5), search_query($2), o.pieces) as task(text)
             where t.id = any($1)"#,
        )
        .bind(ids(found))
        .bind(words)
        .bind(MARKS.0.to_string())
        .bind(MARKS.1.to_string())
        .bind(String::from_iter([BRACKETS.0, BRACKETS.1]))
        .fetch_all(&self.pool)
        .await?;
        for row in &rows {
            let id: ThreadId = row.parse("id")?;
            if let Some(found) = found.iter_mut().find(|found| found.thread.id == id) {
                let title = marked(row, "title")?;
                // Where nobody gave a title it is the task's first line; once is enough.
                let Thread { title: name, task: whole, .. } = &found.thread;
                let is_said = title.is_some()
                    && whole.as_ref().zip(name.as_ref()).is_some_and(|(task, title)| task.trim().starts_with(title));
                let task = marked(row, "task")?.filter(|_| !is_said);
                found.excerpts.extend([title, task].into_iter().flatten());
            }
        }
        Ok(())
    }

    async fn find_messages(&self, words: &str, limit: i64, found: &mut [Found]) -> Result<()> {
        let rows = sqlx::query(
            r#"-- find_messages
             select best.*,
                 case when english.text like '%' || $4 || '%' then english.text
                     else ts_headline('simple', best.content, search_query($2), o.options) end as excerpt
             from unnest($1::text[]) as t(id), lateral (
                 select m.id, m.thread_id, m.role, m.created_at, translate(left(m.content, 50000), '<>', $6) as content,
                     ts_rank(m.search, search_query($2), 1)::float8 as score
                 from messages m
                 where m.thread_id = t.id and m.search @@ search_query($2) and m.superseded_at is null
                 order by score desc, m.position desc
                 limit $3
             ) best, (
                 select 'MaxFragments=2,MaxWords=24,MinWords=8,StartSel="' || $4 || '",StopSel="' || $5 || '"'
             ) as o(options),
                 ts_headline('english', best.content, search_query($2), o.options) as english(text)
             order by best.score desc"#,
        )
        .bind(ids(found))
        .bind(words)
        .bind(limit)
        .bind(MARKS.0.to_string())
        .bind(MARKS.1.to_string())
        .bind(String::from_iter([BRACKETS.0, BRACKETS.1]))
        .fetch_all(&self.pool)
        .await?;
        for row in &rows {
            let thread: ThreadId = row.parse("thread_id")?;
            if let Some(found) = found.iter_mut().find(|found| found.thread.id == thread) {
                found.messages.push(FoundMessage {
                    id: row.parse("id")?,
                    role: row.parse("role")?,
                    score: row.try_get("score")?,
                    excerpt: match marked(row, "excerpt")? {
                        Some(excerpt) => excerpt,
                        // Found for what is not in it, or behind what a headline looks at.
                        None => {
                            with_brackets(&row.try_get::<&str, _>("content")?.chars().take(200).collect::<String>())
                        }
                    },
                    created_at: row.try_get("created_at")?,
                });
            }
        }
        Ok(())
    }
}

fn ids(found: &[Found]) -> Vec<&str> {
    found.iter().map(|found| found.thread.id.as_str()).collect()
}

/// Gives the column's text if something is marked in it.
fn marked(row: &PgRow, column: &'static str) -> Result<Option<Excerpt>> {
    let text: Option<&str> = row.try_get(column)?;
    Ok(text.filter(|text| text.contains(MARKS.0)).map(with_brackets))
}

fn with_brackets(text: &str) -> String {
    text.replace(BRACKETS.0, "<").replace(BRACKETS.1, ">")
}

/// Leaves one `-` of several before a word, and none before nothing: Postgres counts each as a "not" and gives up at 32.
fn without_idle_nots(words: &str) -> String {
    let mut kept = String::with_capacity(words.len());
    let mut nots = false;
    for c in words.chars() {
        if c == '-' && !kept.ends_with(char::is_alphanumeric) {
            nots |= !kept.ends_with('-');
            continue;
        }
        if nots && (c.is_alphanumeric() || c == '"') {
            kept.push('-');
        }
        nots = false;
        kept.push(c);
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::without_idle_nots;

    #[test]
    fn a_not_is_kept_once_and_before_something() {
        for (words, kept) in [
            ("a-b -c", "a-b -c"),
            ("---a", "-a"),
            ("- - -a", "  -a"),
            ("a -- b", "a  b"),
            ("-\"a b\"", "-\"a b\""),
            ("-", ""),
            ("a-", "a-"),
            ("a--b", "a-b"),
            ("a -", "a "),
        ] {
            assert_eq!(without_idle_nots(words), kept, "{words}");
        }
    }
}
