//! Carrying a session forward: under the lease of the run that made its call, each step together with the event that tells
//! of it. A step says how far it comes, and one that comes no farther than what is written already writes nothing: whoever
//! takes the run up goes through all steps from the first, and each is told once.

use chrono::{DateTime, Utc};
use domain::{
    ResearchId, RunId, ThreadId,
    event::{Event, SearchHit},
    research::{Happening, Note, Phase, Report, ResearchStatus, Session, Told},
    run::{Outcome, Run},
};
use sqlx::{PgConnection, Row};

use super::{SESSION, is_waiting, parts_of, read, read_run};
use crate::{
    Error, Result, Store,
    events::to_text,
    leases::Renewal,
    row::to_json,
    subagents::{self, lock},
};

/// The longest list of addresses that led to one page.
const MAX_REQUESTED: i32 = 20;

/// What a call asks for.
#[derive(Debug, Clone)]
pub struct NewSession {
    pub call_id: String,
    pub query: String,
    pub model: String,
}

/// How far a session has come.
#[derive(Debug, Clone)]
pub struct Step {
    pub phase: Phase,
    /// Of a hundred; more than of the step before. At 100 the session is completed.
    pub progress: i32,
    pub happening: Happening,
    /// A sentence for people.
    pub summary: String,
    pub questions: Option<Vec<String>>,
    pub report: Option<Report>,
    /// The numbers of the sources that the report cites.
    pub cited: Vec<i32>,
}

/// A page that was fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Where it was in the end.
    pub url: String,
    pub requested: String,
    pub title: Option<String>,
    /// BLAKE3 of its text.
    pub hash: String,
}

impl Store {
    /// Begins the session of a call, or finds the one that an earlier attempt has begun, whatever became of it.
    ///
    /// # Errors
    /// `LeaseLost` if the lease of the run that calls is.
    pub async fn begin_research(&self, lease: &Renewal, run: &Run, new: &NewSession) -> Result<Session> {
        let mut tx = self.pool.begin().await?;
        lock(&mut tx, lease).await?;
        let made = sqlx::query(
            "-- begin_research
             insert into research_sessions (id, project_id, thread_id, run_id, call_id, attempt, query, model)
             values ($1, $2, $3, $4, $5, $6, $7, $8)
             on conflict (run_id, call_id) do nothing
             returning *, 0::bigint as sources",
        )
        .bind(ResearchId::generate().as_str())
        .bind(run.project_id.as_str())
        .bind(run.thread_id.as_str())
        .bind(run.id.as_str())
        .bind(clean(&new.call_id))
        .bind(run.attempt)
        .bind(clean(&new.query))
        .bind(clean(&new.model))
        .fetch_optional(&mut *tx)
        .await?;
        let (session, told) = match made {
            Some(row) => (read(&row)?, Some((Happening::Started, "The research began."))),
            None => {
                let row = sqlx::query(sqlx::AssertSqlSafe(format!(
                    "-- begin_research: again
                     with again as (
                         update research_sessions
                         set attempt = $3, resumes = resumes + 1, updated_at = now()
                         where run_id = $1 and call_id = $2 and status = 'running' and attempt < $3
                         returning id, resumes
                     )
                     select {SESSION}, again.id is not null as is_resumed, again.resumes as resumes_now
                     from research_sessions s left join again on again.id = s.id
                     where s.run_id = $1 and s.call_id = $2"
                )))
                .bind(run.id.as_str())
                .bind(clean(&new.call_id))
                .bind(run.attempt)
                .fetch_one(&mut *tx)
                .await?;
                let is_resumed: bool = row.try_get("is_resumed")?;
                let mut session = read(&row)?;
                // The statement reads the row as it was before.
                session.resumes = row.try_get::<Option<i32>, _>("resumes_now")?.unwrap_or(session.resumes);
                (session, is_resumed.then_some((Happening::Resumed, "The research goes on after an interruption.")))
            }
        };
        let sequence = match told {
            Some((happening, summary)) => Some(tell(&mut tx, &session, happening, summary, &[]).await?),
            None => None,
        };
        tx.commit().await?;
        self.hint(&session.thread_id, sequence);
        Ok(session)
    }

