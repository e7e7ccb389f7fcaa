//! Calls that somebody must allow: asked about in a run's checkpoint, decided once, acted upon once.
//!
//! A request is written together with the reply that holds the call, so a call without a request was free to begin, and a
//! call with one has not begun before `taken_at` says so. The run's row counts its open requests: whoever decides the last
//! one and the worker that is about to park the run change the same row, so that neither misses the other.
//!
//! Lock order: the run, then the thread, then its requests.

use std::time::Duration;

use domain::{
    PermissionRequestId, ProjectId, RunId, ThreadId,
    event::{DecidedCall, Event, Item, ToolCall, ToolResult},
    permission::{Decided, Decider, Decision, Request},
    webhook::Notice,
};
use serde_json::value::RawValue;
use sqlx::{PgConnection, Row, postgres::PgRow};

use crate::{
    Error, Result, Store,
    events::to_text,
    leases::Lease,
    row::ReadColumn,
    subagents,
    webhooks::{self, HAS_WEBHOOKS},
};

/// A call to be asked about.
#[derive(Debug, Clone)]
pub struct NewRequest {
    pub id: PermissionRequestId,
    pub call_id: String,
    pub tool: String,
    /// JSON, as the model wrote it.
    pub input: String,
    pub rule: String,
    /// The transcript's entry (a user's) that answers the call if the run is stopped before it was begun.
    pub unanswered: String,
    pub ttl: Duration,
}

/// What somebody wants to be done with a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    pub decision: Decision,
    pub reason: Option<String>,
    /// A JSON object to make the call with instead of the model's input; only counts with [`Decision::Allow`].
    pub updated_input: Option<String>,
}

/// How a request stands after somebody tried to decide it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settled {
    pub request: Request,
    /// It was this wish that decided it.
    pub is_yours: bool,
}

/// What became of a run that was to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parking {
    /// It waits, and the lease is over.
    Parked,
    /// Everything is decided by now: the worker goes on.
    Decided,
    /// Somebody wants the run stopped. The lease is good.
    CancelRequested,
}

/// What the model and people read about a call whose run was stopped before anybody decided about it.
pub const UNANSWERED: &str = "The user stopped the run before this call was allowed. It was not made.";

impl Store {
    /// Lists a thread's requests that nobody has decided, oldest first.
    pub async fn list_open_requests(&self, project: &ProjectId, thread: &ThreadId) -> Result<Vec<Request>> {
        let rows = sqlx::query(
            "-- list_open_requests
             select * from permission_requests
             where project_id = $1 and thread_id = $2 and decided_at is null and expires_at > now()
             order by id",
        )
        .bind(project.as_str())
        .bind(thread.as_str())
        .fetch_all(&self.pool)
        .await?;
        rows.iter().map(read).collect()
    }

    /// Gives the newest request about each of these calls of a thread, as far as there are any.
    pub async fn list_requests_of(&self, thread: &ThreadId, call_ids: &[&str]) -> Result<Vec<Request>> {
        let rows = sqlx::query(
            "-- list_requests_of
             select distinct on (call_id) * from permission_requests
             where thread_id = $1 and call_id = any($2)
             order by call_id, id desc",
        )
        .bind(thread.as_str())
        .bind(call_ids)
        .fetch_all(&self.pool)
        .await?;
        rows.iter().map(read).collect()
    }

    /// Decides a request, unless that has happened. The last one of a waiting run makes the run claimable.
    ///
    /// # Errors
    /// `NotFound` for a request that is not the thread's, or a thread that is not the project's.
    pub async fn decide_request(
        &self,
        project: &ProjectId,
        thread: &ThreadId,
        request: &PermissionRequestId,
        wish: &Wish,
    ) -> Result<Settled> {
        let run = sqlx::query(
            "-- decide_request: find
             select p.run_id
             from permission_requests p join threads t on t.id = p.thread_id
             where p.id = $1 and p.thread_id = $2 and p.project_id = $3 and t.deleted_at is null",
        )
        .bind(request.as_str())
        .bind(thread.as_str())
        .bind(project.as_str())
        .fetch_optional(&self.pool)
        .await?
        .ok_or_else(|| Error::not_found("Permission request", request))?;
        self.settle(&run.parse("run_id")?, request, Some(wish)).await
    }

