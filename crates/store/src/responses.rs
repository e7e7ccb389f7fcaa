//! What requests with an `Idempotency-Key` were answered, so that a retry gets the answer and not the effect again.
//!
//! The first request claims the key with one insert; of simultaneous ones a single insert wins and the others find its
//! row. A claim is renewed while the request is carried out. One that ended without an answer means that a server died
//! in the middle: whether there was an effect is unknown then, and that is told, since doing it again could do it twice.
//!
//! Requests that start runs keep theirs with the rows they make (`runs`), in the same transaction.

use std::time::Duration;

use domain::ProjectId;
use secrecy::{ExposeSecret, SecretString};
use sqlx::{PgConnection, Row};
use uuid::Uuid;

use crate::{
    Error, Result, Store,
    row::{ReadColumn, to_json},
    runs::Idempotency,
};

/// An answer as it was given.
#[derive(Debug, Clone)]
pub struct Response {
    pub status: u16,
    /// Names and values of the headers that belong to the answer itself.
    pub headers: Vec<(String, String)>,
    /// `None` if it was too large to be kept.
    pub body: Option<SecretString>,
}

/// The right to carry a request out and to keep its answer.
#[derive(Debug, Clone)]
pub struct Claim {
    project: ProjectId,
    key: String,
    token: Uuid,
}

/// What is known of a request.
#[derive(Debug)]
pub enum Known {
    /// Nothing: the caller carries it out, renews the claim meanwhile, and answers or frees it in the end.
    Claimed(Claim),
    /// Another one is carrying it out.
    UnderWay,
    /// Another one was carrying it out when its server died.
    Lost,
    Answered(Response),
}

impl Store {
    /// Claims a request for `ttl`, or finds what became of it in the last 24 hours.
    ///
    /// # Errors
    /// `KeyReused` if the key came with another request.
    pub async fn claim_request(&self, project: &ProjectId, request: &Idempotency, ttl: Duration) -> Result<Known> {
        loop {
            let token = Uuid::new_v4();
            let claimed = sqlx::query(
                "-- claim_request
                 insert into idempotent_responses as r (project_id, key, request_hash, claim, claimed_until)
                 select $1, $2, $3, $4, now() + $5
                 where not exists (
                     select 1 from idempotency_keys
                     where project_id = $1 and key = $2 and created_at > now() - interval '24 hours'
                 )
                 on conflict on constraint idempotent_responses_pkey do update
                 set request_hash = excluded.request_hash, claim = excluded.claim,
                     claimed_until = excluded.claimed_until, status = null, headers = null, body = null,
                     created_at = now()
                 where r.created_at <= now() - interval '24 hours'",
            )
            .bind(project.as_str())
            .bind(&request.key)
            .bind(&request.request_hash)
            .bind(token)
            .bind(ttl)
            .execute(&self.pool)
            .await?;
            if claimed.rows_affected() == 1 {
                return Ok(Known::Claimed(Claim { project: project.clone(), key: request.key.clone(), token }));
            }
            if let Some(known) = self.find_request(project, request).await? {
                return Ok(known);
            }
            // Freed between the two statements: it is there to be claimed again.
        }
    }

    async fn find_request(&self, project: &ProjectId, request: &Idempotency) -> Result<Option<Known>> {
        let row = sqlx::query(
            "-- find_request
             select request_hash, status, headers, body, claimed_until < now() as is_lost
             from idempotent_responses
             where project_id = $1 and key = $2
             union all
             -- A message's or a thread's, and so not this one.
             select ''::bytea, null, null, null, false
             from idempotency_keys
             where project_id = $1 and key = $2 and created_at > now() - interval '24 hours'
             limit 1",
        )
        .bind(project.as_str())
        .bind(&request.key)
        .fetch_optional(&self.pool)
        .await?;
        let Some(row) = row else { return Ok(None) };
        if row.try_get::<&[u8], _>("request_hash")? != request.request_hash {
            return Err(Error::KeyReused);
        }
        let Some(status) = row.try_get::<Option<i16>, _>("status")? else {
            return Ok(Some(if row.try_get("is_lost")? { Known::Lost } else { Known::UnderWay }));
        };
        let sealed: Option<&[u8]> = row.try_get("body")?;
        let place = place(project, &request.key);
        let response = Response {
            status: u16::try_from(status).map_err(Error::unreadable("a kept answer"))?,
            headers: row.json("headers")?,
            body: sealed.map(|sealed| self.sealer.open(&place, sealed)).transpose()?,
        };
        Ok(Some(Known::Answered(response)))
    }