    /// Writes that a session has come to a step, and tells so. Does nothing where it has come there already, or is over.
    ///
    /// # Errors
    /// `LeaseLost` if the lease of the run that called it is.
    pub async fn advance_research(&self, lease: &Renewal, session: &ResearchId, step: &Step) -> Result<()> {
        let mut tx = self.pool.begin().await?;
        lock(&mut tx, lease).await?;
        let note = Note { at: Utc::now(), phase: step.phase, summary: clean(&step.summary) };
        let row = sqlx::query(sqlx::AssertSqlSafe(format!(
            "-- advance_research
             with cited as (
                 update research_sources set is_cited = true where session_id = $1 and number = any($8)
             )
             update research_sessions s
             set phase = $3,
                 progress = $4,
                 notes = s.notes || $5::jsonb,
                 questions = coalesce($6, s.questions),
                 report = coalesce($7, s.report),
                 status = case when $4 >= 100 then 'completed' else s.status end,
                 completed_at = case when $4 >= 100 then now() else s.completed_at end,
                 updated_at = now()
             where s.id = $1 and s.run_id = $2 and s.status = 'running' and s.progress < $4 and s.deleted_at is null
             returning {SESSION}"
        )))
        .bind(session.as_str())
        .bind(lease.run_id.as_str())
        .bind(step.phase.as_str())
        .bind(step.progress)
        .bind(to_json(&[note]))
        .bind(step.questions.as_ref().map(|questions| to_json(&cleaned(questions))))
        .bind(step.report.as_ref().map(to_json))
        .bind(&step.cited)
        .fetch_optional(&mut *tx)
        .await?;
        let Some(row) = row else { return Ok(()) };
        let session = read(&row)?;
        let sequence = tell(&mut tx, &session, step.happening, &step.summary, &step.cited).await?;
        tx.commit().await?;
        self.hint(&session.thread_id, Some(sequence));
        Ok(())
    }

    /// Ends a session that came to nothing, and tells why. Does nothing where it is over.
    ///
    /// # Errors
    /// `LeaseLost` if the lease of the run that called it is.
    pub async fn fail_research(&self, lease: &Renewal, session: &Session, why: &str) -> Result<()> {
        let mut tx = self.pool.begin().await?;
        lock(&mut tx, lease).await?;
        let sequence = end(&mut tx, session, Happening::Failed, why).await?;
        tx.commit().await?;
        self.hint(&session.thread_id, sequence);
        Ok(())
    }

    /// Writes down a page that an agent of a session has fetched: a source from now on.
    ///
    /// # Errors
    /// `LeaseLost` if the lease of the agent's run is.
    pub async fn record_research_page(&self, lease: &Renewal, session: &ResearchId, page: &Page) -> Result<()> {
        let mut tx = self.pool.begin().await?;
        lock(&mut tx, lease).await?;
        // Agents that read side by side: each page has a number of its own.
        let found = sqlx::query("select 1 from research_sessions where id = $1 and deleted_at is null for update")
            .bind(session.as_str())
            .fetch_optional(&mut *tx)
            .await?;
        if found.is_none() {
            return Ok(());
        }
        sqlx::query(
            "-- record_research_page
             insert into research_sources as s (session_id, url, requested, title, hash, fetched_at, number)
             select $1, $2, array[$3], $4, $5, now(),
                 (select coalesce(max(number), 0) + 1 from research_sources where session_id = $1)
             on conflict (session_id, url) do update
             set requested = case
                     when $3 = any(s.requested) or cardinality(s.requested) >= $6 then s.requested
                     else s.requested || $3
                 end,
                 -- The first text that was read is the one that counts.
                 title = case when s.number is null then coalesce(excluded.title, s.title) else s.title end,
                 hash = coalesce(s.hash, excluded.hash),
                 fetched_at = coalesce(s.fetched_at, excluded.fetched_at),
                 number = coalesce(s.number, excluded.number)",
        )
        .bind(session.as_str())
        .bind(clean(&page.url))
        .bind(clean(&page.requested))
        .bind(page.title.as_deref().map(clean))
        .bind(&page.hash)
        .bind(MAX_REQUESTED)
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(())
    }

