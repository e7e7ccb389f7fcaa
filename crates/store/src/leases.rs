//! The right to write a run's progress, and all writes that need it.
//!
//! A worker claims runs and gets a [`Lease`] for each: a token that stands in every `where`. While it works it renews;
//! when it does not (crash, lost network), the lease ends and anybody may claim the run, which gives it a new token. A
//! late writer then finds no row and is told [`Error::LeaseLost`]: the run goes on elsewhere and nothing is written twice.

use std::time::Duration;

use domain::{
    MessageId, RunId, ThreadId,
    event::{Delta, Event, Steering},
    run::{Outcome, Run, Spent},
    subagent::Subagent,
    tier::Tiers,
    webhook::Notice,
};
use sqlx::{PgConnection, Row, postgres::PgRow};
use uuid::Uuid;

use crate::{
    Error, Result, Store,
    charges::SPENDING,
    events::to_text,
    hub::CancelHints,
    messages::preview,
    permissions::{self, NewRequest},
    queue, research,
    row::{ReadColumn, to_json},
    runs, steering, subagents,
    webhooks::{self, HAS_WEBHOOKS},
};

/// The right to write one run's progress. It is a value, and there is one of it: whoever drives the run owns it.
#[derive(Debug)]
pub struct Lease {
    pub run_id: RunId,
    pub thread_id: ThreadId,
    token: Uuid,
    /// Checkpoints written so far. Each names its number, so one whose answer was lost is not written twice.
    checkpoints: i64,
    /// Notes that waited for the model, as the last checkpoint saw it.
    steers: i32,
    is_pause_requested: bool,
    /// Who the run is in the log, if another run has called it.
    pub(crate) subagent: Option<Subagent>,
}

impl Lease {
    /// Gives what renewing needs, for the task that renews beside the work.
    pub fn renewal(&self) -> Renewal {
        Renewal { run_id: self.run_id.clone(), token: self.token }
    }

    /// Tells whether notes waited for the model when the last checkpoint was written.
    pub fn has_steers(&self) -> bool {
        self.steers > 0
    }

    /// Tells whether somebody had asked to pause the run when the last checkpoint was written.
    pub fn is_pause_requested(&self) -> bool {
        self.is_pause_requested
    }

    pub(crate) fn token(&self) -> Uuid {
        self.token
    }
}

/// The right to renew a lease, and nothing else.
#[derive(Debug, Clone)]
pub struct Renewal {
    pub run_id: RunId,
    token: Uuid,
}

impl Renewal {
    pub(crate) fn token(&self) -> Uuid {
        self.token
    }
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
    /// The cancel makes room for another message.
    pub is_interrupt: bool,
}

/// Progress that is true only as a whole: written in one statement, so it is one commit.
#[derive(Debug, Default)]
pub struct Checkpoint {
    /// Entries for the end of the transcript: role and JSON array of blocks.
    pub transcript: Vec<(&'static str, String)>,
    pub events: Vec<Event>,
    pub turn: Option<Turn>,
    /// The turn served the conversation's upkeep and is no reply of the run.
    pub is_upkeep: bool,
    /// Tool calls that ended.
    pub calls: i32,
    /// Calls that somebody must allow.
    pub requests: Vec<NewRequest>,
    /// The ids of calls whose decision is acted upon: they begin after this, or are answered by it.
    pub taken: Vec<String>,
    /// Notes that the entries above give to the model; each becomes a message of the thread.
    pub steering: Vec<Steering>,
    /// Agents in the background of which the entries above tell the model what they came to.
    pub told: Vec<RunId>,
    /// What calls cost, beside the turn.
    pub cost: domain::MicroUsd,
    /// The model that the run goes on with from here, whoever takes it up.
    pub fallback_model: Option<String>,
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
        self.claim_runs_within(limit, ttl, 0, &Tiers::default()).await
    }

