//! Runs: started by a message, listed, cancelled. Driving one needs a lease and is in `leases`.

use std::time::Duration;

use chrono::{DateTime, Utc};
use domain::{
    EnvironmentId, MessageId, ProjectId, RunId, ThreadId,
    event::{Event, LogLevel},
    message::Role,
    run::{Outcome, Run, RunKind, RunOptions, RunStatus},
    run_label::RunLabel,
    thread::Thread,
    title,
};
use sqlx::{PgConnection, Row, postgres::PgRow};

use crate::{
    Error, Page, Paged, Result, Store,
    events::to_text,
    leases,
    messages::{NewMessage, Order, preview},
    permissions, responses,
    rewind::{self, Rewind},
    row::{ReadColumn, to_json},
    run_labels,
    secrets::{self, SealedSecrets},
    subagents,
    threads::{self, NewThread},
};

/// What a new run is made of.
#[derive(Debug, Clone, Default)]
pub struct NewRun {
    /// An id of the caller's choice, else one is made.
    pub id: Option<RunId>,
    /// At least one; the last is from the user and causes the run.
    pub messages: Vec<NewMessage>,
    pub options: RunOptions,
    pub idempotency: Option<Idempotency>,
    /// Takes the thread back to before one of its messages first.
    pub rewind: Option<Rewind>,
    /// Sealed for its id, which is then given.
    pub secrets: SealedSecrets,
    pub label: Option<RunLabel>,
}

/// What makes a retried request the same request.
#[derive(Debug, Clone)]
pub struct Idempotency {
    pub key: String,
    pub request_hash: Vec<u8>,
}

/// A run that was accepted, now or by the request that this one repeats.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Started {
    pub thread_id: ThreadId,
    pub run_id: RunId,
    /// The run's events are those after this number.
    pub after_sequence: i64,
}

/// Which runs of a thread are listed.
#[derive(Debug, Clone, Default)]
pub struct RunFilter {
    pub status: Option<RunStatus>,
    pub kind: Option<RunKind>,
    /// Those that this run has called; without it those that nobody has called.
    pub parent: Option<RunId>,
}

impl Store {
    /// Starts a run in a thread: messages, run, first event and the thread's new state, all or nothing.
    ///
    /// # Errors
    /// `NotFound` for a thread that is not the project's; `Busy` if a run is under way; `State` if the environment was
    /// deleted; `KeyReused` if the idempotency key came with another request; `Conflict` if the chosen id is taken.
    pub async fn start_run(&self, project: &ProjectId, thread: &ThreadId, new: NewRun) -> Result<Started> {
        if new.idempotency.is_none() && new.rewind.is_none() && new.secrets.is_empty() && new.label.is_none() {
            // One statement, one commit.
            let mut connection = self.pool.acquire().await?;
            let started = start(&mut connection, project, thread, &new, false).await?;
            drop(connection);
            return Ok(self.hint_started(started));
        }
        let mut tx = self.pool.begin().await?;
        if let Some(Remembered { started: Some(started), .. }) =
            find_repeated(&mut tx, project, new.idempotency.as_ref()).await?
        {
            return Ok(started);
        }
        let started = start(&mut tx, project, thread, &new, false).await?;
        remember(&mut tx, project, new.idempotency.as_ref(), thread, Some(&started.run_id)).await?;
        tx.commit().await?;
        Ok(self.hint_started(started))
    }

    /// Makes a thread together with its first run, all or nothing.
    pub async fn create_thread_with_run(
        &self,
        project: &ProjectId,
        new_thread: NewThread,
        new: NewRun,
    ) -> Result<(Thread, Started)> {
        let mut tx = self.pool.begin().await?;
        if let Some(Remembered { thread_id, started: Some(started) }) =
            find_repeated(&mut tx, project, new.idempotency.as_ref()).await?
        {
            let thread = threads::get(&mut tx, project, &thread_id).await?;
            return Ok((thread, started));
        }
        let id = threads::insert(&mut tx, project, &new_thread).await?;
        let started = start(&mut tx, project, &id, &new, true).await?;
        remember(&mut tx, project, new.idempotency.as_ref(), &id, Some(&started.run_id)).await?;
        let thread = threads::get(&mut tx, project, &id).await?;
        tx.commit().await?;
        Ok((thread, self.hint_started(started)))
    }