    /// Writes down what a search of a session's agent has found. It is no source before it is read.
    pub async fn record_research_hits(&self, session: &ResearchId, hits: &[SearchHit]) -> Result<()> {
        let (urls, titles): (Vec<_>, Vec<_>) = hits.iter().map(|hit| (clean(&hit.url), clean(&hit.title))).unzip();
        sqlx::query(
            "-- record_research_hits
             insert into research_sources (session_id, url, title)
             select s.id, h.url, h.title
             from research_sessions s, unnest($2::text[], $3::text[]) as h(url, title)
             where s.id = $1 and s.deleted_at is null
             on conflict (session_id, url) do nothing",
        )
        .bind(session.as_str())
        .bind(&urls)
        .bind(&titles)
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    fn hint(&self, thread: &ThreadId, sequence: Option<i64>) {
        if let Some(sequence) = sequence {
            self.hub.hint_events(thread, sequence);
        }
    }
}

/// Ends the sessions of a run that ends without them, as it does.
pub(crate) async fn close(connection: &mut PgConnection, run: &RunId, outcome: &Outcome) -> Result<()> {
    let rows = sqlx::query(sqlx::AssertSqlSafe(format!(
        "-- close: research
         select {SESSION} from research_sessions s where s.run_id = $1 and s.status = 'running' order by s.id"
    )))
    .bind(run.as_str())
    .fetch_all(&mut *connection)
    .await?;
    for row in &rows {
        let (happening, why) = match outcome {
            Outcome::Failed { message, .. } => (Happening::Failed, message.as_str()),
            Outcome::Completed { .. } | Outcome::Cancelled | Outcome::Interrupted => {
                (Happening::Cancelled, "The run was stopped.")
            }
        };
        end(connection, &read(row)?, happening, why).await?;
    }
    Ok(())
}

/// Ends a session that is not over, and tells so. Gives the number of that event.
pub(super) async fn end(
    connection: &mut PgConnection,
    session: &Session,
    happening: Happening,
    why: &str,
) -> Result<Option<i64>> {
    let status = match happening {
        Happening::Failed => ResearchStatus::Failed,
        _ => ResearchStatus::Cancelled,
    };
    let note = Note { at: Utc::now(), phase: session.phase, summary: clean(why) };
    let row = sqlx::query(sqlx::AssertSqlSafe(format!(
        "-- end: research
         update research_sessions s
         set status = $2,
             error = $3,
             notes = s.notes || $4::jsonb,
             completed_at = now(),
             updated_at = now()
         where s.id = $1 and s.status = 'running'
         returning {SESSION}"
    )))
    .bind(session.id.as_str())
    .bind(status.as_str())
    .bind((happening == Happening::Failed).then(|| clean(why)))
    .bind(to_json(&[note]))
    .fetch_optional(&mut *connection)
    .await?;
    match row {
        Some(row) => Ok(Some(tell(connection, &read(&row)?, happening, why, &[]).await?)),
        None => Ok(None),
    }
}

/// Asks the agents of a session to end. The caller has locked the runs above them.
pub(super) async fn stop_agents(connection: &mut PgConnection, session: &Session) -> Result<Vec<RunId>> {
    let rows = sqlx::query(
        "-- stop_agents
         update runs
         set cancel_requested_at = coalesce(cancel_requested_at, now())
         where parent_run_id = $1
           and starts_with(parent_call_id, $2)
           and status not in ('completed', 'failed', 'cancelled')
         returning id, status",
    )
    .bind(session.run_id.as_str())
    .bind(parts_of(session))
    .fetch_all(&mut *connection)
    .await?;
    for row in &rows {
        if is_waiting(row)? {
            // Whoever drives the run above takes it, and sees the request.
            subagents::wake_callers(connection, &read_run(row)?).await?;
        }
    }
    rows.iter().map(read_run).collect()
}

/// Appends an event about a session to the log of its thread: of the run that called it, wherever that stands.
async fn tell(
    connection: &mut PgConnection,
    session: &Session,
    happening: Happening,
    summary: &str,
    cited: &[i32],
) -> Result<i64> {
    let mut pages = Vec::new();
    if !cited.is_empty() {
        let rows = sqlx::query(
            "-- tell: cited
             select url, title from research_sources where session_id = $1 and number = any($2) order by number limit 50",
        )
        .bind(session.id.as_str())
        .bind(cited)
        .fetch_all(&mut *connection)
        .await?;
        for row in &rows {
            pages.push((row.try_get("url")?, row.try_get("title")?));
        }
    }
    let agent = subagents::find(connection, &session.run_id).await?;
    let told = Told {
        session_id: session.id.clone(),
        happening,
        query: session.query.clone(),
        summary: clean(summary),
        sources: session.sources,
        cited: pages,
        report: session.report.clone(),
        error: session.error.clone(),
        elapsed_seconds: elapsed(session.created_at),
        resumes: session.resumes,
    };
    let event = Event::Research { told: Box::new(told) }.told_of(agent.as_ref());
    sqlx::query_scalar(
        "-- tell: research
         with thread as (
             update threads t
             set last_sequence = t.last_sequence + 1, updated_at = now()
             where t.id = $1
             returning t.id, t.last_sequence
         )
         insert into events (thread_id, sequence, run_id, event, branch)
         select thread.id, thread.last_sequence, coalesce(r.root_run_id, r.id), $3,
             case when r.root_run_id is not null then r.id end
         from thread, runs r
         where r.id = $2
         returning sequence",
    )
    .bind(session.thread_id.as_str())
    .bind(session.run_id.as_str())
    .bind(to_text(&event))
    .fetch_optional(connection)
    .await?
    .ok_or_else(|| Error::not_found("Run", &session.run_id))
}

fn elapsed(since: DateTime<Utc>) -> i64 {
    (Utc::now() - since).num_seconds().max(0)
}

/// A NUL is fine in JSON but in no text column.
fn clean(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

fn cleaned(texts: &[String]) -> Vec<String> {
    texts.iter().map(|text| clean(text)).collect()
}
