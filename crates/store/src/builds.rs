//! Builds of images: asked for by the API and by runs, claimed by a builder, kept as rows with what they said.
//!
//! A build belongs to what it makes. Whoever wants the same (the same hash) waits for the same row: at most one per hash
//! is under way over all servers, by an index. The right to write a build's progress is a lease as for runs.

use std::time::Duration;

use domain::{
    BuildId, EnvironmentId, ProjectId,
    build::{Build, BuildStatus, EnvironmentBuild},
};
use sqlx::{PgConnection, Row, postgres::PgRow};
use uuid::Uuid;

use crate::{Error, Result, Store, row::ReadColumn};

/// The most that is kept of what a build says; its last lines are in its error.
const MAX_LOG_BYTES: i64 = 2 * 1024 * 1024;

/// What is to be built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewBuild {
    pub hash: String,
    pub image: String,
    pub base: String,
    pub dockerfile: String,
}

/// Which earlier build is good enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reuse {
    /// One that went well, or one that failed: nothing has changed since.
    Any,
    /// One that went well. What failed is tried again.
    Good,
    /// None but one that is under way.
    Nothing,
}

/// A build that was claimed, with the right to write its progress.
#[derive(Debug)]
pub struct ClaimedBuild {
    pub id: BuildId,
    pub new: NewBuild,
    /// Counts claims, from 1.
    pub attempt: i32,
    token: Uuid,
}

/// A piece of what a build said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogPiece {
    /// Higher than that of the piece before.
    pub number: i64,
    pub text: String,
}

/// Columns of an environment that tell of its image; `e` is the environment.
pub(crate) const ENVIRONMENT_COLUMNS: &str = "
    (select row_to_json(b) from builds b where b.id = e.build_id)::jsonb - 'dockerfile' as latest_build,
    (select b.image from builds b where b.id = e.image_build_id) as built_image";

impl Store {
    /// Asks for an image on behalf of an environment, whose latest build it becomes.
    ///
    /// Gives the build that is under way for the same hash, or else an earlier one as `reuse` permits, or else a new one.
    ///
    /// # Errors
    /// `NotFound` for an environment that is not there.
    pub async fn request_build(
        &self,
        project: &ProjectId,
        environment: &EnvironmentId,
        new: &NewBuild,
        reuse: Reuse,
    ) -> Result<Build> {
        let mut tx = self.pool.begin().await?;
        let before = sqlx::query(
            "-- request_build: lock
             select build_id from environments where project_id = $1 and id = $2 and deleted_at is null for update",
        )
        .bind(project.as_str())
        .bind(environment.as_str())
        .fetch_optional(&mut *tx)
        .await?
        .ok_or_else(|| Error::not_found("Environment", environment))?;
        let before: Option<BuildId> = before.parse_optional("build_id")?;
        let build = loop {
            if let Some(found) = find_reusable(&mut tx, &new.hash, reuse).await? {
                break found;
            }
            // Somebody else may be first; then theirs is found.
            let made = sqlx::query(
                "-- request_build
                 insert into builds (id, hash, image, base, dockerfile, status)
                 values ($1, $2, $3, $4, $5, 'queued')
                 on conflict (hash) where status in ('queued', 'running') do nothing
                 returning *",
            )
            .bind(BuildId::generate().as_str())
            .bind(&new.hash)
            .bind(&new.image)
            .bind(&new.base)
            .bind(&new.dockerfile)
            .fetch_optional(&mut *tx)
            .await?;
            if let Some(row) = made {
                break read(&row)?;
            }
        };
        sqlx::query(
            "-- request_build: attach
             with build as (
                 update builds set wanted_at = now(), cancel_requested_at = null where id = $2
             )
             update environments
             set build_id = $2, image_build_id = case when $3 then $2 else image_build_id end
             where id = $1",
        )
        .bind(environment.as_str())
        .bind(build.id.as_str())
        .bind(build.status == BuildStatus::Ready)
        .execute(&mut *tx)
        .await?;
        if let Some(before) = before.filter(|before| *before != build.id) {
            cancel_unwanted(&mut tx, &before).await?;
        }
        tx.commit().await?;
        self.hub.hint_builds();
        Ok(build)
    }

