//! Messages for a thread that is busy: held behind the run under way, or in front of all others.
//!
//! A held run is a whole run, with its id, its options and its first event, so that whoever sent the message can follow it
//! at once; only its messages are not the thread's yet. [`promote`] gives the first one its turn, in the transaction that
//! ends the run before it. A held run's row is changed only under its thread's lock, which comes before it: the lock order
//! is runs under way, threads, held runs.

use domain::{
    MessageId, ProjectId, RunId, SteeringId, ThreadId,
    event::{Event, Steering, SteeringMode},
    message::Role,
    run::{Outcome, Run, RunOptions, RunStatus, Spent},
    thread::ThreadStatus,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sqlx::{PgConnection, Row, postgres::PgRow};

use crate::{
    Error, Result, Store,
    events::to_text,
    leases::Finished,
    messages::{NewMessage, preview},
    row::{ReadColumn, to_json},
    run_labels,
    runs::{self, Active, INTERRUPTED, NewRun, Remembered, Started},
    secrets, steering,
};

/// What becomes of a message when its thread is busy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IfBusy {
    /// It is not taken.
    Refuse,
    /// It runs after all that came before it.
    Queue,
    /// The run under way is stopped, and the message runs next.
    Interrupt,
    /// It is given to the run under way.
    Steer,
}

/// What became of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Accepted {
    Started(Started),
    /// Its run is held behind another one.
    Held(Started),
    /// The run under way reads it. The events from then on are those after the number.
    Steered(Started, SteeringId),
}

/// How often a message is tried again whose thread has just become idle or busy.
const MAX_TRIES: usize = 5;

/// A run that waits for its turn.
#[derive(Debug, Clone, PartialEq)]
pub struct Held {
    pub run: Run,
    /// The message that causes it.
    pub content: String,
}

/// A message of a held run, as its row keeps it.
#[derive(Debug, Serialize, Deserialize)]
struct HeldMessage {
    role: String,
    content: String,
    metadata: Option<Map<String, Value>>,
}

/// Which end of a thread's held runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Front,
    Back,
}

impl Store {
    /// Takes a message, whether or not its thread is busy.
    ///
    /// # Errors
    /// As of [`Store::start_run`]; `Busy` only with [`IfBusy::Refuse`], or if runs come and go too fast.
    pub async fn send(&self, project: &ProjectId, thread: &ThreadId, new: NewRun, if_busy: IfBusy) -> Result<Accepted> {
        // A thread cannot be rewound under a run, nor later to what its sender has not seen.
        if if_busy == IfBusy::Refuse || new.rewind.is_some() {
            return Ok(Accepted::Started(self.start_run(project, thread, new).await?));
        }
        for _ in 0..MAX_TRIES {
            if let Some(accepted) = self.try_to_send(project, thread, &new, if_busy).await? {
                return Ok(accepted);
            }
        }
        Err(Error::Busy)
    }

    async fn try_to_send(
        &self,
        project: &ProjectId,
        thread: &ThreadId,
        new: &NewRun,
        if_busy: IfBusy,
    ) -> Result<Option<Accepted>> {
        let mut tx = self.pool.begin().await?;
        if let Some(Remembered { started: Some(started), .. }) =
            runs::find_repeated(&mut tx, project, new.idempotency.as_ref()).await?
        {
            return Ok(Some(Accepted::Started(started)));
        }
        // The run's lock comes before the thread's.
        let active = match if_busy {
            IfBusy::Refuse | IfBusy::Queue => None,
            IfBusy::Interrupt => runs::stop_active(&mut tx, project, thread, Some(INTERRUPTED)).await?,
            IfBusy::Steer => steering::lock_active(&mut tx, project, thread).await?,
        };
        let is_busy = lock_thread(&mut tx, project, thread).await?.is_busy();
        let accepted = match (if_busy, active) {
            _ if !is_busy => Accepted::Started(runs::start(&mut tx, project, thread, new, false).await?),
            (IfBusy::Refuse, _) => return Err(Error::Busy),
            (IfBusy::Queue, _) => Accepted::Held(hold(&mut tx, project, thread, new, Place::Back).await?),
            // A run has begun or ended between the two locks.
            (IfBusy::Interrupt | IfBusy::Steer, None) => return Ok(None),
            (IfBusy::Interrupt, Some(active)) => {
                let (held, finished) = put_before(&mut tx, project, thread, new, &active).await?;
                runs::remember(&mut tx, project, new.idempotency.as_ref(), thread, Some(&held.run_id)).await?;
                tx.commit().await?;
                self.hint_interrupted(&held, &active, finished.as_ref());
                return Ok(Some(Accepted::Held(held)));
            }
            (IfBusy::Steer, Some(active)) => {
                let content = new.options.execution_content.as_deref();
                let content = content.or(new.messages.last().map(|message| message.content.as_str()));
                let note = Steering {
                    id: SteeringId::generate(),
                    mode: SteeringMode::Checkpoint,
                    content: content.unwrap_or_default().to_owned(),
                };
                let sequence = steering::add(&mut tx, thread, &active.id, &note).await?;
                let followed =
                    Started { thread_id: thread.clone(), run_id: active.id.clone(), after_sequence: sequence - 1 };
                Accepted::Steered(followed, note.id)
            }
        };
        let (Accepted::Started(run) | Accepted::Held(run) | Accepted::Steered(run, _)) = &accepted;
        runs::remember(&mut tx, project, new.idempotency.as_ref(), thread, Some(&run.run_id)).await?;
        tx.commit().await?;
        self.hub.hint_events(thread, run.after_sequence + 1);
        if matches!(accepted, Accepted::Started(_)) {
            self.hub.hint_work();
        }
        Ok(Some(accepted))
    }

