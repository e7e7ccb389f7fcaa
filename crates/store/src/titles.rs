//! Titles that are made for threads, told apart from those that people give.

use domain::{ApiKeyId, ProjectId, ThreadId, run::Spent, thread::Thread, title};
use sqlx::Row;

use crate::{Error, Result, Store, charges::SPENDING, threads};

/// What a thread is called and was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Titled {
    pub title: Option<String>,
    /// Nobody chose the title: there is none, it was made, or it is the beginning of the first message.
    pub is_made: bool,
    /// What was said first.
    pub first_message: Option<String>,
}

/// The model call that a title was made by.
#[derive(Debug, Clone, Copy)]
pub struct Made<'a> {
    pub model: &'a str,
    /// The key that asked for it.
    pub key: &'a ApiKeyId,
    pub spent: Spent,
}

impl Store {
    /// Tells how a thread of the project came by its title.
    pub async fn find_title(&self, project: &ProjectId, thread: &ThreadId) -> Result<Titled> {
        let row = sqlx::query(
            "-- find_title
             select t.title, t.made_title, t.task,
                 (select content from messages where thread_id = t.id and role = 'user' order by position limit 1)
                     as first_message,
                 -- Of several messages sent at once the last one names the thread.
                 (
                     select m.content
                     from messages m join runs r on r.message_id = m.id
                     where m.thread_id = t.id
                     order by m.position limit 1
                 ) as naming_message
             from threads t
             where t.project_id = $1 and t.id = $2 and t.deleted_at is null",
        )
        .bind(project.as_str())
        .bind(thread.as_str())
        .fetch_optional(&self.pool)
        .await?
        .ok_or_else(|| Error::not_found("Thread", thread))?;
        let title: Option<String> = row.try_get("title")?;
        let task: Option<String> = row.try_get("task")?;
        let first_message: Option<String> = row.try_get("first_message")?;
        let naming_message: Option<String> = row.try_get("naming_message")?;
        let made = [row.try_get("made_title")?, naming_message.as_deref().map(title::from_text)];
        let is_made = match &title {
            None => true,
            Some(title) => title.trim().is_empty() || made.into_iter().flatten().any(|made| made == *title),
        };
        Ok(Titled { title, is_made, first_message: first_message.or(task) })
    }

    /// Gives a thread a title that was made, and adds what making it cost.
    ///
    /// Unless `replaces` is still the title: then somebody was faster, and the thread stays as it is.
    pub async fn set_made_title(
        &self,
        project: &ProjectId,
        thread: &ThreadId,
        replaces: Option<&str>,
        title: &str,
        made: Option<Made<'_>>,
    ) -> Result<Thread> {
        let spent = made.as_ref().map(|made| made.spent).unwrap_or_default();
        let mut tx = self.pool.begin().await?;
        sqlx::query(sqlx::AssertSqlSafe(format!(
            "-- set_made_title
             with thread as (
                 update threads
                 set made_title = case when title is not distinct from $3 then $4 else made_title end,
                     title = case when title is not distinct from $3 then $4 else title end,
                     input_tokens = input_tokens + $5,
                     output_tokens = output_tokens + $6,
                     cache_read_tokens = cache_read_tokens + $7,
                     cache_write_tokens = cache_write_tokens + $8,
                     cost_micro_usd = cost_micro_usd + $9,
                     updated_at = now()
                 where project_id = $1 and id = $2 and deleted_at is null
                 returning id, project_id, environment_id, agent_id
             ), charge as (
                 insert into charges (project_id, thread_id, environment_id, agent_id, key_id, kind, model, input_tokens,
                     output_tokens, cache_read_tokens, cache_write_tokens, cost_micro_usd)
                 select project_id, id, environment_id, agent_id, $11, 'title', $10, $5, $6, $7, $8, $9
                 from thread
                 where $10::text is not null
                 returning project_id, agent_id, key_id, cost_micro_usd
             ), {SPENDING}
             select count(*) from thread"
        )))
        .bind(project.as_str())
        .bind(thread.as_str())
        .bind(replaces)
        .bind(title)
        .bind(spent.input_tokens)
        .bind(spent.output_tokens)
        .bind(spent.cache_read_tokens)
        .bind(spent.cache_write_tokens)
        .bind(spent.cost.0)
        .bind(made.as_ref().map(|made| made.model))
        .bind(made.as_ref().map(|made| made.key.as_str()))
        .execute(&mut *tx)
        .await?;
        let thread = threads::get(&mut tx, project, thread).await?;
        tx.commit().await?;
        Ok(thread)
    }
}