    /// Makes a thread without any work to do, or gives the one that the request made which this one repeats.
    pub async fn create_thread_once(
        &self,
        project: &ProjectId,
        new: NewThread,
        idempotency: &Idempotency,
    ) -> Result<Thread> {
        let mut tx = self.pool.begin().await?;
        if let Some(remembered) = find_repeated(&mut tx, project, Some(idempotency)).await? {
            return threads::get(&mut tx, project, &remembered.thread_id).await;
        }
        let id = threads::insert(&mut tx, project, &new).await?;
        remember(&mut tx, project, Some(idempotency), &id, None).await?;
        let thread = threads::get(&mut tx, project, &id).await?;
        tx.commit().await?;
        Ok(thread)
    }

    /// Tells whether a request with this key was carried out before.
    pub async fn is_repeated(&self, project: &ProjectId, idempotency: &Idempotency) -> Result<bool> {
        let mut tx = self.pool.begin().await?;
        Ok(find_repeated(&mut tx, project, Some(idempotency)).await?.is_some())
    }

    pub(crate) fn hint_started(&self, started: Started) -> Started {
        self.hub.hint_work();
        self.hub.hint_events(&started.thread_id, started.after_sequence + 1);
        started
    }

    /// Finds a run of the project.
    pub async fn find_run(&self, project: &ProjectId, id: &RunId) -> Result<Option<Run>> {
        let row = sqlx::query(
            "-- find_run
             select r.*, t.environment_id, t.agent_id
             from runs r join threads t on t.id = r.thread_id
             where r.project_id = $1 and r.id = $2",
        )
        .bind(project.as_str())
        .bind(id.as_str())
        .fetch_optional(&self.pool)
        .await?;
        row.as_ref().map(read).transpose()
    }

    /// Lists the runs of a thread.
    pub async fn list_runs(
        &self,
        project: &ProjectId,
        thread: &ThreadId,
        status: Option<RunStatus>,
        order: Order,
        page: Page,
    ) -> Result<Paged<Run>> {
        self.list_runs_of(project, thread, &RunFilter { status, ..RunFilter::default() }, order, page).await
    }

    /// The same, of some of them.
    pub async fn list_runs_of(
        &self,
        project: &ProjectId,
        thread: &ThreadId,
        only: &RunFilter,
        order: Order,
        page: Page,
    ) -> Result<Paged<Run>> {
        let filter = "r.project_id = $1 and r.thread_id = $2 and ($3::text is null or r.status = $3)
               and ($4::text is null or coalesce(r.options ->> 'kind', 'message') = $4)
               and r.parent_run_id is not distinct from $5";
        // A thread's events are numbered in the order of its runs.
        let order = match order {
            Order::OldestFirst => "asc",
            Order::NewestFirst => "desc",
        };
        let rows = sqlx::query(sqlx::AssertSqlSafe(format!(
            "-- list_runs
             select r.*, t.environment_id, t.agent_id
             from runs r join threads t on t.id = r.thread_id
             where {filter}
             order by r.after_sequence {order}
             limit $6 offset $7"
        )))
        .bind(project.as_str())
        .bind(thread.as_str())
        .bind(only.status.map(RunStatus::as_str))
        .bind(only.kind.map(RunKind::as_str))
        .bind(only.parent.as_ref().map(RunId::as_str))
        .bind(page.limit)
        .bind(page.offset)
        .fetch_all(&self.pool)
        .await?;
        let total = sqlx::query_scalar(sqlx::AssertSqlSafe(format!(
            "-- list_runs: total
             select count(*) from runs r where {filter}"
        )))
        .bind(project.as_str())
        .bind(thread.as_str())
        .bind(only.status.map(RunStatus::as_str))
        .bind(only.kind.map(RunKind::as_str))
        .bind(only.parent.as_ref().map(RunId::as_str))
        .fetch_one(&self.pool)
        .await?;
        Ok(Paged { items: rows.iter().map(read).collect::<Result<_>>()?, total })
    }

    /// Asks the run under way to stop; `None` if there is none. A run that no worker has is over at once.
    ///
    /// A message that is held behind it has its turn then: what was cancelled is the run, not the thread.
    pub async fn cancel_active_run(&self, project: &ProjectId, thread: &ThreadId) -> Result<Option<RunId>> {
        let mut tx = self.pool.begin().await?;
        let Some(active) = stop_active(&mut tx, project, thread, None).await? else { return Ok(None) };
        let finished = finish_idle(&mut tx, &active, &Outcome::Cancelled).await?;
        tx.commit().await?;
        self.hub.hint_cancel(&active.id);
        if let Some(finished) = &finished {
            self.hint_finished(thread, finished);
        }
        Ok(Some(active.id))
    }
}