    /// The same, with at most `per_project` runs of one project under a lease, or what its tier says; 0 is no limit.
    pub async fn claim_runs_within(
        &self,
        limit: i64,
        ttl: Duration,
        per_project: u32,
        tiers: &Tiers,
    ) -> Result<Vec<Claimed>> {
        let (names, most): (Vec<&str>, Vec<i64>) =
            tiers.all_concurrent_runs().map(|(name, most)| (name, i64::from(most))).unzip();
        // Two servers at once see the same runs as the oldest of a project, so together they do not exceed its limit.
        let picked = if per_project == 0 && most.iter().all(|most| *most == 0) {
            "select id from runs
             where parent_run_id is null
               and (status = 'queued' or (status = 'running' and lease_until < now()))
             order by queued_at
             limit $1
             for update skip locked"
        } else {
            "select r.id
             from runs r
             join projects o on o.id = r.project_id
             left join unnest($6::text[], $7::bigint[]) t(name, most) on t.name = o.tier
             left join (
                 select q.id, row_number() over (partition by q.project_id order by q.queued_at, q.id) + (
                     select count(*) from runs b
                     where b.project_id = q.project_id and b.status = 'running' and b.parent_run_id is null
                 ) as place
                 from runs q where q.status = 'queued' and q.parent_run_id is null
             ) p on p.id = r.id
             where r.parent_run_id is null
               and (
                   (r.status = 'queued' and (coalesce(t.most, $5) = 0 or p.place <= coalesce(t.most, $5)))
                   or (r.status = 'running' and r.lease_until < now())
               )
             order by r.queued_at
             limit $1
             for update of r skip locked"
        };
        let rows = sqlx::query(sqlx::AssertSqlSafe(format!(
            "-- claim_runs
             with picked as ({picked}), claimed as (
                 update runs r
                 set status = 'running',
                     lease_token = gen_random_uuid(),
                     lease_node = $2,
                     lease_until = now() + $3,
                     attempt = r.attempt + 1,
                     fruitless_attempts = r.fruitless_attempts + 1,
                     marked_at = now(),
                     started_at = coalesce(r.started_at, now()),
                     -- Whoever takes it up later works as whoever began.
                     agent_version_id = coalesce(r.agent_version_id, (
                         select coalesce(a.published_version_id, a.version_id)
                         from threads t join agents a on a.project_id = t.project_id and a.id = t.agent_id
                         where t.id = r.thread_id
                     ))
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
                 select thread.id, thread.last_sequence, claimed.id, case
                     when claimed.attempt = 1 then $4
                     -- It stood still until something was decided; the first checkpoint makes that past.
                     when claimed.parked_at is not null
                         then json_build_object('kind', 'run_continued', 'attempt', claimed.attempt)::text
                     else json_build_object('kind', 'run_resumed', 'attempt', claimed.attempt)::text
                 end
                 from claimed join thread on thread.id = claimed.thread_id
             )
             select claimed.*, thread.environment_id, thread.agent_id, thread.last_sequence
             from claimed join thread on thread.id = claimed.thread_id"
        )))
        .bind(limit)
        .bind(&*self.node)
        .bind(ttl)
        .bind(to_text(&Event::RunStarted))
        .bind(i64::from(per_project))
        .bind(names)
        .bind(most)
        .fetch_all(&self.pool)
        .await?;
        let mut claimed = Vec::with_capacity(rows.len());
        for row in &rows {
            match read_claimed(row) {
                Ok(run) => {
                    self.hub.hint_events(&run.lease.thread_id, run.last_sequence);
                    claimed.push(run);
                }
                // The others of the batch are as good as ever.
                Err(err) => self.fail_unreadable(row, &err).await,
            }
        }
        Ok(claimed)
    }

    /// Ends a claimed run whose row this version cannot read. Nobody could drive it, however often it is claimed.
    async fn fail_unreadable(&self, row: &PgRow, why: &Error) {
        tracing::error!(error = why as &dyn std::error::Error, "a claimed run cannot be read and is ended");
        let outcome = Outcome::Failed {
            code: "unreadable_run".into(),
            message: "The run cannot be read by this version of the server.".into(),
        };
        let ended = async {
            let (run, thread): (RunId, ThreadId) = (row.parse("id")?, row.parse("thread_id")?);
            let mut tx = self.pool.begin().await?;
            let spent = row.spent().unwrap_or_default();
            let finished = finish(&mut tx, &run, Some(row.try_get("lease_token")?), &outcome, spent).await?;
            tx.commit().await?;
            if let Some(finished) = finished {
                self.hint_finished(&thread, &finished);
            }
            Ok::<_, Error>(())
        };
        if let Err(err) = ended.await {
            let error = &err as &dyn std::error::Error;
            tracing::error!(error, "cannot end a run that cannot be read; its lease will end");
        }
    }

