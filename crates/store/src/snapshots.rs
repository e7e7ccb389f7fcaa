//! Snapshots of an environment's files: rows only, the contents are in its store.

use domain::{
    EnvironmentId, ProjectId, SnapshotId,
    change::{Snapshot, SnapshotStats},
};
use sqlx::{PgConnection, Row, postgres::PgRow};

use crate::{Error, Page, Paged, Result, Store, row::ReadColumn};

/// A state to be written down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewSnapshot {
    pub tree: String,
    pub stats: SnapshotStats,
}

impl Store {
    /// Gives the newest snapshot of an environment, of whichever project.
    pub async fn latest_snapshot(&self, environment: &EnvironmentId) -> Result<Option<Snapshot>> {
        let row = sqlx::query(
            "-- latest_snapshot
             select * from snapshots where environment_id = $1 order by number desc limit 1",
        )
        .bind(environment.as_str())
        .fetch_optional(&self.pool)
        .await?;
        row.as_ref().map(read).transpose()
    }

    /// Adds the first snapshot of an environment, or gives the newest one if it has any.
    pub async fn first_snapshot(&self, environment: &EnvironmentId, new: &NewSnapshot) -> Result<Snapshot> {
        let mut connection = self.pool.acquire().await?;
        match add(&mut connection, environment, None, new).await {
            Err(Error::Conflict(_)) => {}
            added => return added,
        }
        drop(connection);
        self.latest_snapshot(environment).await?.ok_or_else(|| Error::not_found("Environment", environment))
    }

    /// Finds a snapshot of an environment of the project.
    pub async fn find_snapshot(
        &self,
        project: &ProjectId,
        environment: &EnvironmentId,
        id: &SnapshotId,
    ) -> Result<Option<Snapshot>> {
        let row = sqlx::query(
            "-- find_snapshot
             select s.*
             from snapshots s join environments e on e.id = s.environment_id
             where e.project_id = $1 and e.deleted_at is null and s.environment_id = $2 and s.id = $3",
        )
        .bind(project.as_str())
        .bind(environment.as_str())
        .bind(id.as_str())
        .fetch_optional(&self.pool)
        .await?;
        row.as_ref().map(read).transpose()
    }

    /// Lists the snapshots of an environment of the project, newest first.
    pub async fn list_snapshots(
        &self,
        project: &ProjectId,
        environment: &EnvironmentId,
        page: Page,
    ) -> Result<Paged<Snapshot>> {
        let rows = sqlx::query(
            "-- list_snapshots
             select s.*
             from snapshots s join environments e on e.id = s.environment_id
             where e.project_id = $1 and s.environment_id = $2
             order by s.number desc
             limit $3 offset $4",
        )
        .bind(project.as_str())
        .bind(environment.as_str())
        .bind(page.limit)
        .bind(page.offset)
        .fetch_all(&self.pool)
        .await?;
        let total = sqlx::query_scalar(
            "-- list_snapshots: total
             select count(*)
             from snapshots s join environments e on e.id = s.environment_id
             where e.project_id = $1 and s.environment_id = $2",
        )
        .bind(project.as_str())
        .bind(environment.as_str())
        .fetch_one(&self.pool)
        .await?;
        Ok(Paged { items: rows.iter().map(read).collect::<Result<_>>()?, total })
    }
}

/// Adds a snapshot behind `parent`.
///
/// # Errors
/// `Conflict` if there is another behind it by now.
pub(crate) async fn add(
    connection: &mut PgConnection,
    environment: &EnvironmentId,
    parent: Option<&Snapshot>,
    new: &NewSnapshot,
) -> Result<Snapshot> {
    let row = sqlx::query(
        "-- add
         insert into snapshots (id, environment_id, number, parent_id, tree, files, directories, bytes, left_out)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9)
         on conflict on constraint snapshots_number do nothing
         returning *",
    )
    .bind(SnapshotId::generate().as_str())
    .bind(environment.as_str())
    .bind(parent.map_or(1, |parent| parent.number + 1))
    .bind(parent.map(|parent| parent.id.as_str()))
    .bind(&new.tree)
    .bind(new.stats.files)
    .bind(new.stats.directories)
    .bind(new.stats.bytes)
    .bind(new.stats.left_out)
    .fetch_optional(connection)
    .await?;
    let row = row.ok_or_else(|| Error::Conflict("another snapshot was taken meanwhile".into()))?;
    read(&row)
}

pub(crate) fn read(row: &PgRow) -> Result<Snapshot> {
    Ok(Snapshot {
        id: row.parse("id")?,
        environment_id: row.parse("environment_id")?,
        number: row.try_get("number")?,
        parent_id: row.parse_optional("parent_id")?,
        tree: row.try_get("tree")?,
        stats: SnapshotStats {
            files: row.try_get("files")?,
            directories: row.try_get("directories")?,
            bytes: row.try_get("bytes")?,
            left_out: row.try_get("left_out")?,
        },
        created_at: row.try_get("created_at")?,
    })
}