/// The word for a cancel that makes room for another message.
pub(crate) const INTERRUPTED: &str = "interrupted";

/// A thread's run under way, locked.
pub(crate) struct Active {
    pub id: RunId,
    pub status: RunStatus,
}

/// Asks the thread's run under way to stop, and locks it.
pub(crate) async fn stop_active(
    tx: &mut PgConnection,
    project: &ProjectId,
    thread: &ThreadId,
    reason: Option<&str>,
) -> Result<Option<Active>> {
    let row = sqlx::query(
        "-- stop_active
         update runs
         set cancel_requested_at = coalesce(cancel_requested_at, now()),
             cancel_reason = case when cancel_requested_at is null then $3 else cancel_reason end
         where project_id = $1
           and thread_id = $2
           and parent_run_id is null
           and status not in ('held', 'completed', 'failed', 'cancelled')
         returning id, status",
    )
    .bind(project.as_str())
    .bind(thread.as_str())
    .bind(reason)
    .fetch_optional(tx)
    .await?;
    row.map(|row| Ok(Active { id: row.parse("id")?, status: row.parse("status")? })).transpose()
}

/// Ends a run under way at once if no worker has it. One that a worker has ends when that worker has seen the request.
pub(crate) async fn finish_idle(
    tx: &mut PgConnection,
    active: &Active,
    outcome: &Outcome,
) -> Result<Option<leases::Finished>> {
    if active.status == RunStatus::Running {
        return Ok(None);
    }
    let row = sqlx::query("select * from runs where id = $1").bind(active.id.as_str()).fetch_one(&mut *tx).await?;
    // One that was given back may have processes left. It is claimed again in a moment, by a worker that sees the
    // request and winds it up.
    if active.status == RunStatus::Queued && row.try_get::<i32, _>("attempt")? > 0 {
        return Ok(None);
    }
    // Its calls that wait for a decision will never be made; the thread's next run must find them answered.
    permissions::close(tx, &active.id).await?;
    permissions::abandon(tx, &active.id).await?;
    // What it has used so far is in its row; the event tells it.
    leases::finish(tx, &active.id, None, outcome, row.spent()?).await
}