    /// Ends the leases that this node held before it was restarted, so that its runs and builds go on at once.
    ///
    /// The caller must be sure that no other process works under the same node name. Returns how many runs there were.
    pub async fn end_own_leases(&self) -> Result<u64> {
        let done = sqlx::query(
            "-- end_own_leases
             with builds as (
                 update builds set lease_until = now() - interval '1 second' where lease_node = $1 and status = 'running'
             )
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
             returning cancel_requested_at is not null as is_cancel_requested,
                 coalesce(cancel_reason = 'interrupted', false) as is_interrupt",
        )
        .bind(lease.run_id.as_str())
        .bind(lease.token)
        .bind(ttl)
        .fetch_optional(&self.pool)
        .await?
        .ok_or(Error::LeaseLost)?;
        Ok(Renewed {
            is_cancel_requested: row.try_get("is_cancel_requested")?,
            is_interrupt: row.try_get("is_interrupt")?,
        })
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
        let events: Vec<_> = match &lease.subagent {
            None => checkpoint.events.iter().map(to_text).collect(),
            agent => checkpoint.events.iter().map(|event| to_text(&event.clone().told_of(agent.as_ref()))).collect(),
        };
        let turn = checkpoint.turn.as_ref();
        let requests = &checkpoint.requests;
        let mut spent = turn.map(|turn| turn.spent).unwrap_or_default();
        spent.cost = spent.cost + checkpoint.cost;
        let row = sqlx::query(sqlx::AssertSqlSafe(format!(
            "-- checkpoint
             with run as (
                 update runs r
                 set checkpoints = r.checkpoints + 1,
                     fruitless_attempts = case when $6::text is null then r.fruitless_attempts else 0 end,
                     turns = r.turns + (case when $6::text is null then 0 else 1 end),
                     calls = r.calls + $15,
                     steers = r.steers - cardinality($17::text[]),
                     open_requests = r.open_requests + cardinality($22::text[]),
                     parked_at = null,
                     fallback_model = coalesce($30, r.fallback_model),
                     worked_ms = r.worked_ms + coalesce(extract(epoch from now() - r.marked_at) * 1000, 0)::bigint,
                     marked_at = now(),
                     input_tokens = r.input_tokens + $9,
                     output_tokens = r.output_tokens + $10,
                     cache_read_tokens = r.cache_read_tokens + $11,
                     cache_write_tokens = r.cache_write_tokens + $12,
                     cost_micro_usd = r.cost_micro_usd + $13
                 where r.id = $1 and r.lease_token = $2 and r.status = 'running' and r.checkpoints = $16
                 returning r.id, r.thread_id, r.project_id, r.turns, r.steers, r.root_run_id,
                     case when r.root_run_id is not null then r.id end as branch,
                     -- An agent that was called stands still with the run at the top.
                     coalesce(
                         r.pause_requested_at,
                         (select root.pause_requested_at from runs root where root.id = r.root_run_id)
                     ) as pause_requested_at,
                     r.options ->> 'key_id' as key_id,
                     r.options -> 'subagent' ->> 'agent_id' as agent_id
             ), told as (
                 update runs c
                 set told_at = now()
                 from run
                 where c.parent_run_id = run.id and c.id = any($31)
             ), thread as (
                 update threads t
                 set last_sequence = t.last_sequence + cardinality($3::text[]),
                     last_position = t.last_position + cardinality($4::text[]),
                     message_count = t.message_count + cardinality($17::text[]),
                     last_message_at = case when cardinality($17::text[]) = 0 then t.last_message_at else now() end,
                     last_message_preview = coalesce($20, t.last_message_preview),
                     input_tokens = t.input_tokens + $9,
                     output_tokens = t.output_tokens + $10,
                     cache_read_tokens = t.cache_read_tokens + $11,
                     cache_write_tokens = t.cache_write_tokens + $12,
                     cost_micro_usd = t.cost_micro_usd + $13,
                     updated_at = now()
                 from run
                 where t.id = run.thread_id
                 returning t.id, t.last_sequence, t.environment_id, t.agent_id,
                     t.message_count + t.superseded_count - cardinality($17::text[]) as message_position,
                     t.last_sequence - cardinality($3::text[]) as sequence,
                     t.last_position - cardinality($4::text[]) as position
             ), new_events as (
                 insert into events (thread_id, sequence, run_id, event, branch)
                 select thread.id, thread.sequence + e.n, coalesce(run.root_run_id, run.id), e.event, run.branch
                 from run, thread, unnest($3::text[]) with ordinality as e(event, n)
             ), new_transcript as (
                 insert into transcript (thread_id, position, run_id, role, blocks, branch)
                 select thread.id, thread.position + b.n, run.id, b.role, b.blocks, run.branch
                 from run, thread, unnest($4::text[], $5::text[]) with ordinality as b(role, blocks, n)
             ), new_requests as (
                 insert into permission_requests (id, thread_id, project_id, run_id, call_id, tool, input, rule,
                     unanswered, expires_at)
                 select p.id, run.thread_id, run.project_id, run.id, p.call_id, p.tool, p.input, p.rule, p.unanswered,
                     now() + p.ttl_ms * interval '1 millisecond'
                 from run, unnest($22::text[], $23::text[], $24::text[], $25::text[], $26::text[], $27::text[],
                     $28::bigint[]) as p(id, call_id, tool, input, rule, unanswered, ttl_ms)
             ), taken_requests as (
                 update permission_requests p
                 set taken_at = now()
                 from run
                 where p.run_id = run.id and p.call_id = any($29::text[])
             ), taken as (
                 update steering s
                 set taken_at = now()
                 from run
                 where s.run_id = run.id and s.id = any($17::text[])
             ), new_messages as (
                 insert into messages (id, thread_id, position, role, content, run_id)
                 select m.id, thread.id, thread.message_position + m.n - 1, 'user', m.content, $1
                 from thread, unnest($18::text[], $19::text[]) with ordinality as m(id, content, n)
             ), new_turn as (
                 insert into turns (run_id, number, model, request_id, stop_reason, input_tokens, output_tokens,
                     cache_read_tokens, cache_write_tokens, cost_micro_usd, duration_ms, kind, position)
                 select run.id, run.turns, $6, $7, $8, $9, $10, $11, $12, $13, $14,
                     case when $21 then 'compaction' else 'reply' end,
                     thread.position + cardinality($4::text[])
                 from run, thread
                 where $6::text is not null
             ), charge as (
                 insert into charges (project_id, thread_id, run_id, environment_id, agent_id, key_id, kind, model,
                     input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, cost_micro_usd)
                 select run.project_id, run.thread_id, run.id, thread.environment_id,
                     case when run.branch is null then thread.agent_id else run.agent_id end, run.key_id,
                     case when $6::text is null then 'tool' when $21 then 'compaction' else 'reply' end,
                     $6, $9, $10, $11, $12, $13
                 from run, thread
                 where $6::text is not null or $13 > 0
                 returning project_id, agent_id, key_id, cost_micro_usd
             ), {SPENDING}
             select thread.last_sequence, run.steers, run.pause_requested_at is not null as is_pause_requested
             from thread, run"
        )))
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
        .bind(checkpoint.steering.iter().map(|note| note.id.as_str()).collect::<Vec<_>>())
        .bind(checkpoint.steering.iter().map(|_| MessageId::generate().into()).collect::<Vec<String>>())
        .bind(checkpoint.steering.iter().map(|note| note.content.as_str()).collect::<Vec<_>>())
        .bind(checkpoint.steering.last().map(|note| preview(&note.content)))
        .bind(checkpoint.is_upkeep)
        .bind(requests.iter().map(|request| request.id.as_str()).collect::<Vec<_>>())
        .bind(requests.iter().map(|request| request.call_id.as_str()).collect::<Vec<_>>())
        .bind(requests.iter().map(|request| request.tool.replace('\0', "\u{fffd}")).collect::<Vec<_>>())
        .bind(requests.iter().map(|request| request.input.as_str()).collect::<Vec<_>>())
        .bind(requests.iter().map(|request| request.rule.as_str()).collect::<Vec<_>>())
        .bind(requests.iter().map(|request| request.unanswered.as_str()).collect::<Vec<_>>())
        .bind(requests.iter().map(|request| request.ttl.as_millis() as i64).collect::<Vec<_>>())
        .bind(&checkpoint.taken)
        .bind(checkpoint.fallback_model.as_deref())
        .bind(checkpoint.told.iter().map(RunId::as_str).collect::<Vec<_>>())
        .fetch_optional(&self.pool)
        .await?;
        let last_sequence = match row {
            Some(row) => {
                lease.steers = row.try_get("steers")?;
                lease.is_pause_requested = row.try_get("is_pause_requested")?;
                row.try_get("last_sequence")?
            }
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
        Ok(sqlx::query_scalar(
            "select stop_reason from turns where run_id = $1 and kind = 'reply' order by number desc limit 1",
        )
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
        let mut tx = self.pool.begin().await?;
        let finished = match &lease.subagent {
            None => finish(&mut tx, &lease.run_id, Some(lease.token), outcome, spent).await?,
            Some(agent) => subagents::finish(&mut tx, agent, Some(lease.token), outcome, spent).await?,
        };
        let finished = finished.ok_or(Error::LeaseLost)?;
        tx.commit().await?;
        self.hint_finished(&lease.thread_id, &finished);
        Ok(())
    }

    pub(crate) fn hint_finished(&self, thread: &ThreadId, finished: &Finished) {
        self.hub.hint_events(thread, finished.last_sequence);
        if finished.has_next {
            self.hub.hint_work();
        }
    }

    /// Shows a delta to those who read the thread now; `after` is the newest event committed under this lease.
    pub fn send_delta(&self, lease: &Lease, after: i64, delta: Delta) {
        self.hub.send_delta(&lease.thread_id, &lease.run_id, after, delta);
    }
}

pub(crate) fn read_claimed(row: &PgRow) -> Result<Claimed> {
    let run = runs::read(row)?;
    let lease = Lease {
        run_id: run.id.clone(),
        thread_id: run.thread_id.clone(),
        token: row.try_get("lease_token")?,
        checkpoints: row.try_get("checkpoints")?,
        steers: run.steers,
        is_pause_requested: run.is_pause_requested,
        subagent: run.subagent(),
    };
    Ok(Claimed { lease, run, last_sequence: row.try_get("last_sequence")? })
}

/// What the end of a run has led to.
#[derive(Debug)]
pub(crate) struct Finished {
    pub last_sequence: i64,
    /// The next run of the thread is queued now.
    pub has_next: bool,
}

/// Ends a run under the lease `token`, or one under way that no worker has (`None`), and lets the thread's next held run
/// have its turn. `None` if the run is not there that way.
///
/// In a transaction: the thread must not be seen idle between the two, and a message that comes to be held meanwhile waits
/// for the thread's row, which the first statement locks.
pub(crate) async fn finish(
    connection: &mut PgConnection,
    run: &RunId,
    token: Option<Uuid>,
    outcome: &Outcome,
    spent: Spent,
) -> Result<Option<Finished>> {
    // What it has called ends with it, before its last event. As a rule that has happened long since.
    subagents::end_all(connection, run, token).await?;
    // A NUL is fine in the JSON of events but in no text column; a model may well say one.
    let outcome = &without_nul(outcome);
    let content = match outcome {
        Outcome::Completed { content } if !content.is_empty() => Some(content),
        Outcome::Completed { .. } | Outcome::Failed { .. } | Outcome::Cancelled | Outcome::Interrupted => None,
    };
    if !matches!(outcome, Outcome::Completed { .. }) {
        // Before the last event: nothing of the run follows that.
        permissions::close(connection, run).await?;
        research::close(connection, run, outcome).await?;
    }
    let event = Event::RunFinished { outcome: outcome.clone(), spent };
    let row = sqlx::query(sqlx::AssertSqlSafe(format!(
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
               and case when $2::uuid is null
                   then r.status not in ('held', 'running', 'completed', 'failed', 'cancelled')
                   else r.status = 'running' and r.lease_token = $2 end
             returning r.*
         ), thread as (
             update threads t
             set status = $3,
                 last_sequence = t.last_sequence + 1,
                 message_count = t.message_count + (case when $5::text is null then 0 else 1 end),
                 last_message_at = case when $5 is null then t.last_message_at else now() end,
                 last_message_preview = coalesce($6, t.last_message_preview),
                 stop_reason = $9,
                 completed_at = now(),
                 updated_at = now()
             from run
             where t.id = run.thread_id
             returning t.id, t.project_id, t.environment_id, t.agent_id, t.last_sequence, t.held,
                 t.message_count + t.superseded_count as next_message
         ), new_message as (
             insert into messages (id, thread_id, position, role, content, run_id, input_tokens, output_tokens,
                 duration_ms, actions_count)
             select $7, thread.id, thread.next_message - 1, 'assistant', $5, run.id,
                 run.input_tokens + run.cache_read_tokens + run.cache_write_tokens, run.output_tokens,
                 extract(epoch from run.completed_at - run.started_at) * 1000, run.calls
             from thread, run
             where $5 is not null
         ), new_event as (
             insert into events (thread_id, sequence, run_id, event)
             select thread.id, thread.last_sequence, $1, $8 from thread
         ), gone_secrets as (
             delete from run_secrets s using run where s.run_id = run.id
         ), agent as (
             -- Not more than once a minute: many runs of one agent must not queue for its row.
             update agents a
             set last_run_at = now()
             from thread
             where a.project_id = thread.project_id
               and a.id = thread.agent_id
               and (a.last_run_at is null or a.last_run_at < now() - interval '1 minute')
         )
         select thread.id, thread.project_id, thread.environment_id, thread.agent_id, thread.last_sequence, thread.held,
             run.steers, {HAS_WEBHOOKS}
         from thread, run"
    )))
    .bind(run.as_str())
    .bind(token)
    .bind(outcome.status().as_str())
    .bind(to_json(outcome))
    .bind(content)
    .bind(content.map(|content| preview(content)))
    .bind(MessageId::generate().as_str())
    .bind(to_text(&event))
    .bind(outcome.reason())
    .fetch_optional(&mut *connection)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let mut finished = Finished { last_sequence: row.try_get("last_sequence")?, has_next: false };
    let thread: ThreadId = row.parse("id")?;
    let over = |run| Notice::RunOver { run, outcome: outcome.clone(), spent };
    webhooks::tell_of_run(connection, &row, run.clone(), thread.clone(), over).await?;
    let mut held: i32 = row.try_get("held")?;
    if row.try_get::<i32, _>("steers")? > 0
        && let Some(sequence) = steering::settle(connection, &thread, run).await?
    {
        finished.last_sequence = sequence;
        held += 1;
    }
    if held > 0 {
        let promoted = queue::promote(connection, &thread).await?;
        finished.has_next = promoted.is_some();
        finished.last_sequence = promoted.unwrap_or(finished.last_sequence);
    }
    Ok(Some(finished))
}

pub(crate) fn without_nul(outcome: &Outcome) -> Outcome {
    let clean = |text: &String| text.replace('\0', "\u{fffd}");
    match outcome {
        Outcome::Completed { content } => Outcome::Completed { content: clean(content) },
        Outcome::Failed { code, message } => Outcome::Failed { code: code.clone(), message: clean(message) },
        Outcome::Cancelled => Outcome::Cancelled,
        Outcome::Interrupted => Outcome::Interrupted,
    }
}