    /// Makes a claim valid for another `ttl` from now.
    pub async fn renew_request(&self, claim: &Claim, ttl: Duration) -> Result<()> {
        sqlx::query(
            "-- renew_request
             update idempotent_responses set claimed_until = now() + $4
             where project_id = $1 and key = $2 and claim = $3",
        )
        .bind(claim.project.as_str())
        .bind(&claim.key)
        .bind(claim.token)
        .bind(ttl)
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Keeps the answer of a claimed request for those who repeat it.
    pub async fn answer_request(&self, claim: &Claim, response: &Response) -> Result<()> {
        let place = place(&claim.project, &claim.key);
        sqlx::query(
            "-- answer_request
             update idempotent_responses set status = $4, headers = $5, body = $6
             where project_id = $1 and key = $2 and claim = $3",
        )
        .bind(claim.project.as_str())
        .bind(&claim.key)
        .bind(claim.token)
        .bind(i16::try_from(response.status).expect("a status has three digits"))
        .bind(to_json(&response.headers))
        .bind(response.body.as_ref().map(|body| self.sealer.seal(&place, body)))
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Gives a key back whose request failed, so that a retry is carried out.
    pub async fn free_request(&self, claim: &Claim) -> Result<()> {
        sqlx::query(
            "-- free_request
             delete from idempotent_responses where project_id = $1 and key = $2 and claim = $3 and status is null",
        )
        .bind(claim.project.as_str())
        .bind(&claim.key)
        .bind(claim.token)
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Forgets up to `limit` keys older than 24 hours. Returns how many there were.
    pub async fn sweep_requests(&self, limit: i64) -> Result<u64> {
        let mut swept = 0;
        for sql in [
            "-- sweep_requests
             delete from idempotent_responses
             where ctid = any(array(
                 select ctid from idempotent_responses where created_at <= now() - interval '24 hours' limit $1
             )) and created_at <= now() - interval '24 hours'",
            "-- sweep_requests: those of runs and threads
             delete from idempotency_keys
             where ctid = any(array(
                 select ctid from idempotency_keys where created_at <= now() - interval '24 hours' limit $1
             )) and created_at <= now() - interval '24 hours'",
        ] {
            swept += sqlx::query(sql).bind(limit).execute(&self.pool).await?.rows_affected();
        }
        Ok(swept)
    }
}

/// Refuses a key that came with another kind of request.
pub(crate) async fn check_unused(connection: &mut PgConnection, project: &ProjectId, key: &str) -> Result<()> {
    let is_used: bool = sqlx::query_scalar(
        "-- check_unused
         select exists(
             select 1 from idempotent_responses
             where project_id = $1 and key = $2 and created_at > now() - interval '24 hours'
         )",
    )
    .bind(project.as_str())
    .bind(key)
    .fetch_one(connection)
    .await?;
    if is_used { Err(Error::KeyReused) } else { Ok(()) }
}

/// Where a body is sealed for.
fn place(project: &ProjectId, key: &str) -> String {
    format!("idempotent_responses/{project}/{key}")
}

impl Response {
    /// Gives the body's bytes.
    pub fn body(&self) -> Option<&str> {
        self.body.as_ref().map(ExposeSecret::expose_secret)
    }
}