pub(crate) async fn start(
    connection: &mut PgConnection,
    project: &ProjectId,
    thread: &ThreadId,
    new: &NewRun,
    is_new_thread: bool,
) -> Result<Started> {
    let run_id = new.id.clone().unwrap_or_else(RunId::generate);
    let mut events = Vec::new();
    let ids: Vec<String> = new.messages.iter().map(|_| MessageId::generate().into()).collect();
    let last = new.messages.last().expect("callers pass at least one message");
    let title = title::from_text(&last.content);
    if is_new_thread {
        // The environment's id is filled in below, where it is known.
        events.push(None);
    }
    events.push(Some(to_text(&Event::RunQueued)));
    if let Some(to) = &new.rewind {
        hold_environment(connection, thread).await?;
        let left = rewind::rewind(connection, project, thread, to, &run_id).await?;
        let message = format!("The thread was rewound: what came after its first {left} messages no longer counts.");
        events.push(Some(to_text(&Event::Log { level: LogLevel::Info, topic: "rewind".into(), message })));
    }

    let row = sqlx::query(
        "-- start
         with environment as (
             -- Held until the run is there: a deletion that comes meanwhile waits, and then finds the run.
             select e.id
             from threads t join environments e on e.id = t.environment_id
             where t.id = $1 and e.deleted_at is null
             for share of e
         ), thread as (
             update threads t
             set status = 'running',
                 title = coalesce(t.title, $5),
                 task = coalesce(t.task, $6),
                 message_count = t.message_count + cardinality($7::text[]),
                 last_message_at = now(),
                 last_message_preview = $11,
                 last_sequence = t.last_sequence + cardinality($12::text[]),
                 started_at = coalesce(t.started_at, now()),
                 completed_at = null,
                 stop_reason = null,
                 updated_at = now()
             from environment e
             where t.id = $1
               and t.project_id = $2
               and t.deleted_at is null
               and t.status not in ('running', 'permission_asked')
               and e.id = t.environment_id
             returning t.id, t.project_id, t.environment_id,
                 t.message_count + t.superseded_count - cardinality($7::text[]) as position,
                 t.last_sequence - cardinality($12::text[]) as sequence
         ), run as (
             insert into runs (id, thread_id, project_id, message_id, status, options, after_sequence)
             select $3, id, project_id, $7[cardinality($7::text[])], 'queued', $4, sequence from thread
         ), new_messages as (
             insert into messages (id, thread_id, position, role, content, run_id, metadata)
             select m.id, thread.id, thread.position + m.n - 1, m.role, m.content, $3, m.metadata::jsonb
             from thread, unnest($7::text[], $8::text[], $9::text[], $10::text[])
                 with ordinality as m(id, role, content, metadata, n)
         ), new_events as (
             insert into events (thread_id, sequence, run_id, event)
             select thread.id, thread.sequence + e.n, $3, coalesce(
                 e.event,
                 json_build_object('kind', 'thread_created', 'environment_id', thread.environment_id)::text
             )
             from thread, unnest($12::text[]) with ordinality as e(event, n)
         )
         select sequence from thread",
    )
    .bind(thread.as_str())
    .bind(project.as_str())
    .bind(run_id.as_str())
    .bind(to_json(&new.options))
    .bind(title)
    .bind(&last.content)
    .bind(&ids)
    .bind(new.messages.iter().map(|message| message.role.as_str()).collect::<Vec<_>>())
    .bind(new.messages.iter().map(|message| message.content.as_str()).collect::<Vec<_>>())
    .bind(new.messages.iter().map(|m| m.metadata.as_ref().map(|m| to_json(m).to_string())).collect::<Vec<_>>())
    .bind(preview(&last.content))
    .bind(&events)
    .fetch_optional(&mut *connection)
    .await
    .map_err(|err| id_taken(err, &run_id))?;
    match row {
        Some(row) => {
            secrets::insert(connection, &run_id, &new.secrets).await?;
            run_labels::insert(connection, &run_id, new.label.as_ref()).await?;
            Ok(Started { thread_id: thread.clone(), run_id, after_sequence: row.try_get("sequence")? })
        }
        None => Err(why_not_started(connection, project, thread).await?),
    }
}

/// Takes the environment's row before the thread's, as the statement does that starts a run.
async fn hold_environment(connection: &mut PgConnection, thread: &ThreadId) -> Result<()> {
    sqlx::query(
        "-- hold_environment
         select 1 from threads t join environments e on e.id = t.environment_id where t.id = $1 for share of e",
    )
    .bind(thread.as_str())
    .execute(connection)
    .await?;
    Ok(())
}

/// Tells whether an id of the caller's choice was the trouble.
pub(crate) fn id_taken(err: sqlx::Error, run: &RunId) -> Error {
    match err.as_database_error().and_then(|err| err.constraint()) {
        Some("runs_pkey") => Error::Conflict(format!("a run with the id {run} exists already")),
        _ => err.into(),
    }
}

/// Finds out why a run could not start.
async fn why_not_started(connection: &mut PgConnection, project: &ProjectId, thread: &ThreadId) -> Result<Error> {
    let row = sqlx::query(
        "-- why_not_started
         select e.deleted_at is not null as is_homeless
         from threads t join environments e on e.id = t.environment_id
         where t.id = $1 and t.project_id = $2 and t.deleted_at is null",
    )
    .bind(thread.as_str())
    .bind(project.as_str())
    .fetch_optional(connection)
    .await?;
    Ok(match row {
        None => Error::not_found("Thread", thread),
        Some(row) if row.try_get("is_homeless")? => Error::State(
            "the thread's environment was deleted: set another environmentId on the thread to go on".into(),
        ),
        Some(_) => Error::Busy,
    })
}

/// What an idempotency key stands for.
pub(crate) struct Remembered {
    pub thread_id: ThreadId,
    /// The run, if the request started one.
    pub started: Option<Started>,
}