    /// Stops a run of the thread that is under way, to have a message worked on instead by a run with the same options.
    ///
    /// All or nothing: the message never takes the place of another run than the one named.
    ///
    /// # Errors
    /// `NotFound` for a run that is not the thread's; `State` for one that is held or over.
    pub async fn interrupt_run(
        &self,
        project: &ProjectId,
        thread: &ThreadId,
        run: &RunId,
        content: String,
    ) -> Result<Started> {
        let mut tx = self.pool.begin().await?;
        let status = steering::lock_run(&mut tx, project, thread, run).await?;
        if status.is_over() || status == RunStatus::Held {
            return Err(Error::State(format!("the run is {status}, so there is nothing to interrupt")));
        }
        let options =
            sqlx::query("select options from runs where id = $1").bind(run.as_str()).fetch_one(&mut *tx).await?;
        let options = options.json::<RunOptions>("options")?.without_message();
        let new = NewRun { messages: vec![content.into()], options, ..NewRun::default() };
        // It is locked, so it is the one under way.
        runs::stop_active(&mut tx, project, thread, Some(INTERRUPTED)).await?;
        lock_thread(&mut tx, project, thread).await?;
        let active = Active { id: run.clone(), status };
        let (held, finished) = put_before(&mut tx, project, thread, &new, &active).await?;
        tx.commit().await?;
        self.hint_interrupted(&held, &active, finished.as_ref());
        Ok(held)
    }

    fn hint_interrupted(&self, held: &Started, active: &Active, finished: Option<&Finished>) {
        self.hub.hint_cancel(&active.id);
        if let Some(finished) = finished {
            self.hint_finished(&held.thread_id, finished);
        }
        self.hub.hint_events(&held.thread_id, held.after_sequence + 1);
    }

    /// Lists a thread's held runs in the order of their turns.
    pub async fn list_held(&self, project: &ProjectId, thread: &ThreadId) -> Result<Vec<Held>> {
        let mut connection = self.pool.acquire().await?;
        list(&mut connection, project, thread).await
    }

    /// Changes a held run: what it is about, or its place (0 is next; beyond the end is last).
    ///
    /// # Errors
    /// `NotFound` for a run that is not held, or no longer.
    pub async fn change_held(
        &self,
        project: &ProjectId,
        thread: &ThreadId,
        run: &RunId,
        content: Option<&str>,
        index: Option<usize>,
    ) -> Result<Vec<Held>> {
        let mut tx = self.pool.begin().await?;
        lock_thread(&mut tx, project, thread).await?;
        let mut order: Vec<RunId> = list(&mut tx, project, thread).await?.into_iter().map(|held| held.run.id).collect();
        let at = order.iter().position(|id| id == run).ok_or_else(|| Error::not_found("Queued run", run))?;
        if let Some(content) = content {
            // The last message is the one that causes the run. What the model was to read instead of it is not its any more.
            sqlx::query(
                "-- change_held: content
                 update runs
                 set held_messages = jsonb_set(held_messages, '{-1,content}', to_jsonb($2::text)),
                     options = jsonb_set(options, '{execution_content}', 'null')
                 where id = $1 and status = 'held'",
            )
            .bind(run.as_str())
            .bind(content)
            .execute(&mut *tx)
            .await?;
        }
        if let Some(index) = index {
            let id = order.remove(at);
            order.insert(index.min(order.len()), id);
            sqlx::query(
                "-- change_held: place
                 update runs r
                 set place = o.n
                 from unnest($2::text[]) with ordinality as o(id, n)
                 where r.id = o.id and r.thread_id = $1 and r.status = 'held'",
            )
            .bind(thread.as_str())
            .bind(order.iter().map(RunId::as_str).collect::<Vec<_>>())
            .execute(&mut *tx)
            .await?;
        }
        let held = list(&mut tx, project, thread).await?;
        tx.commit().await?;
        Ok(held)
    }