    /// Denies the requests that nobody has decided in time. Gives how many there were.
    pub async fn expire_requests(&self) -> Result<usize> {
        let rows = sqlx::query(
            "-- expire_requests
             select id, run_id from permission_requests
             where decided_at is null and expires_at <= now()
             order by expires_at
             limit 100",
        )
        .fetch_all(&self.pool)
        .await?;
        let mut expired = 0;
        for row in &rows {
            let settled = self.settle(&row.parse("run_id")?, &row.parse("id")?, None).await?;
            expired += usize::from(settled.is_yours);
        }
        Ok(expired)
    }

    /// Decides a request by a wish, or by its expiry; past that, every wish finds it denied.
    async fn settle(&self, run: &RunId, request: &PermissionRequestId, wish: Option<&Wish>) -> Result<Settled> {
        let mut tx = self.pool.begin().await?;
        // First the run: whoever parks, finishes or decides another request of it waits here. And those that have called it.
        let agent = subagents::lock_chain(&mut tx, run).await?;
        let row = sqlx::query("select *, expires_at <= now() as is_late from permission_requests where id = $1")
            .bind(request.as_str())
            .fetch_one(&mut *tx)
            .await?;
        let before = read(&row)?;
        if before.decided.is_some() {
            return Ok(Settled { request: before, is_yours: false });
        }
        let is_sweep = wish.is_none();
        let (by, wish) = match wish {
            Some(wish) if !row.try_get::<bool, _>("is_late")? => (Decider::User, wish.clone()),
            Some(_) | None => {
                let reason = "Nobody decided in time.".to_owned();
                (Decider::Expiry, Wish { decision: Decision::Deny, reason: Some(reason), updated_input: None })
            }
        };
        let decided = DecidedCall {
            request_id: before.id,
            call_id: before.call_id,
            tool: before.tool,
            decision: wish.decision,
            by,
            reason: wish
                .reason
                .map(|reason| reason.replace('\0', "\u{fffd}"))
                .filter(|reason| !reason.trim().is_empty()),
            updated_input: wish.updated_input.filter(|_| wish.decision == Decision::Allow),
        };
        let row = sqlx::query(
            "-- settle
             with decided as (
                 update permission_requests
                 set decision = $2, decided_by = $3, decided_at = now(), reason = $4, updated_input = $5
                 where id = $1 and decided_at is null
                 returning *
             ), run as (
                 update runs r
                 set open_requests = r.open_requests - 1,
                     status = case when r.status = 'waiting' and r.open_requests = 1 then 'queued' else r.status end
                 from decided
                 where r.id = decided.run_id
                 returning r.id, r.status, r.open_requests, r.root_run_id
             ), thread as (
                 update threads t
                 set last_sequence = t.last_sequence + 1,
                     status = case
                         -- Beside the run others may wait: agents that the same run has called.
                         when (run.status = 'queued' or (run.status = 'paused' and run.open_requests = 0))
                             and not exists (
                                 select 1 from permission_requests o
                                 where o.thread_id = t.id and o.decided_at is null and o.id <> $1
                             ) then 'running'
                         else t.status
                     end,
                     updated_at = now()
                 from decided, run
                 where t.id = decided.thread_id
                 returning t.id, t.last_sequence
             ), new_event as (
                 insert into events (thread_id, sequence, run_id, event, branch)
                 select thread.id, thread.last_sequence, coalesce(run.root_run_id, run.id), $6,
                     case when run.root_run_id is not null then run.id end
                 from thread, run
             )
             select decided.*, thread.last_sequence, run.status from decided, thread, run",
        )
        .bind(request.as_str())
        .bind(decided.decision.as_str())
        .bind(decided.by.as_str())
        .bind(&decided.reason)
        .bind(&decided.updated_input)
        .bind(to_text(&Event::PermissionDecided { decided: decided.clone() }.told_of(agent.as_ref())))
        .fetch_one(&mut *tx)
        .await?;
        let request = read(&row)?;
        let sequence = row.try_get("last_sequence")?;
        let is_queued = row.try_get::<&str, _>("status")? == "queued";
        if is_queued && agent.is_some() {
            subagents::wake_callers(&mut tx, run).await?;
        }
        tx.commit().await?;
        self.hub.hint_events(&request.thread_id, sequence);
        if is_queued {
            self.hub.hint_work();
        }
        // A wish that came too late decided nothing, though its coming did.
        Ok(Settled { request, is_yours: by == Decider::User || is_sweep })
    }

