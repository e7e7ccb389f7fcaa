//! Questions beside a thread's run: asked by the API, claimed and answered by a worker, kept as rows.
//!
//! Asking a model twice changes nothing in the world, so a claim is simpler than a run's lease: it ends after a time that
//! is longer than an answer may take, and whoever answers first is right.

use std::time::Duration;

use domain::{ApiKeyId, ProjectId, QuestionId, ThreadId, run::Spent};
use sqlx::{Row, postgres::PgRow};
use uuid::Uuid;

use crate::{Error, Result, Store, charges::SPENDING, hub::Answers, row::ReadColumn};

/// A question that was claimed.
#[derive(Debug)]
pub struct ClaimedQuestion {
    pub id: QuestionId,
    pub thread_id: ThreadId,
    pub project_id: ProjectId,
    pub prompt: String,
    /// The key that asked, whose budget holds.
    pub key_id: Option<ApiKeyId>,
    pub attempt: i32,
    token: Uuid,
}

/// What became of a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    Given(String),
    Failed { code: String, message: String },
}

impl Store {
    /// Asks a side question about a thread.
    ///
    /// # Errors
    /// `NotFound`; `State` if nothing was said in the thread yet.
    pub async fn ask_side_question(
        &self,
        project: &ProjectId,
        thread: &ThreadId,
        prompt: &str,
        key: Option<&ApiKeyId>,
    ) -> Result<QuestionId> {
        let id = QuestionId::generate();
        let done = sqlx::query(
            "-- ask_side_question
             insert into side_questions (id, thread_id, project_id, prompt, status, key_id)
             select $3, id, project_id, $4, 'queued', $5
             from threads
             where id = $1 and project_id = $2 and deleted_at is null and last_position > 0",
        )
        .bind(thread.as_str())
        .bind(project.as_str())
        .bind(id.as_str())
        .bind(prompt.replace('\0', "\u{fffd}"))
        .bind(key.map(ApiKeyId::as_str))
        .execute(&self.pool)
        .await?;
        if done.rows_affected() == 0 {
            return Err(match self.find_thread(project, thread).await? {
                None => Error::not_found("Thread", thread),
                Some(_) => Error::State("the thread has no conversation yet".into()),
            });
        }
        self.hub.hint_questions();
        Ok(id)
    }

    /// Registers interest in an answer while it is made. Before [`Store::find_answer`], or the end may be missed.
    pub fn watch_answer(&self, question: &QuestionId) -> Answers {
        self.hub.answers(question)
    }

    /// Finds what became of a question and what it took; `None` while it is open.
    pub async fn find_answer(&self, question: &QuestionId) -> Result<Option<(Answer, Spent)>> {
        let row = sqlx::query(
            "-- find_answer
             select * from side_questions where id = $1 and status in ('answered', 'failed')",
        )
        .bind(question.as_str())
        .fetch_optional(&self.pool)
        .await?;
        row.as_ref().map(read_answer).transpose()
    }

    /// Claims up to `limit` open questions for `ttl`, oldest first.
    pub async fn claim_side_questions(&self, limit: i64, ttl: Duration) -> Result<Vec<ClaimedQuestion>> {
        let rows = sqlx::query(
            "-- claim_side_questions
             with picked as (
                 select id from side_questions
                 where status = 'queued' or (status = 'running' and lease_until < now())
                 order by created_at
                 limit $1
                 for update skip locked
             )
             update side_questions q
             set status = 'running',
                 attempt = q.attempt + 1,
                 lease_token = gen_random_uuid(),
                 lease_until = now() + $2
             from picked
             where q.id = picked.id
             returning q.*",
        )
        .bind(limit)
        .bind(ttl)
        .fetch_all(&self.pool)
        .await?;
        rows.iter()
            .map(|row| {
                Ok(ClaimedQuestion {
                    id: row.parse("id")?,
                    thread_id: row.parse("thread_id")?,
                    project_id: row.parse("project_id")?,
                    prompt: row.try_get("prompt")?,
                    key_id: row.parse_optional("key_id")?,
                    attempt: row.try_get("attempt")?,
                    token: row.try_get("lease_token")?,
                })
            })
            .collect()
    }