    /// Takes a held run out of the queue: it ends as cancelled, without ever having run.
    ///
    /// # Errors
    /// `NotFound` for a run that is not held, or no longer.
    pub async fn drop_held(&self, project: &ProjectId, thread: &ThreadId, run: &RunId) -> Result<()> {
        let mut tx = self.pool.begin().await?;
        lock_thread(&mut tx, project, thread).await?;
        let dropped = drop_all(&mut tx, thread, Some(run)).await?;
        let sequence = dropped.ok_or_else(|| Error::not_found("Queued run", run))?;
        tx.commit().await?;
        self.hub.hint_events(thread, sequence);
        Ok(())
    }
}

/// Locks the thread and tells how it stands.
pub(crate) async fn lock_thread(tx: &mut PgConnection, project: &ProjectId, thread: &ThreadId) -> Result<ThreadStatus> {
    let row = sqlx::query(
        "-- lock_thread
         select status from threads where id = $1 and project_id = $2 and deleted_at is null for update",
    )
    .bind(thread.as_str())
    .bind(project.as_str())
    .fetch_optional(tx)
    .await?
    .ok_or_else(|| Error::not_found("Thread", thread))?;
    row.parse("status")
}

/// Makes a message the thread's next run after one that was asked to stop. The caller has locked that run and the thread.
async fn put_before(
    tx: &mut PgConnection,
    project: &ProjectId,
    thread: &ThreadId,
    new: &NewRun,
    active: &Active,
) -> Result<(Started, Option<Finished>)> {
    let held = hold(tx, project, thread, new, Place::Front).await?;
    let finished = runs::finish_idle(tx, active, &Outcome::Interrupted).await?;
    Ok((held, finished))
}

/// Adds a held run to a thread that the caller has locked.
pub(crate) async fn hold(
    tx: &mut PgConnection,
    project: &ProjectId,
    thread: &ThreadId,
    new: &NewRun,
    place: Place,
) -> Result<Started> {
    let run_id = new.id.clone().unwrap_or_else(RunId::generate);
    let messages: Vec<HeldMessage> = new.messages.iter().map(HeldMessage::from).collect();
    let place = match place {
        Place::Front => "coalesce(min(place), 0) - 1",
        Place::Back => "coalesce(max(place), 0) + 1",
    };
    let row = sqlx::query(sqlx::AssertSqlSafe(format!(
        "-- hold
         with thread as (
             update threads
             set held = held + 1, last_sequence = last_sequence + 1, updated_at = now()
             where id = $1 and project_id = $2
             returning id, project_id, last_sequence
         ), run as (
             insert into runs (id, thread_id, project_id, status, options, after_sequence, held_messages, place)
             select $3, id, project_id, 'held', $4, last_sequence - 1, $5, (
                 select {place} from runs where thread_id = $1 and status = 'held'
             )
             from thread
         ), new_event as (
             insert into events (thread_id, sequence, run_id, event)
             select id, last_sequence, $3, $6 from thread
         )
         select last_sequence - 1 as after_sequence from thread"
    )))
    .bind(thread.as_str())
    .bind(project.as_str())
    .bind(run_id.as_str())
    .bind(to_json(&new.options))
    .bind(to_json(&messages))
    .bind(to_text(&Event::RunQueued))
    .fetch_one(&mut *tx)
    .await
    .map_err(|err| runs::id_taken(err, &run_id))?;
    secrets::insert(tx, &run_id, &new.secrets).await?;
    run_labels::insert(tx, &run_id, new.label.as_ref()).await?;
    Ok(Started { thread_id: thread.clone(), run_id, after_sequence: row.try_get("after_sequence")? })
}

