//! The right to write a run's progress, and all writes that need it.
//!
//! A worker claims runs and gets a [`Lease`] for each: a token that stands in every `where`. While it works it renews;
//! when it does not (crash, lost network), the lease ends and anybody may claim the run, which gives it a new token. A
//! late writer then finds no row and is told [`Error::LeaseLost`]: the run goes on elsewhere and nothing is written twice.

use std::time::Duration;

use domain::{
    MessageId, RunId, ThreadId,
    event::{Delta, Event},
    run::{Outcome, Run, Spent},
};
use sqlx::{PgConnection, Row};
use uuid::Uuid;

use crate::{
    Error, Result, Store,
    events::to_text,
    hub::CancelHints,
    messages::preview,
    row::{ReadColumn, to_json},
    runs,
};

/// The right to write one run's progress. It is a value, and there is one of it: whoever drives the run owns it.
#[derive(Debug)]
pub struct Lease {
    pub run_id: RunId,
    pub thread_id: ThreadId,
    token: Uuid,
    /// Checkpoints written so far. Each names its number, so one whose answer was lost is not written twice.
    checkpoints: i64,
}

impl Lease {
    /// Gives what renewing needs, for the task that renews beside the work.
    pub fn renewal(&self) -> Renewal {
        Renewal { run_id: self.run_id.clone(), token: self.token }
    }
}

/// The right to renew a lease, and nothing else.
#[derive(Debug, Clone)]
pub struct Renewal {
    pub run_id: RunId,
    token: Uuid,
}

/// A run that was claimed.
#[derive(Debug)]
pub struct Claimed {
    pub lease: Lease,
    pub run: Run,
    /// The thread's newest event, the one that tells of this claim.
    pub last_sequence: i64,
}

/// What a renewal found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Renewed {
    pub is_cancel_requested: bool,
}

/// Progress that is true only as a whole: written in one statement, so it is one commit.
#[derive(Debug, Default)]
pub struct Checkpoint {
    /// Entries for the end of the transcript: role and JSON array of blocks.
    pub transcript: Vec<(&'static str, String)>,
    pub events: Vec<Event>,
    pub turn: Option<Turn>,
    /// Tool calls that ended.
    pub calls: i32,
}

/// One model call: what it used.
#[derive(Debug, Clone)]
pub struct Turn {
    pub model: String,
    pub request_id: Option<String>,
    pub stop_reason: String,
    pub spent: Spent,
    pub duration: Duration,
}

impl Store {
    /// Claims up to `limit` runs that are queued or whose lease has ended, oldest first.
    ///
    /// Each lease is valid for `ttl` from now on the database's clock. The claim itself is an event of the thread.
    pub async fn claim_runs(&self, limit: i64, ttl: Duration) -> Result<Vec<Claimed>> {
        let rows = sqlx::query(
            "-- claim_runs
             with picked as (
                 select id from runs
                 where status = 'queued' or (status = 'running' and lease_until < now())
                 order by queued_at
                 limit $1
                 for update skip locked
             ), claimed as (
                 update runs r
                 set status = 'running',
                     lease_token = gen_random_uuid(),
                     lease_node = $2,
                     lease_until = now() + $3,
                     attempt = r.attempt + 1,
                     fruitless_attempts = r.fruitless_attempts + 1,
                     started_at = coalesce(r.started_at, now())
                 from picked
                 where r.id = picked.id
                 returning r.*
             ), thread as (
                 update threads t
                 set last_sequence = t.last_sequence + 1
                 from claimed
                 where t.id = claimed.thread_id
                 returning t.id, t.environment_id, t.agent_id, t.last_sequence
             ), new_events as (
                 insert into events (thread_id, sequence, run_id, event)
                 select thread.id, thread.last_sequence, claimed.id, case claimed.attempt
                     when 1 then $4
                     else json_build_object('kind', 'run_resumed', 'attempt', claimed.attempt)::text
                 end
                 from claimed join thread on thread.id = claimed.thread_id
             )
             select claimed.*, thread.environment_id, thread.agent_id, thread.last_sequence
             from claimed join thread on thread.id = claimed.thread_id",
        )
        .bind(limit)
        .bind(&*self.node)
        .bind(ttl)
        .bind(to_text(&Event::RunStarted))
        .fetch_all(&self.pool)
        .await?;
        rows.iter()
            .map(|row| {
                let run = runs::read(row)?;
                let last_sequence = row.try_get("last_sequence")?;
                self.hub.hint_events(&run.thread_id, last_sequence);
                let lease = Lease {
                    run_id: run.id.clone(),
                    thread_id: run.thread_id.clone(),
                    token: row.try_get("lease_token")?,
                    checkpoints: row.try_get("checkpoints")?,
                };
                Ok(Claimed { lease, run, last_sequence })
            })
            .collect()
    }

