//! Which state of the files belongs to which place of a conversation.
//!
//! Steps say what a thread's runs changed. What was there when a message was sent is more than that: others work in the
//! environment, too. So the time decides, and steps help where the environment's own past does not reach back so far: a
//! copy of a thread in an environment of its own has messages that are older than it.

use domain::{ProjectId, ThreadId, change::Snapshot, change::Step};

use crate::{Result, Store, snapshots};

impl Store {
    /// Finds the state of the files before the message with this index, counted from 0, was sent. `None`: there is no such
    /// message, or nothing is known of the files.
    pub async fn find_state_before(
        &self,
        project: &ProjectId,
        thread: &ThreadId,
        index: i64,
    ) -> Result<Option<Snapshot>> {
        let row = sqlx::query(
            "-- find_state_before
             with message as (
                 select m.position, m.created_at, t.environment_id
                 from messages m join threads t on t.id = m.thread_id
                 where t.project_id = $1 and t.deleted_at is null and m.thread_id = $2 and m.superseded_at is null
                 order by m.position
                 limit 1 offset $3
             ), step as (
                 select st.sequence, c.before_id, c.snapshot_id, o.position
                 from steps st
                 join changes c on c.id = st.change_id
                 left join messages o on o.id = c.message_id
                 where st.thread_id = $2
             )
             select s.*
             from message, snapshots s
             where s.id = coalesce(
                 (
                     select id from snapshots
                     where environment_id = message.environment_id and created_at <= message.created_at
                     order by number desc
                     limit 1
                 ),
                 (select before_id from step where position >= message.position order by sequence limit 1),
                 (select snapshot_id from step order by sequence desc limit 1),
                 (select id from snapshots where environment_id = message.environment_id order by number limit 1)
             )",
        )
        .bind(project.as_str())
        .bind(thread.as_str())
        .bind(index)
        .fetch_optional(&self.pool)
        .await?;
        row.as_ref().map(snapshots::read).transpose()
    }

    /// Counts the messages of a thread that belong to what led to one of its steps: all that were there by then, and the
    /// answer, too, if it was the last step of its run.
    pub async fn count_messages_to(&self, step: &Step) -> Result<i64> {
        Ok(sqlx::query_scalar(
            "-- count_messages_to
             select count(*)
             from messages m
             where m.thread_id = $1
               and m.superseded_at is null
               and (m.created_at <= $2 or (m.run_id = $3 and not exists(
                   select 1
                   from steps st join changes c on c.id = st.change_id
                   where st.thread_id = $1 and st.sequence > $4 and c.run_id = $3
               )))",
        )
        .bind(step.thread_id.as_str())
        .bind(step.created_at)
        .bind(step.change.author.run_id.as_ref().map(|run| run.as_str()))
        .bind(step.sequence)
        .fetch_one(&self.pool)
        .await?)
    }
}
