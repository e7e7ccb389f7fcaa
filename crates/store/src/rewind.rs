//! Taking a thread back to before one of its messages, without destroying what came after.
//!
//! The messages from there on are marked as superseded. The transcript is append-only, so it gets an entry that says how
//! much of what is before it still counts; whoever loads it leaves the rest out (`transcript`). All of this happens in the
//! transaction that starts the run of the new message: a run that cannot start leaves the thread as it was.

use domain::{MessageId, ProjectId, RunId, ThreadId, message::Role, thread::ThreadStatus};
use sqlx::{PgConnection, Row};

use crate::{Error, Result, row::ReadColumn};

/// The role of the transcript's entry.
pub(crate) const ROLE: &str = "rewind";

/// Where to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rewind {
    /// So many messages stay.
    ToIndex(i64),
    /// Before this message of the user's.
    BeforeMessage(MessageId),
}

/// Rewinds an idle thread for the run that is about to start. Gives how many messages are left.
///
/// # Errors
/// `NotFound` for a thread or a message that is not there; `Busy` if a run is under way; `State` for an index beyond the
/// last message or a message that is not the user's.
pub(crate) async fn rewind(
    tx: &mut PgConnection,
    project: &ProjectId,
    thread: &ThreadId,
    to: &Rewind,
    run: &RunId,
) -> Result<i64> {
    let row = sqlx::query(
        "-- rewind: lock
         select status, message_count from threads
         where id = $1 and project_id = $2 and deleted_at is null
         for update",
    )
    .bind(thread.as_str())
    .bind(project.as_str())
    .fetch_optional(&mut *tx)
    .await?
    .ok_or_else(|| Error::not_found("Thread", thread))?;
    if row.parse::<ThreadStatus>("status")?.is_busy() {
        return Err(Error::Busy);
    }
    let count: i64 = row.try_get("message_count")?;
    let Some(cut) = find_cut(tx, thread, to, count).await? else { return Ok(count) };
    let keep = find_kept(tx, thread, &cut).await?;
    let superseded = sqlx::query(
        "-- rewind: messages
         update messages set superseded_at = now()
         where thread_id = $1 and position >= $2 and superseded_at is null",
    )
    .bind(thread.as_str())
    .bind(cut.position)
    .execute(&mut *tx)
    .await?
    .rows_affected();
    let superseded = i64::try_from(superseded).expect("a thread has fewer messages than that");
    sqlx::query(
        "-- rewind: thread
         with thread as (
             update threads
             set message_count = message_count - $2,
                 superseded_count = superseded_count + $2,
                 last_position = last_position + 1
             where id = $1
             returning last_position
         )
         insert into transcript (thread_id, position, run_id, role, blocks)
         select $1, last_position, $3, $4, json_build_object('keep', $5::bigint)::text from thread",
    )
    .bind(thread.as_str())
    .bind(superseded)
    .bind(run.as_str())
    .bind(ROLE)
    .bind(keep)
    .execute(&mut *tx)
    .await?;
    Ok(count - superseded)
}

/// The first message that is superseded.
pub(crate) struct Cut {
    pub position: i64,
    run_id: Option<RunId>,
}

/// Finds the first message that goes; `None` if all stay.
pub(crate) async fn find_cut(tx: &mut PgConnection, thread: &ThreadId, to: &Rewind, count: i64) -> Result<Option<Cut>> {
    let row = match to {
        Rewind::ToIndex(index) if *index == count => return Ok(None),
        Rewind::ToIndex(index) => sqlx::query(
            "-- find_cut
             select position, role, run_id from messages
             where thread_id = $1 and superseded_at is null
             order by position
             limit 1 offset $2",
        )
        .bind(thread.as_str())
        .bind(index)
        .fetch_optional(tx)
        .await?
        .ok_or_else(|| Error::State(format!("truncateAtMessageIndex: the thread has {count} messages")))?,
        Rewind::BeforeMessage(id) => {
            let row = sqlx::query(
                "-- find_cut: by id
                 select position, role, run_id from messages
                 where thread_id = $1 and id = $2 and superseded_at is null",
            )
            .bind(thread.as_str())
            .bind(id.as_str())
            .fetch_optional(tx)
            .await?
            .ok_or_else(|| Error::not_found("Message", id))?;
            if row.parse::<Role>("role")? != Role::User {
                return Err(Error::State("editMessageId: only a message from the user can be edited".into()));
            }
            row
        }
    };
    Ok(Some(Cut { position: row.try_get("position")?, run_id: row.parse_optional("run_id")? }))
}

/// Finds the last entry of the transcript that still counts.
///
/// A run begins its part of the transcript with one entry for each message that caused it, and the answer is the rest. So
/// the message with the number n of its run goes together with what is in the run from its n-th entry on.
pub(crate) async fn find_kept(tx: &mut PgConnection, thread: &ThreadId, cut: &Cut) -> Result<i64> {
    let Some(run_id) = &cut.run_id else {
        // A copied message that no run here caused. What runs have added since is all there is to take back.
        return Ok(sqlx::query_scalar(
            "-- find_kept: of no run
             select coalesce(min(t.position) - 1, (select last_position from threads where id = $1))
             from transcript t join messages m on m.thread_id = t.thread_id and m.run_id = t.run_id
             where t.thread_id = $1 and t.branch is null and m.position >= $2 and m.superseded_at is null",
        )
        .bind(thread.as_str())
        .bind(cut.position)
        .fetch_one(tx)
        .await?);
    };
    Ok(sqlx::query_scalar(
        "-- find_kept
         with run as (
             select id, thread_id, after_sequence, message_id from runs where id = $3
         ), place as (
             -- Which message of its run it is; all that came of the run count as its answer.
             select count(*) as n from messages m, run
             where m.thread_id = $1
               and m.run_id = $3
               and m.position < $2
               and m.position <= (select position from messages where id = run.message_id)
         ), own as (
             select position from transcript, place
             where thread_id = $1
               and run_id = $3
               -- Before its beginning a run may have answered the calls that the run before it left open.
               and (n = 0 or role = 'assistant' or (role = 'user' and left(blocks, 30) not like '%tool_result%'))
             order by position
             limit 1 offset (select n from place)
         ), later as (
             select min(t.position) as position
             from transcript t join runs r on r.id = t.run_id, run
             where t.thread_id = $1
               and t.branch is null
               and (
                   r.after_sequence > run.after_sequence
                   -- What a copied thread's own runs wrote is later than all that was copied.
                   or (r.thread_id = $1 and run.thread_id <> $1)
               )
         )
         select coalesce(
             least((select position from own), (select position from later)) - 1,
             (select last_position from threads where id = $1)
         )",
    )
    .bind(thread.as_str())
    .bind(cut.position)
    .bind(run_id.as_str())
    .fetch_one(tx)
    .await?)
}