    /// Ends the leases that this node held before it was restarted, so that its runs go on at once.
    ///
    /// The caller must be sure that no other process works under the same node name. Returns how many there were.
    pub async fn end_own_leases(&self) -> Result<u64> {
        let done = sqlx::query(
            "-- end_own_leases
             update runs set lease_until = now() - interval '1 second' where lease_node = $1 and status = 'running'",
        )
        .bind(&*self.node)
        .execute(&self.pool)
        .await?;
        Ok(done.rows_affected())
    }

    /// Makes a lease valid for another `ttl` from now.
    pub async fn renew(&self, lease: &Renewal, ttl: Duration) -> Result<Renewed> {
        let row = sqlx::query(
            "-- renew
             update runs
             set lease_until = now() + $3
             where id = $1 and lease_token = $2 and status = 'running'
             returning cancel_requested_at is not null as is_cancel_requested",
        )
        .bind(lease.run_id.as_str())
        .bind(lease.token)
        .bind(ttl)
        .fetch_optional(&self.pool)
        .await?
        .ok_or(Error::LeaseLost)?;
        Ok(Renewed { is_cancel_requested: row.try_get("is_cancel_requested")? })
    }

    /// Gives a run back unfinished, to be claimed again at once by anybody.
    pub async fn release(&self, lease: Lease) -> Result<()> {
        let done = sqlx::query(
            "-- release
             update runs
             set status = 'queued', lease_token = null, lease_node = null, lease_until = null
             where id = $1 and lease_token = $2 and status = 'running'",
        )
        .bind(lease.run_id.as_str())
        .bind(lease.token)
        .execute(&self.pool)
        .await?;
        if done.rows_affected() == 0 { Err(Error::LeaseLost) } else { Ok(()) }
    }

