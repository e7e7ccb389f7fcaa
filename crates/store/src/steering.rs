//! Notes to a run under way: written beside it, given to the model by a checkpoint, never lost.
//!
//! A note is taken in the statement that appends it to the transcript, so the model reads it once whatever crashes. The
//! run's row counts the notes that wait: every checkpoint learns of them without another question. What a run has not
//! read when it ends becomes the thread's next message, or, if it was only to be known, the end of its transcript.

use domain::{
    MessageId, ProjectId, RunId, SteeringId, ThreadId,
    event::{Event, Steering, SteeringMode},
    run::{RunOptions, RunStatus},
};
use serde_json::json;
use sqlx::{PgConnection, Row};

use crate::{
    Error, Result, Store,
    events::to_text,
    queue::{self, Place},
    row::ReadColumn,
    runs::{Active, NewRun},
};

impl Store {
    /// Gives a note to a run of the thread that is under way.
    ///
    /// # Errors
    /// `NotFound` for a run that is not the thread's; `State` for one that is held or over.
    pub async fn steer_run(
        &self,
        project: &ProjectId,
        thread: &ThreadId,
        run: &RunId,
        mode: SteeringMode,
        content: &str,
    ) -> Result<(Steering, i64)> {
        let mut tx = self.pool.begin().await?;
        let status = lock_run(&mut tx, project, thread, run).await?;
        if status.is_over() || status == RunStatus::Held {
            return Err(Error::State(format!("the run is {status}, so nobody reads a note to it")));
        }
        let note = Steering { id: SteeringId::generate(), mode, content: content.to_owned() };
        let sequence = add(&mut tx, thread, run, &note).await?;
        tx.commit().await?;
        self.hub.hint_events(thread, sequence);
        Ok((note, sequence))
    }

    /// Lists the notes that the run's model has not been given, oldest first.
    pub async fn list_steering(&self, run: &RunId) -> Result<Vec<Steering>> {
        let mut connection = self.pool.acquire().await?;
        list(&mut connection, run).await
    }
}

/// Locks a run of the thread and gives its status.
pub(crate) async fn lock_run(
    tx: &mut PgConnection,
    project: &ProjectId,
    thread: &ThreadId,
    run: &RunId,
) -> Result<RunStatus> {
    let row = sqlx::query(
        "-- lock_run
         select status, parent_run_id from runs where id = $1 and thread_id = $2 and project_id = $3 for update",
    )
    .bind(run.as_str())
    .bind(thread.as_str())
    .bind(project.as_str())
    .fetch_optional(tx)
    .await?
    .ok_or_else(|| Error::not_found("Run", run))?;
    if row.try_get::<Option<&str>, _>("parent_run_id")?.is_some() {
        return Err(Error::State("the run was called by another one: it can be cancelled, and nothing else".into()));
    }
    row.parse("status")
}

/// Locks the thread's run under way.
pub(crate) async fn lock_active(
    tx: &mut PgConnection,
    project: &ProjectId,
    thread: &ThreadId,
) -> Result<Option<Active>> {
    let row = sqlx::query(
        "-- lock_active
         select id, status from runs
         where project_id = $1 and thread_id = $2 and parent_run_id is null
           and status not in ('held', 'completed', 'failed', 'cancelled')
         for update",
    )
    .bind(project.as_str())
    .bind(thread.as_str())
    .fetch_optional(tx)
    .await?;
    row.map(|row| Ok(Active { id: row.parse("id")?, status: row.parse("status")? })).transpose()
}

/// Adds a note to a run that the caller has locked. Gives the number of the event that tells of it.
pub(crate) async fn add(tx: &mut PgConnection, thread: &ThreadId, run: &RunId, note: &Steering) -> Result<i64> {
    let event = Event::SteeringReceived { steering: note.clone() };
    let row = sqlx::query(
        "-- add
         with run as (
             update runs set steers = steers + 1 where id = $2 returning id
         ), thread as (
             update threads t
             set last_sequence = t.last_sequence + 1, updated_at = now()
             from run
             where t.id = $1
             returning t.id, t.last_sequence
         ), note as (
             insert into steering (id, thread_id, run_id, mode, content)
             select $3, thread.id, $2, $4, $5 from thread
         ), new_event as (
             insert into events (thread_id, sequence, run_id, event)
             select thread.id, thread.last_sequence, $2, $6 from thread
         )
         select last_sequence from thread",
    )
    .bind(thread.as_str())
    .bind(run.as_str())
    .bind(note.id.as_str())
    .bind(note.mode.as_str())
    // A NUL is fine in JSON but in no text column.
    .bind(note.content.replace('\0', "\u{fffd}"))
    .bind(to_text(&event))
    .fetch_one(tx)
    .await?;
    Ok(row.try_get("last_sequence")?)
}

/// Keeps the notes that a run did not read before it ended: those to be followed become the thread's next run, those to be
/// known the end of its transcript. The caller holds the locks of run and thread. Gives the number of the next run's
/// first event, if there is one.
pub(crate) async fn settle(tx: &mut PgConnection, thread: &ThreadId, run: &RunId) -> Result<Option<i64>> {
    let notes = list(tx, run).await?;
    sqlx::query("update steering set taken_at = now() where run_id = $1 and taken_at is null")
        .bind(run.as_str())
        .execute(&mut *tx)
        .await?;
    sqlx::query("update runs set steers = 0 where id = $1").bind(run.as_str()).execute(&mut *tx).await?;
    let (known, followed): (Vec<_>, Vec<_>) = notes.into_iter().partition(|note| note.mode == SteeringMode::Fyi);
    for note in known {
        sqlx::query(
            "-- settle
             with thread as (
                 update threads
                 set last_position = last_position + 1, message_count = message_count + 1
                 where id = $1
                 returning id, last_position, message_count + superseded_count as next_message
             ), entry as (
                 insert into transcript (thread_id, position, run_id, role, blocks)
                 select id, last_position, $2, 'user', $3 from thread
             )
             insert into messages (id, thread_id, position, role, content, run_id)
             select $4, id, next_message - 1, 'user', $5, $2 from thread",
        )
        .bind(thread.as_str())
        .bind(run.as_str())
        .bind(json!([{"type": "text", "text": note.content}]).to_string())
        .bind(MessageId::generate().as_str())
        .bind(&note.content)
        .execute(&mut *tx)
        .await?;
    }
    if followed.is_empty() {
        return Ok(None);
    }
    let row = sqlx::query("select project_id, options from runs where id = $1")
        .bind(run.as_str())
        .fetch_one(&mut *tx)
        .await?;
    let options = row.json::<RunOptions>("options")?.without_message();
    let messages = followed.into_iter().map(|note| note.content.into()).collect();
    let new = NewRun { messages, options, ..NewRun::default() };
    // They were meant for the run that has just ended, so they come before what was to run after it.
    let held = queue::hold(tx, &row.parse("project_id")?, thread, &new, Place::Front).await?;
    Ok(Some(held.after_sequence + 1))
}

async fn list(connection: &mut PgConnection, run: &RunId) -> Result<Vec<Steering>> {
    let rows = sqlx::query(
        "-- list_steering
         select id, mode, content from steering where run_id = $1 and taken_at is null order by created_at, id",
    )
    .bind(run.as_str())
    .fetch_all(connection)
    .await?;
    rows.iter()
        .map(|row| Ok(Steering { id: row.parse("id")?, mode: row.parse("mode")?, content: row.try_get("content")? }))
        .collect()
}
