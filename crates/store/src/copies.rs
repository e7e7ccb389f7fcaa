//! Copies of threads: what was said, whole or up to a message, in a thread of its own.
//!
//! Messages and transcript are cut at the same place. The transcript's bytes and the runs they name stay as they are, so
//! the copy is served by the prompt cache of the original and its history leads back to the runs that made it.

use domain::{
    EnvironmentId, MessageId, ProjectId, StepId, ThreadId,
    message::Role,
    thread::{Thread, ThreadStatus},
};
use sqlx::{PgConnection, Row};

use crate::{
    Error, Result, Store,
    rewind::{self, Cut, Rewind},
    row::ReadColumn,
    threads,
};

/// How a thread is copied.
#[derive(Debug, Clone, Default)]
pub struct NewCopy {
    /// The original's title and " Copy" if absent.
    pub title: Option<String>,
    /// The first message that is not copied, counted from 0.
    pub cut: Option<i64>,
    /// Whether the message at the cut must be there, and a person's.
    pub cut_is_from_user: bool,
    /// The original's environment if absent.
    pub environment_id: Option<EnvironmentId>,
    /// The number of the last step that is copied; those of the messages that are copied if absent.
    pub last_step: Option<i64>,
}

/// A thread that was copied.
#[derive(Debug, Clone)]
pub struct Copied {
    pub thread: Thread,
    pub messages: i64,
    /// The number of its newest step.
    pub last_step: i64,
}

impl Store {
    /// Copies a thread of the project. A run that is under way is left out, together with the message that caused it.
    ///
    /// # Errors
    /// `NotFound` for a thread or an environment that is not the project's; `State` if there is no such message to cut
    /// at, or it is not from a user where it must be.
    pub async fn copy_thread(&self, project: &ProjectId, original: &ThreadId, copy: &NewCopy) -> Result<Copied> {
        let mut tx = self.pool.begin().await?;
        // Under the row's lock no run adds to the history while it is read.
        let row = sqlx::query(
            "-- copy_thread: lock
             select title, message_count, superseded_count, last_step, environment_id
             from threads
             where project_id = $1 and id = $2 and deleted_at is null
             for update",
        )
        .bind(project.as_str())
        .bind(original.as_str())
        .fetch_optional(&mut *tx)
        .await?
        .ok_or_else(|| Error::not_found("Thread", original))?;
        let count: i64 = row.try_get("message_count")?;
        let cut = find_cut(&mut tx, original, copy, count).await?;
        let keep = match &cut {
            Some(cut) => Some(rewind::find_kept(&mut tx, original, cut).await?),
            None => None,
        };

        let environment_id = match &copy.environment_id {
            Some(id) => id.clone(),
            None => row.parse("environment_id")?,
        };
        threads::check_owner(&mut tx, project, Some(&environment_id), None).await?;
        let title = copy.title.clone().unwrap_or_else(|| {
            let title: Option<String> = row.try_get("title").ok().flatten();
            format!("{} Copy", title.unwrap_or_default()).trim_start().to_owned()
        });
        let id = ThreadId::generate();
        sqlx::query(
            "-- copy_thread
             insert into threads (id, project_id, environment_id, agent_id, app_id, title, task, metadata, status,
                 completed_at)
             select $2, project_id, $3, agent_id, app_id, $4, task, metadata, $5, now() from threads where id = $1",
        )
        .bind(original.as_str())
        .bind(id.as_str())
        .bind(environment_id.as_str())
        .bind(title)
        .bind(ThreadStatus::Completed.as_str())
        .execute(&mut *tx)
        .await?;
        // Those that the thread was rewound behind are copied too, so that positions and what runs know by them stay true.
        let ids: Vec<String> =
            (0..count + row.try_get::<i64, _>("superseded_count")?).map(|_| MessageId::generate().into()).collect();
        sqlx::query(
            "-- copy_thread: messages
             insert into messages (id, thread_id, position, role, content, run_id, metadata, input_tokens,
                 output_tokens, duration_ms, actions_count, created_at, superseded_at)
             select i.id, $2, m.position, m.role, m.content, m.run_id, m.metadata, m.input_tokens, m.output_tokens,
                 m.duration_ms, m.actions_count, m.created_at, m.superseded_at
             from (
                 select *, row_number() over (order by position) as n
                 from messages
                 where thread_id = $1 and ($4::bigint is null or position < $4)
             ) m
             join unnest($3::text[]) with ordinality as i(id, n) on i.n = m.n",
        )
        .bind(original.as_str())
        .bind(id.as_str())
        .bind(&ids)
        .bind(cut.as_ref().map(|cut| cut.position))
        .execute(&mut *tx)
        .await?;
        sqlx::query(
            "-- copy_thread: transcript
             insert into transcript (thread_id, position, run_id, role, blocks, created_at)
             select $2, position, run_id, role, blocks, created_at
             from transcript
             where thread_id = $1 and branch is null and ($3::bigint is null or position <= $3)",
        )
        .bind(original.as_str())
        .bind(id.as_str())
        .bind(keep)
        .execute(&mut *tx)
        .await?;
        copy_steps(&mut tx, original, &id, row.try_get("last_step")?, cut.as_ref(), copy.last_step).await?;
        sqlx::query(
            "-- copy_thread: counts
             update threads t
             set message_count = c.message_count,
                 superseded_count = c.superseded_count,
                 last_position = coalesce((select max(position) from transcript where thread_id = $1), 0),
                 last_step = coalesce((select max(sequence) from steps where thread_id = $1), 0),
                 last_message_at = m.created_at,
                 last_message_preview = left(m.content, 200)
             from (
                 select count(*) filter (where superseded_at is null) as message_count,
                     count(superseded_at) as superseded_count
                 from messages where thread_id = $1
             ) c
             left join lateral (
                 select created_at, content
                 from messages
                 where thread_id = $1 and superseded_at is null
                 order by position desc
                 limit 1
             ) m on true
             where t.id = $1",
        )
        .bind(id.as_str())
        .execute(&mut *tx)
        .await?;
        let last_step = sqlx::query_scalar("select last_step from threads where id = $1")
            .bind(id.as_str())
            .fetch_one(&mut *tx)
            .await?;
        let thread = threads::get(&mut tx, project, &id).await?;
        tx.commit().await?;
        Ok(Copied { messages: thread.message_count, thread, last_step })
    }
}