    /// Writes progress, all or nothing, and gives the number of the thread's newest event.
    ///
    /// After `Unavailable` it may or may not have been written; calling it again with the same checkpoint writes it
    /// exactly once.
    pub async fn checkpoint(&self, lease: &mut Lease, checkpoint: &Checkpoint) -> Result<i64> {
        let (roles, blocks): (Vec<_>, Vec<_>) =
            checkpoint.transcript.iter().map(|(role, blocks)| (*role, blocks.as_str())).unzip();
        let events: Vec<_> = checkpoint.events.iter().map(to_text).collect();
        let turn = checkpoint.turn.as_ref();
        let spent = turn.map(|turn| turn.spent).unwrap_or_default();
        let row = sqlx::query(
            "-- checkpoint
             with run as (
                 update runs r
                 set checkpoints = r.checkpoints + 1,
                     fruitless_attempts = case when $6::text is null then r.fruitless_attempts else 0 end,
                     turns = r.turns + (case when $6::text is null then 0 else 1 end),
                     calls = r.calls + $15,
                     input_tokens = r.input_tokens + $9,
                     output_tokens = r.output_tokens + $10,
                     cache_read_tokens = r.cache_read_tokens + $11,
                     cache_write_tokens = r.cache_write_tokens + $12,
                     cost_micro_usd = r.cost_micro_usd + $13
                 where r.id = $1 and r.lease_token = $2 and r.status = 'running' and r.checkpoints = $16
                 returning r.id, r.thread_id, r.turns
             ), thread as (
                 update threads t
                 set last_sequence = t.last_sequence + cardinality($3::text[]),
                     last_position = t.last_position + cardinality($4::text[]),
                     input_tokens = t.input_tokens + $9,
                     output_tokens = t.output_tokens + $10,
                     cache_read_tokens = t.cache_read_tokens + $11,
                     cache_write_tokens = t.cache_write_tokens + $12,
                     cost_micro_usd = t.cost_micro_usd + $13,
                     updated_at = now()
                 from run
                 where t.id = run.thread_id
                 returning t.id, t.last_sequence,
                     t.last_sequence - cardinality($3::text[]) as sequence,
                     t.last_position - cardinality($4::text[]) as position
             ), new_events as (
                 insert into events (thread_id, sequence, run_id, event)
                 select thread.id, thread.sequence + e.n, $1, e.event
                 from thread, unnest($3::text[]) with ordinality as e(event, n)
             ), new_transcript as (
                 insert into transcript (thread_id, position, run_id, role, blocks)
                 select thread.id, thread.position + b.n, $1, b.role, b.blocks
                 from thread, unnest($4::text[], $5::text[]) with ordinality as b(role, blocks, n)
             ), new_turn as (
                 insert into turns (run_id, number, model, request_id, stop_reason, input_tokens, output_tokens,
                     cache_read_tokens, cache_write_tokens, cost_micro_usd, duration_ms)
                 select run.id, run.turns, $6, $7, $8, $9, $10, $11, $12, $13, $14
                 from run
                 where $6::text is not null
             )
             select last_sequence from thread",
        )
        .bind(lease.run_id.as_str())
        .bind(lease.token)
        .bind(&events)
        .bind(&roles)
        .bind(&blocks)
        .bind(turn.map(|turn| turn.model.as_str()))
        .bind(turn.and_then(|turn| turn.request_id.as_deref()))
        .bind(turn.map(|turn| turn.stop_reason.as_str()))
        .bind(spent.input_tokens)
        .bind(spent.output_tokens)
        .bind(spent.cache_read_tokens)
        .bind(spent.cache_write_tokens)
        .bind(spent.cost.0)
        .bind(turn.map_or(0, |turn| turn.duration.as_millis() as i64))
        .bind(checkpoint.calls)
        .bind(lease.checkpoints)
        .fetch_optional(&self.pool)
        .await?;
        let last_sequence = match row {
            Some(row) => row.try_get("last_sequence")?,
            // Either the lease is lost, or this very checkpoint was written and the answer to it was lost.
            None => self.find_written(lease).await?.ok_or(Error::LeaseLost)?,
        };
        lease.checkpoints += 1;
        if !events.is_empty() {
            self.hub.hint_events(&lease.thread_id, last_sequence);
        }
        Ok(last_sequence)
    }

    /// Finds the thread's newest event if the lease's next checkpoint is written already.
    async fn find_written(&self, lease: &Lease) -> Result<Option<i64>> {
        Ok(sqlx::query_scalar(
            "-- find_written
             select t.last_sequence
             from runs r join threads t on t.id = r.thread_id
             where r.id = $1 and r.lease_token = $2 and r.status = 'running' and r.checkpoints = $3 + 1",
        )
        .bind(lease.run_id.as_str())
        .bind(lease.token)
        .bind(lease.checkpoints)
        .fetch_optional(&self.pool)
        .await?)
    }

    /// Gives why the model stopped in the run's last turn; `None` before the first.
    pub async fn find_stop_reason(&self, run: &RunId) -> Result<Option<String>> {
        Ok(sqlx::query_scalar("select stop_reason from turns where run_id = $1 order by number desc limit 1")
            .bind(run.as_str())
            .fetch_optional(&self.pool)
            .await?)
    }

    /// Registers interest in the run's cancellation until the value is dropped.
    pub fn cancel_hints(&self, run: &RunId) -> CancelHints {
        self.hub.cancels(run)
    }

    /// Passes on the cancels that other servers have written for runs driven here: for them no hint comes.
    pub async fn relay_cancels(&self) -> Result<()> {
        let rows = sqlx::query(
            "-- relay_cancels
             select id from runs where status = 'running' and lease_node = $1 and cancel_requested_at is not null",
        )
        .bind(&*self.node)
        .fetch_all(&self.pool)
        .await?;
        for row in &rows {
            self.hub.hint_cancel(&row.parse("id")?);
        }
        Ok(())
    }