    /// Lets the run wait for the decisions that are still open. The lease is over if it does.
    ///
    /// After `Unavailable` it may or may not wait; a second call then says `LeaseLost` if it does.
    pub async fn park_waiting(&self, lease: &Lease) -> Result<Parking> {
        let mut tx = self.pool.begin().await?;
        let row = sqlx::query(sqlx::AssertSqlSafe(format!(
            "-- park_waiting
             with run as (
                 update runs
                 set status = 'waiting',
                     lease_token = null,
                     lease_node = null,
                     lease_until = null,
                     fruitless_attempts = 0,
                     parked_at = now()
                 where id = $1 and lease_token = $2 and status = 'running' and open_requests > 0
                   and cancel_requested_at is null
                 -- Others know the run that a message caused, not the agents that it calls.
                 returning thread_id, coalesce(root_run_id, id) as root_run_id
             ), thread as (
                 update threads t
                 set status = 'permission_asked', updated_at = now()
                 from run
                 where t.id = run.thread_id
                 returning t.id, t.project_id, t.environment_id, t.agent_id, run.root_run_id
             )
             select thread.*, {HAS_WEBHOOKS} from thread"
        )))
        .bind(lease.run_id.as_str())
        .bind(lease.token())
        .fetch_optional(&mut *tx)
        .await?;
        if let Some(row) = row {
            let (run, thread) = (row.parse("root_run_id")?, lease.thread_id.clone());
            webhooks::tell_of_run(&mut tx, &row, run, thread, Notice::RunWaiting).await?;
            tx.commit().await?;
            return Ok(Parking::Parked);
        }
        drop(tx);
        let row = sqlx::query(
            "-- park_waiting: why not
             select cancel_requested_at is not null as is_cancel_requested
             from runs
             where id = $1 and lease_token = $2 and status = 'running'",
        )
        .bind(lease.run_id.as_str())
        .bind(lease.token())
        .fetch_optional(&self.pool)
        .await?
        .ok_or(Error::LeaseLost)?;
        Ok(if row.try_get("is_cancel_requested")? { Parking::CancelRequested } else { Parking::Decided })
    }
}

/// Denies what is still open of a run that ends, with an event each. The caller has locked the run, or locks it by this.
pub(crate) async fn close(tx: &mut PgConnection, run: &RunId) -> Result<()> {
    let rows = sqlx::query(
        "-- close
         with run as (
             update runs set open_requests = 0 where id = $1 and open_requests > 0 returning id
         )
         update permission_requests p
         set decision = 'deny', decided_by = 'cancel', decided_at = now(), reason = 'The run ended first.'
         from run
         where p.run_id = run.id and p.decided_at is null
         returning p.*",
    )
    .bind(run.as_str())
    .fetch_all(&mut *tx)
    .await?;
    let mut closed = rows.iter().map(read).collect::<Result<Vec<_>>>()?;
    closed.sort_by(|a, b| a.id.cmp(&b.id));
    let events = closed.iter().map(|request| Event::PermissionDecided {
        decided: DecidedCall {
            request_id: request.id.clone(),
            call_id: request.call_id.clone(),
            tool: request.tool.clone(),
            decision: Decision::Deny,
            by: Decider::Cancel,
            reason: request.decided.as_ref().and_then(|decided| decided.reason.clone()),
            updated_input: None,
        },
    });
    append(tx, run, &events.collect::<Vec<_>>(), &[]).await
}