/// Copies what the thread's runs did to files, up to the first step of a message that is not copied.
async fn copy_steps(
    tx: &mut PgConnection,
    original: &ThreadId,
    copy: &ThreadId,
    count: i64,
    cut: Option<&Cut>,
    last: Option<i64>,
) -> Result<()> {
    let ids: Vec<String> = (0..count).map(|_| StepId::generate().into()).collect();
    sqlx::query(
        "-- copy_steps
         insert into steps (id, thread_id, sequence, change_id, created_at)
         select i.id, $2, st.sequence, st.change_id, st.created_at
         from (
             select *, row_number() over (order by sequence) as n
             from steps
             where thread_id = $1
               and ($4::bigint is null or sequence <= $4)
               and sequence < coalesce((
                   select min(o.sequence)
                   from steps o
                   join changes c on c.id = o.change_id
                   join messages m on m.id = c.message_id
                   where o.thread_id = $1 and m.position >= $5
               ), $6 + 1)
         ) st
         join unnest($3::text[]) with ordinality as i(id, n) on i.n = st.n",
    )
    .bind(original.as_str())
    .bind(copy.as_str())
    .bind(&ids)
    .bind(last)
    .bind(cut.map(|cut| cut.position))
    .bind(count)
    .execute(tx)
    .await?;
    Ok(())
}

/// Finds the first message that is not copied: the one asked for, or the first of a run that is not over.
async fn find_cut(tx: &mut PgConnection, original: &ThreadId, copy: &NewCopy, count: i64) -> Result<Option<Cut>> {
    let finished: i64 = sqlx::query_scalar(
        "-- find_cut
         select count(*)
         from messages m
         where m.thread_id = $1
           and m.superseded_at is null
           and m.position < coalesce((
               select min(o.position)
               from messages o join runs r on r.id = o.run_id
               where o.thread_id = $1 and r.thread_id = $1 and r.completed_at is null and o.superseded_at is null
           ), m.position + 1)",
    )
    .bind(original.as_str())
    .fetch_one(&mut *tx)
    .await?;
    let index = copy.cut.unwrap_or(finished);
    let cut = rewind::find_cut(tx, original, &Rewind::ToIndex(index.min(finished)), count).await?;
    if copy.cut.is_some() && copy.cut_is_from_user {
        let asked = rewind::find_cut(tx, original, &Rewind::ToIndex(index), count).await?;
        let role: Option<String> =
            sqlx::query_scalar("select role from messages where thread_id = $1 and position = $2")
                .bind(original.as_str())
                .bind(asked.map_or(-1, |asked| asked.position))
                .fetch_optional(&mut *tx)
                .await?;
        if role.as_deref() != Some(Role::User.as_str()) {
            return Err(Error::State(format!("truncateAtMessageIndex: message {index} is not a user's")));
        }
    } else if index > count {
        return Err(Error::State(format!("truncateAtMessageIndex: the thread has {count} messages")));
    }
    Ok(cut)
}