    /// Ends a run: its status, the thread's, the assistant's message and the last event, all or nothing.
    ///
    /// After `Unavailable` it may or may not have been written; a second call then says `LeaseLost` if it was.
    pub async fn finish_run(&self, lease: &Lease, outcome: &Outcome, spent: Spent) -> Result<()> {
        let mut connection = self.pool.acquire().await?;
        let sequence =
            finish(&mut connection, &lease.run_id, Some(lease.token), outcome, spent).await?.ok_or(Error::LeaseLost)?;
        drop(connection);
        self.hub.hint_events(&lease.thread_id, sequence);
        Ok(())
    }

    /// Shows a delta to those who read the thread now; `after` is the newest event committed under this lease.
    pub fn send_delta(&self, lease: &Lease, after: i64, delta: Delta) {
        self.hub.send_delta(&lease.thread_id, after, delta);
    }
}

/// Ends a run held under `token`, or a queued one that nobody holds (`None`). Gives the number of the last event, or
/// `None` if the run is not held that way.
pub(crate) async fn finish(
    connection: &mut PgConnection,
    run: &RunId,
    token: Option<Uuid>,
    outcome: &Outcome,
    spent: Spent,
) -> Result<Option<i64>> {
    // A NUL is fine in the JSON of events but in no text column; a model may well say one.
    let outcome = &without_nul(outcome);
    let content = match outcome {
        Outcome::Completed { content } if !content.is_empty() => Some(content),
        Outcome::Completed { .. } | Outcome::Failed { .. } | Outcome::Cancelled => None,
    };
    let event = Event::RunFinished { outcome: outcome.clone(), spent };
    let row = sqlx::query(
        "-- finish
         with run as (
             update runs r
             set status = $3,
                 outcome = $4,
                 completed_at = now(),
                 lease_token = null,
                 lease_node = null,
                 lease_until = null
             where r.id = $1
               and case when $2::uuid is null then r.status = 'queued'
                   else r.status = 'running' and r.lease_token = $2 end
             returning r.*
         ), thread as (
             update threads t
             set status = $3,
                 last_sequence = t.last_sequence + 1,
                 message_count = t.message_count + (case when $5::text is null then 0 else 1 end),
                 last_message_at = case when $5 is null then t.last_message_at else now() end,
                 last_message_preview = coalesce($6, t.last_message_preview),
                 completed_at = now(),
                 updated_at = now()
             from run
             where t.id = run.thread_id
             returning t.id, t.project_id, t.agent_id, t.last_sequence, t.message_count
         ), new_message as (
             insert into messages (id, thread_id, position, role, content, run_id, input_tokens, output_tokens,
                 duration_ms, actions_count)
             select $7, thread.id, thread.message_count - 1, 'assistant', $5, run.id,
                 run.input_tokens + run.cache_read_tokens + run.cache_write_tokens, run.output_tokens,
                 extract(epoch from run.completed_at - run.started_at) * 1000, run.calls
             from thread, run
             where $5 is not null
         ), new_event as (
             insert into events (thread_id, sequence, run_id, event)
             select thread.id, thread.last_sequence, $1, $8 from thread
         ), agent as (
             -- Not more than once a minute: many runs of one agent must not queue for its row.
             update agents a
             set last_run_at = now()
             from thread
             where a.project_id = thread.project_id
               and a.id = thread.agent_id
               and (a.last_run_at is null or a.last_run_at < now() - interval '1 minute')
         )
         select last_sequence from thread",
    )
    .bind(run.as_str())
    .bind(token)
    .bind(outcome.status().as_str())
    .bind(to_json(outcome))
    .bind(content)
    .bind(content.map(|content| preview(content)))
    .bind(MessageId::generate().as_str())
    .bind(to_text(&event))
    .fetch_optional(connection)
    .await?;
    Ok(row.map(|row| row.try_get("last_sequence")).transpose()?)
}

fn without_nul(outcome: &Outcome) -> Outcome {
    let clean = |text: &String| text.replace('\0', "\u{fffd}");
    match outcome {
        Outcome::Completed { content } => Outcome::Completed { content: clean(content) },
        Outcome::Failed { code, message } => Outcome::Failed { code: code.clone(), message: clean(message) },
        Outcome::Cancelled => Outcome::Cancelled,
    }
}