    /// Forgets that an image is there, which the engine says it is not.
    pub async fn forget_image(&self, hash: &str) -> Result<()> {
        sqlx::query("update builds set status = 'removed' where hash = $1 and status = 'ready'")
            .bind(hash)
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// Finds a build as it is now. Builds belong to no project: get the id from an environment.
    pub async fn find_build(&self, id: &BuildId) -> Result<Option<Build>> {
        let row =
            sqlx::query("select * from builds where id = $1").bind(id.as_str()).fetch_optional(&self.pool).await?;
        row.as_ref().map(read).transpose()
    }

    /// Lists what a build has said after the piece `after`, in order.
    pub async fn list_build_log(&self, id: &BuildId, after: i64) -> Result<Vec<LogPiece>> {
        let rows = sqlx::query(
            "-- list_build_log
             select number, text from build_log where build_id = $1 and number > $2 order by number",
        )
        .bind(id.as_str())
        .bind(after)
        .fetch_all(&self.pool)
        .await?;
        rows.iter().map(|row| Ok(LogPiece { number: row.try_get("number")?, text: row.try_get("text")? })).collect()
    }

    /// Claims the oldest build that is queued or whose lease has ended, for `ttl` from now.
    pub async fn claim_build(&self, ttl: Duration) -> Result<Option<ClaimedBuild>> {
        let row = sqlx::query(
            "-- claim_build
             with picked as (
                 select id from builds
                 where status = 'queued' or (status = 'running' and lease_until < now())
                 order by created_at
                 limit 1
                 for update skip locked
             )
             update builds b
             set status = 'running',
                 attempt = b.attempt + 1,
                 lease_token = gen_random_uuid(),
                 lease_node = $2,
                 lease_until = now() + $1,
                 started_at = coalesce(b.started_at, now())
             from picked
             where b.id = picked.id
             returning b.*",
        )
        .bind(ttl)
        .bind(&*self.node)
        .fetch_optional(&self.pool)
        .await?;
        let Some(row) = row else { return Ok(None) };
        Ok(Some(ClaimedBuild {
            id: row.parse("id")?,
            new: NewBuild {
                hash: row.try_get("hash")?,
                image: row.try_get("image")?,
                base: row.try_get("base")?,
                dockerfile: row.try_get("dockerfile")?,
            },
            attempt: row.try_get("attempt")?,
            token: row.try_get("lease_token")?,
        }))
    }

    /// Makes the lease on a build valid for another `ttl`. Gives whether nobody wants the build any more.
    ///
    /// # Errors
    /// `LeaseLost`.
    pub async fn renew_build(&self, build: &ClaimedBuild, ttl: Duration) -> Result<bool> {
        let is_unwanted = sqlx::query_scalar(
            "-- renew_build
             update builds
             set lease_until = now() + $3
             where id = $1 and lease_token = $2 and status = 'running'
             returning cancel_requested_at is not null",
        )
        .bind(build.id.as_str())
        .bind(build.token)
        .bind(ttl)
        .fetch_optional(&self.pool)
        .await?;
        is_unwanted.ok_or(Error::LeaseLost)
    }

    /// Writes down what a build has said since the last time. Beyond 2 MiB nothing is kept.
    ///
    /// # Errors
    /// `LeaseLost`.
    pub async fn append_build_log(&self, build: &ClaimedBuild, text: &str) -> Result<()> {
        let done = sqlx::query(
            "-- append_build_log
             with build as (
                 update builds
                 set log_bytes = log_bytes + octet_length($3)
                 where id = $1 and lease_token = $2 and status = 'running'
                 returning id, log_bytes
             ), piece as (
                 insert into build_log (build_id, text)
                 select id, $3 from build where log_bytes <= $4
             )
             select 1 from build",
        )
        .bind(build.id.as_str())
        .bind(build.token)
        .bind(text.replace('\0', "\u{fffd}"))
        .bind(MAX_LOG_BYTES)
        .fetch_optional(&self.pool)
        .await?;
        done.map(drop).ok_or(Error::LeaseLost)
    }

    /// Ends a build: its image is there and in use from now on, or it failed and says why; then what was in use stays.
    ///
    /// # Errors
    /// `LeaseLost`.
    pub async fn finish_build(&self, build: &ClaimedBuild, outcome: std::result::Result<(), &str>) -> Result<()> {
        let (status, error) = match outcome {
            Ok(()) => (BuildStatus::Ready, None),
            Err(error) => (BuildStatus::Failed, Some(error.replace('\0', "\u{fffd}"))),
        };
        let done = sqlx::query(
            "-- finish_build
             with build as (
                 update builds
                 set status = $3, error = $4, completed_at = now(), wanted_at = now(),
                     lease_token = null, lease_node = null, lease_until = null
                 where id = $1 and lease_token = $2 and status = 'running'
                 returning id, status
             ), users as (
                 update environments e
                 set image_build_id = build.id
                 from build
                 where e.build_id = build.id and build.status = 'ready'
             )
             select 1 from build",
        )
        .bind(build.id.as_str())
        .bind(build.token)
        .bind(status.as_str())
        .bind(error)
        .fetch_optional(&self.pool)
        .await?;
        done.map(drop).ok_or(Error::LeaseLost)
    }

    /// Gives a build back: cancelled if nobody wants it any more, else to be claimed again at once by anybody.
    pub async fn release_build(&self, build: &ClaimedBuild) -> Result<()> {
        sqlx::query(
            "-- release_build
             update builds
             set status = case when cancel_requested_at is null then 'queued' else 'cancelled' end,
                 completed_at = case when cancel_requested_at is null then null else now() end,
                 attempt = attempt - 1,
                 lease_token = null, lease_node = null, lease_until = null
             where id = $1 and lease_token = $2 and status = 'running'",
        )
        .bind(build.id.as_str())
        .bind(build.token)
        .execute(&self.pool)
        .await?;
        self.hub.hint_builds();
        Ok(())
    }

    /// Gives up images that no environment has and nobody has wanted for `keep`, and gives their names.
    pub async fn expire_images(&self, keep: Duration) -> Result<Vec<String>> {
        let mut tx = self.pool.begin().await?;
        let images: Vec<String> = sqlx::query_scalar(
            "-- expire_images
             with expired as (
                 update builds b
                 set status = 'removed'
                 where b.status = 'ready'
                   and b.wanted_at < now() - $1
                   and not exists(
                       select 1 from environments e join builds named on named.id in (e.build_id, e.image_build_id)
                       where e.deleted_at is null and named.image = b.image
                   )
                 returning b.image
             )
             select distinct image from expired",
        )
        .bind(keep)
        .fetch_all(&mut *tx)
        .await?;
        // Wanted again meanwhile, or by another row of the same image.
        let kept: Vec<String> = sqlx::query_scalar(
            "-- expire_images: kept
             select distinct image from builds where image = any($1) and status in ('queued', 'running', 'ready')",
        )
        .bind(&images)
        .fetch_all(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(images.into_iter().filter(|image| !kept.contains(image)).collect())
    }

    /// Lists the images that some row says are there, or will be.
    pub async fn list_images(&self) -> Result<Vec<String>> {
        let images =
            sqlx::query_scalar("select distinct image from builds where status in ('queued', 'running', 'ready')")
                .fetch_all(&self.pool)
                .await?;
        Ok(images)
    }
}

/// Finds a build of `hash` that need not be made again, the best first.
async fn find_reusable(tx: &mut PgConnection, hash: &str, reuse: Reuse) -> Result<Option<Build>> {
    let statuses: &[&str] = match reuse {
        Reuse::Any => &["queued", "running", "ready", "failed"],
        Reuse::Good => &["queued", "running", "ready"],
        Reuse::Nothing => &["queued", "running"],
    };
    let row = sqlx::query(
        "-- find_reusable
         select * from builds
         where hash = $1 and status = any($2)
         order by array_position(array['running', 'queued', 'ready', 'failed'], status), created_at desc
         limit 1",
    )
    .bind(hash)
    .bind(statuses)
    .fetch_optional(tx)
    .await?;
    row.as_ref().map(read).transpose()
}

/// Cancels a build that no environment waits for. One under way is asked to stop.
pub(crate) async fn cancel_unwanted(tx: &mut PgConnection, build: &BuildId) -> Result<()> {
    sqlx::query(
        "-- cancel_unwanted
         update builds b
         set cancel_requested_at = now(),
             status = case when b.status = 'queued' then 'cancelled' else b.status end,
             completed_at = case when b.status = 'queued' then now() else b.completed_at end
         where b.id = $1
           and b.status in ('queued', 'running')
           and not exists(select 1 from environments e where e.build_id = b.id and e.deleted_at is null)",
    )
    .bind(build.as_str())
    .execute(tx)
    .await?;
    Ok(())
}

/// Reads the columns [`ENVIRONMENT_COLUMNS`].
pub(crate) fn read_environment(row: &PgRow) -> Result<EnvironmentBuild> {
    let latest: Option<Latest> = row.json_optional("latest_build")?;
    let latest = latest.map(|latest| {
        Ok::<_, Error>(Build {
            id: latest.id.parse().map_err(Error::unreadable("a build's id"))?,
            hash: latest.hash,
            image: latest.image,
            status: latest.status.parse().map_err(Error::unreadable("a build's status"))?,
            error: latest.error,
            created_at: latest.created_at,
            completed_at: latest.completed_at,
        })
    });
    Ok(EnvironmentBuild { latest: latest.transpose()?, image: row.try_get("built_image")? })
}

/// A build's row as JSON.
#[derive(serde::Deserialize)]
struct Latest {
    id: String,
    hash: String,
    image: String,
    status: String,
    error: Option<String>,
    created_at: chrono::DateTime<chrono::Utc>,
    completed_at: Option<chrono::DateTime<chrono::Utc>>,
}

fn read(row: &PgRow) -> Result<Build> {
    Ok(Build {
        id: row.parse("id")?,
        hash: row.try_get("hash")?,
        image: row.try_get("image")?,
        status: row.parse("status")?,
        error: row.try_get("error")?,
        created_at: row.try_get("created_at")?,
        completed_at: row.try_get("completed_at")?,
    })
}