    /// Writes down an answer and what it cost, which counts for the thread. A claim that has ended writes nothing.
    pub async fn answer_side_question(
        &self,
        question: &ClaimedQuestion,
        answer: &Answer,
        model: Option<&str>,
        spent: Spent,
    ) -> Result<()> {
        let clean = |text: &str| text.replace('\0', "\u{fffd}");
        let (status, text, code, message) = match answer {
            Answer::Given(text) => ("answered", Some(clean(text)), None, None),
            Answer::Failed { code, message } => ("failed", None, Some(code.as_str()), Some(clean(message))),
        };
        sqlx::query(sqlx::AssertSqlSafe(format!(
            "-- answer_side_question
             with question as (
                 update side_questions q
                 set status = $3, answer = $4, error_code = $5, error = $6, model = $7,
                     input_tokens = $8, output_tokens = $9, cache_read_tokens = $10, cache_write_tokens = $11,
                     cost_micro_usd = $12, lease_token = null, lease_until = null, completed_at = now()
                 where q.id = $1 and q.lease_token = $2 and q.status = 'running'
                 returning q.thread_id, q.key_id
             ), thread as (
                 update threads t
                 set input_tokens = t.input_tokens + $8,
                     output_tokens = t.output_tokens + $9,
                     cache_read_tokens = t.cache_read_tokens + $10,
                     cache_write_tokens = t.cache_write_tokens + $11,
                     cost_micro_usd = t.cost_micro_usd + $12
                 from question
                 where t.id = question.thread_id
                 returning t.id, t.project_id, t.environment_id, t.agent_id, question.key_id
             ), charge as (
                 insert into charges (project_id, thread_id, environment_id, agent_id, key_id, kind, model, input_tokens,
                     output_tokens, cache_read_tokens, cache_write_tokens, cost_micro_usd)
                 select project_id, id, environment_id, agent_id, key_id, 'side_question', $7, $8, $9, $10, $11, $12
                 from thread
                 where $7::text is not null
                 returning project_id, agent_id, key_id, cost_micro_usd
             ), {SPENDING}
             select count(*) from thread"
        )))
        .bind(question.id.as_str())
        .bind(question.token)
        .bind(status)
        .bind(text)
        .bind(code)
        .bind(message)
        .bind(model)
        .bind(spent.input_tokens)
        .bind(spent.output_tokens)
        .bind(spent.cache_read_tokens)
        .bind(spent.cache_write_tokens)
        .bind(spent.cost.0)
        .execute(&self.pool)
        .await?;
        self.hub.end_answer(&question.id);
        Ok(())
    }

    /// Gives a question back unanswered, to be claimed again at once by anybody.
    pub async fn release_side_question(&self, question: &ClaimedQuestion) -> Result<()> {
        sqlx::query(
            "-- release_side_question
             update side_questions
             set status = 'queued', lease_token = null, lease_until = null, attempt = attempt - 1
             where id = $1 and lease_token = $2 and status = 'running'",
        )
        .bind(question.id.as_str())
        .bind(question.token)
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Shows a piece of an answer to those who wait for it here.
    pub fn send_answer(&self, question: &ClaimedQuestion, text: String) {
        self.hub.send_answer(&question.id, text);
    }
}

fn read_answer(row: &PgRow) -> Result<(Answer, Spent)> {
    let answer: Option<String> = row.try_get("answer")?;
    let answer = match answer {
        Some(text) => Answer::Given(text),
        None => Answer::Failed { code: row.try_get("error_code")?, message: row.try_get("error")? },
    };
    Ok((answer, row.spent()?))
}