/// Gives the first held run of a thread its turn. The caller holds the thread's lock and has ended the run before.
///
/// Gives the thread's newest event, or `None` if nothing is held. The held runs of a deleted thread are dropped.
pub(crate) async fn promote(tx: &mut PgConnection, thread: &ThreadId) -> Result<Option<i64>> {
    let is_deleted: bool = sqlx::query_scalar("select deleted_at is not null from threads where id = $1")
        .bind(thread.as_str())
        .fetch_one(&mut *tx)
        .await?;
    if is_deleted {
        drop_all(tx, thread, None).await?;
        return Ok(None);
    }
    let row = sqlx::query(
        "-- promote: pick
         select id, held_messages from runs where thread_id = $1 and status = 'held' order by place limit 1",
    )
    .bind(thread.as_str())
    .fetch_optional(&mut *tx)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let run: RunId = row.parse("id")?;
    let messages: Vec<HeldMessage> = row.json("held_messages")?;
    let ids: Vec<String> = messages.iter().map(|_| MessageId::generate().into()).collect();
    let row = sqlx::query(
        "-- promote
         with run as (
             update runs
             set status = 'queued', message_id = $3[cardinality($3::text[])], held_messages = null, place = null
             where id = $2 and status = 'held'
             returning id
         ), thread as (
             update threads t
             set status = 'running',
                 held = t.held - 1,
                 message_count = t.message_count + cardinality($3::text[]),
                 last_message_at = now(),
                 last_message_preview = $7,
                 started_at = coalesce(t.started_at, now()),
                 completed_at = null,
                 stop_reason = null,
                 updated_at = now()
             from run
             where t.id = $1
             returning t.id, t.last_sequence,
                 t.message_count + t.superseded_count - cardinality($3::text[]) as position
         ), new_messages as (
             insert into messages (id, thread_id, position, role, content, run_id, metadata)
             select m.id, thread.id, thread.position + m.n - 1, m.role, m.content, $2, m.metadata::jsonb
             from thread, unnest($3::text[], $4::text[], $5::text[], $6::text[])
                 with ordinality as m(id, role, content, metadata, n)
         )
         select last_sequence from thread",
    )
    .bind(thread.as_str())
    .bind(run.as_str())
    .bind(&ids)
    .bind(messages.iter().map(|message| message.role.as_str()).collect::<Vec<_>>())
    .bind(messages.iter().map(|message| message.content.as_str()).collect::<Vec<_>>())
    .bind(messages.iter().map(|m| m.metadata.as_ref().map(|m| to_json(m).to_string())).collect::<Vec<_>>())
    .bind(messages.last().map(|last| preview(&last.content)))
    .fetch_one(tx)
    .await?;
    Ok(Some(row.try_get("last_sequence")?))
}

/// Ends held runs (one, or all) of a thread that the caller has locked. Gives the number of the last event.
pub(crate) async fn drop_all(tx: &mut PgConnection, thread: &ThreadId, only: Option<&RunId>) -> Result<Option<i64>> {
    let event = Event::RunFinished { outcome: Outcome::Cancelled, spent: Spent::default() };
    let row = sqlx::query(
        "-- drop_all
         with dropped as (
             update runs
             set status = 'cancelled', outcome = $3, completed_at = now(), held_messages = null, place = null
             where thread_id = $1 and status = 'held' and ($2::text is null or id = $2)
             returning id
         ), numbered as (
             select id, row_number() over (order by id) as n, count(*) over () as total from dropped
         ), thread as (
             update threads t
             set held = t.held - d.total, last_sequence = t.last_sequence + d.total, updated_at = now()
             from (select count(*)::integer as total from dropped) d
             where t.id = $1 and d.total > 0
             returning t.id, t.last_sequence
         ), new_events as (
             insert into events (thread_id, sequence, run_id, event)
             select thread.id, thread.last_sequence - numbered.total + numbered.n, numbered.id, $4
             from thread, numbered
         )
         select last_sequence from thread",
    )
    .bind(thread.as_str())
    .bind(only.map(RunId::as_str))
    .bind(to_json(&Outcome::Cancelled))
    .bind(to_text(&event))
    .fetch_optional(tx)
    .await?;
    Ok(row.map(|row| row.try_get("last_sequence")).transpose()?)
}

async fn list(connection: &mut PgConnection, project: &ProjectId, thread: &ThreadId) -> Result<Vec<Held>> {
    let rows = sqlx::query(
        "-- list_held
         select r.*, t.environment_id, t.agent_id
         from runs r join threads t on t.id = r.thread_id
         where r.thread_id = $1 and r.project_id = $2 and r.status = 'held'
         order by r.place",
    )
    .bind(thread.as_str())
    .bind(project.as_str())
    .fetch_all(connection)
    .await?;
    rows.iter().map(read).collect()
}

fn read(row: &PgRow) -> Result<Held> {
    let messages: Vec<HeldMessage> = row.json("held_messages")?;
    let content = messages.into_iter().next_back().map(|message| message.content).unwrap_or_default();
    Ok(Held { run: runs::read(row)?, content })
}

impl From<&NewMessage> for HeldMessage {
    fn from(message: &NewMessage) -> Self {
        Self {
            role: message.role.as_str().to_owned(),
            content: message.content.clone(),
            metadata: message.metadata.clone(),
        }
    }
}

/// Makes a user's message.
impl From<String> for NewMessage {
    fn from(content: String) -> Self {
        Self { role: Role::User, content, metadata: None }
    }
}