/// Takes the idempotency key, or finds what the first request with it did.
pub(crate) async fn find_repeated(
    tx: &mut PgConnection,
    project: &ProjectId,
    idempotency: Option<&Idempotency>,
) -> Result<Option<Remembered>> {
    let Some(idempotency) = idempotency else { return Ok(None) };
    // The lock makes the second of two simultaneous requests wait for the first one's rows.
    sqlx::query("select pg_advisory_xact_lock(hashtextextended($1 || '/' || $2, 0))")
        .bind(project.as_str())
        .bind(&idempotency.key)
        .execute(&mut *tx)
        .await?;
    let row = sqlx::query(
        "-- find_repeated
         select k.request_hash, k.thread_id, r.id as run_id, r.after_sequence
         from idempotency_keys k left join runs r on r.id = k.run_id
         where k.project_id = $1 and k.key = $2 and k.created_at > now() - interval '24 hours'",
    )
    .bind(project.as_str())
    .bind(&idempotency.key)
    .fetch_optional(&mut *tx)
    .await?;
    let Some(row) = row else { return responses::check_unused(tx, project, &idempotency.key).await.map(|()| None) };
    if row.try_get::<&[u8], _>("request_hash")? != idempotency.request_hash {
        return Err(Error::KeyReused);
    }
    let thread_id: ThreadId = row.parse("thread_id")?;
    let started = match row.parse_optional::<RunId>("run_id")? {
        Some(run_id) => {
            Some(Started { thread_id: thread_id.clone(), run_id, after_sequence: row.try_get("after_sequence")? })
        }
        None => None,
    };
    Ok(Some(Remembered { thread_id, started }))
}

pub(crate) async fn remember(
    tx: &mut PgConnection,
    project: &ProjectId,
    idempotency: Option<&Idempotency>,
    thread: &ThreadId,
    run: Option<&RunId>,
) -> Result<()> {
    let Some(idempotency) = idempotency else { return Ok(()) };
    sqlx::query(
        "-- remember
         insert into idempotency_keys (project_id, key, request_hash, thread_id, run_id)
         values ($1, $2, $3, $4, $5)
         on conflict on constraint idempotency_keys_pkey do update
         set request_hash = excluded.request_hash, thread_id = excluded.thread_id, run_id = excluded.run_id,
             created_at = now()",
    )
    .bind(project.as_str())
    .bind(&idempotency.key)
    .bind(&idempotency.request_hash)
    .bind(thread.as_str())
    .bind(run.map(RunId::as_str))
    .execute(tx)
    .await?;
    Ok(())
}

/// Reads a run joined with its thread's environment and agent.
pub(crate) fn read(row: &PgRow) -> Result<Run> {
    let options: RunOptions = row.json("options")?;
    let agent_id = match &options.subagent {
        // It is another agent than the thread's.
        Some(task) => task.agent_id.clone(),
        None => row.parse_optional("agent_id")?,
    };
    Ok(Run {
        id: row.parse("id")?,
        thread_id: row.parse("thread_id")?,
        project_id: row.parse("project_id")?,
        environment_id: row.parse::<EnvironmentId>("environment_id")?,
        agent_id,
        agent_version_id: row.parse_optional("agent_version_id")?,
        message_id: row.parse_optional("message_id")?,
        status: row.parse("status")?,
        options,
        attempt: row.try_get("attempt")?,
        fruitless_attempts: row.try_get("fruitless_attempts")?,
        first_sequence: row.try_get::<i64, _>("after_sequence")? + 1,
        fallback_model: row.try_get("fallback_model")?,
        outcome: row.json_optional("outcome")?,
        spent: row.spent()?,
        turns: row.try_get("turns")?,
        calls: row.try_get("calls")?,
        is_cancel_requested: row.try_get::<Option<DateTime<Utc>>, _>("cancel_requested_at")?.is_some(),
        is_interrupt: row.try_get::<Option<&str>, _>("cancel_reason")? == Some(INTERRUPTED),
        is_pause_requested: row.try_get::<Option<DateTime<Utc>>, _>("pause_requested_at")?.is_some(),
        steers: row.try_get("steers")?,
        worked: Duration::from_millis(row.try_get::<i64, _>("worked_ms")?.unsigned_abs()),
        parked_at: row.try_get("parked_at")?,
        place: subagents::read_place(row)?,
        queued_at: row.try_get("queued_at")?,
        started_at: row.try_get("started_at")?,
        completed_at: row.try_get("completed_at")?,
    })
}

/// Makes a user's message.
impl From<&str> for NewMessage {
    fn from(content: &str) -> Self {
        Self { role: Role::User, content: content.to_owned(), metadata: None }
    }
}