/// Answers the calls of a run that nobody has begun and nobody will, since no worker has the run. The caller has locked it.
pub(crate) async fn abandon(tx: &mut PgConnection, run: &RunId) -> Result<()> {
    let rows = sqlx::query(
        "-- abandon
         update permission_requests set taken_at = now() where run_id = $1 and taken_at is null returning *",
    )
    .bind(run.as_str())
    .fetch_all(&mut *tx)
    .await?;
    let mut calls = Vec::new();
    for row in &rows {
        calls.push((read(row)?, row.try_get::<String, _>("unanswered")?));
    }
    calls.sort_by(|(a, _), (b, _)| a.id.cmp(&b.id));
    let result = ToolResult { is_error: true, text: UNANSWERED.to_owned(), duration_ms: 0, detail: None };
    let mut events = Vec::new();
    for (request, _) in &calls {
        let input = RawValue::from_string(request.input.clone()).map_err(Error::unreadable("a call's input"))?;
        let (id, name) = (request.call_id.clone(), request.tool.clone());
        let item = Item::ToolCall(ToolCall { id, name, input, result: Some(result.clone()) });
        events.push(Event::ItemCompleted { item });
    }
    let entries: Vec<_> = calls.into_iter().map(|(_, entry)| entry).collect();
    append(tx, run, &events, &entries).await
}

/// Appends events, and a user's entries of the transcript, to the thread of a run that the caller has locked.
async fn append(tx: &mut PgConnection, run: &RunId, events: &[Event], entries: &[String]) -> Result<()> {
    if events.is_empty() && entries.is_empty() {
        return Ok(());
    }
    let agent = subagents::find(tx, run).await?;
    let events = events.iter().map(|event| to_text(&event.clone().told_of(agent.as_ref())));
    sqlx::query(
        "-- append
         with thread as (
             update threads t
             set last_sequence = t.last_sequence + cardinality($2::text[]),
                 last_position = t.last_position + cardinality($3::text[])
             from runs r
             where r.id = $1 and t.id = r.thread_id
             returning t.id, t.last_sequence - cardinality($2::text[]) as sequence,
                 t.last_position - cardinality($3::text[]) as position,
                 coalesce(r.root_run_id, r.id) as run_id, case when r.root_run_id is not null then r.id end as branch
         ), new_events as (
             insert into events (thread_id, sequence, run_id, event, branch)
             select thread.id, thread.sequence + e.n, thread.run_id, e.event, thread.branch
             from thread, unnest($2::text[]) with ordinality as e(event, n)
         )
         insert into transcript (thread_id, position, run_id, role, blocks, branch)
         select thread.id, thread.position + b.n, $1, 'user', b.blocks, thread.branch
         from thread, unnest($3::text[]) with ordinality as b(blocks, n)",
    )
    .bind(run.as_str())
    .bind(events.collect::<Vec<_>>())
    .bind(entries)
    .execute(tx)
    .await?;
    Ok(())
}

fn read(row: &PgRow) -> Result<Request> {
    let decided = match row.parse_optional("decision")? {
        None => None,
        Some(decision) => Some(Decided {
            decision,
            by: row.parse("decided_by")?,
            reason: row.try_get("reason")?,
            updated_input: row.try_get("updated_input")?,
            at: row.try_get("decided_at")?,
        }),
    };
    Ok(Request {
        id: row.parse("id")?,
        project_id: row.parse("project_id")?,
        thread_id: row.parse("thread_id")?,
        run_id: row.parse("run_id")?,
        call_id: row.try_get("call_id")?,
        tool: row.try_get("tool")?,
        input: row.try_get("input")?,
        rule: row.try_get("rule")?,
        created_at: row.try_get("created_at")?,
        expires_at: row.try_get("expires_at")?,
        decided,
        is_taken: row.try_get::<Option<chrono::DateTime<chrono::Utc>>, _>("taken_at")?.is_some(),
    })
}
