//! What changed between snapshots, and who did it.

use domain::{
    AgentId, ChangeId, EnvironmentId, ProjectId, RunId, SnapshotId, StepId,
    change::{Author, Change, ChangedPath, Operation, Snapshot},
};
use sqlx::{PgConnection, Row, postgres::PgRow};

use crate::{
    Error, Page, Paged, Result, Store,
    row::ReadColumn,
    snapshots::{self, NewSnapshot},
};

/// A change to be written down, with the state it led to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewChange {
    pub snapshot: NewSnapshot,
    pub author: Author,
    pub shared_with: Vec<RunId>,
    pub title: String,
    pub additions: i64,
    pub deletions: i64,
    pub paths: i64,
    /// The first of them.
    pub first_paths: Vec<ChangedPath>,
}

/// Which changes are wanted.
#[derive(Debug, Clone, Default)]
pub struct ChangeFilter {
    pub agent: Option<AgentId>,
    /// Those with a path to which one of these was done. Empty: all.
    pub operations: Vec<Operation>,
    /// Only those that led to one of these. Empty: all.
    pub snapshots: Vec<SnapshotId>,
}

/// A change with the names of what it points to.
#[derive(Debug, Clone)]
pub struct NamedChange {
    pub change: Change,
    pub thread_title: Option<String>,
    pub agent_name: Option<String>,
    pub project_name: String,
}

/// Columns of a change `c`, with its own step.
pub(crate) const COLUMNS: &str = "c.*, (
    select st.id from steps st where st.change_id = c.id and st.thread_id = c.thread_id limit 1
) as step_id";

impl Store {
    /// Writes down changes that follow one another from the snapshot `parent`. Those of a thread become its steps.
    ///
    /// # Errors
    /// `Conflict` if another snapshot follows `parent` by now; nothing is written then.
    pub async fn add_changes(
        &self,
        environment: &EnvironmentId,
        parent: &Snapshot,
        changes: &[NewChange],
    ) -> Result<Vec<(Snapshot, ChangeId)>> {
        let mut tx = self.pool.begin().await?;
        // Threads first, in the same order everywhere.
        let mut threads: Vec<&str> =
            changes.iter().filter_map(|change| change.author.thread_id.as_ref().map(|id| id.as_str())).collect();
        threads.sort_unstable();
        threads.dedup();
        for thread in threads {
            sqlx::query("select 1 from threads where id = $1 for no key update").bind(thread).execute(&mut *tx).await?;
        }
        let mut parent = parent.clone();
        let mut added = Vec::new();
        for change in changes {
            let snapshot = snapshots::add(&mut tx, environment, Some(&parent), &change.snapshot).await?;
            let id = add(&mut tx, environment, &parent, &snapshot, change).await?;
            added.push((snapshot.clone(), id));
            parent = snapshot;
        }
        tx.commit().await?;
        Ok(added)
    }

    /// Finds a change of an environment of the project.
    pub async fn find_change(
        &self,
        project: &ProjectId,
        environment: &EnvironmentId,
        id: &ChangeId,
    ) -> Result<Option<NamedChange>> {
        let row = sqlx::query(sqlx::AssertSqlSafe(format!(
            "-- find_change
             select {COLUMNS}, t.title as thread_title, a.name as agent_name, p.name as project_name
             from changes c
             join environments e on e.id = c.environment_id
             join projects p on p.id = e.project_id
             left join threads t on t.id = c.thread_id
             left join agents a on a.project_id = e.project_id and a.id = c.agent_id
             where e.project_id = $1 and e.deleted_at is null and c.environment_id = $2 and c.id = $3"
        )))
        .bind(project.as_str())
        .bind(environment.as_str())
        .bind(id.as_str())
        .fetch_optional(&self.pool)
        .await?;
        row.as_ref().map(read_named).transpose()
    }

    /// Lists the changes of an environment of the project, newest first.
    pub async fn list_changes(
        &self,
        project: &ProjectId,
        environment: &EnvironmentId,
        filter: &ChangeFilter,
        page: Page,
    ) -> Result<Paged<NamedChange>> {
        let operations: Vec<&str> = filter.operations.iter().map(|operation| operation.as_str()).collect();
        let snapshots: Vec<&str> = filter.snapshots.iter().map(|id| id.as_str()).collect();
        let rows = sqlx::query(sqlx::AssertSqlSafe(format!(
            "-- list_changes
             select {COLUMNS}, t.title as thread_title, a.name as agent_name, p.name as project_name,
                 count(*) over () as total
             from changes c
             join snapshots s on s.id = c.snapshot_id
             join environments e on e.id = c.environment_id
             join projects p on p.id = e.project_id
             left join threads t on t.id = c.thread_id
             left join agents a on a.project_id = e.project_id and a.id = c.agent_id
             where e.project_id = $1
               and c.environment_id = $2
               and ($3::text is null or c.agent_id = $3)
               and (cardinality($4::text[]) = 0 or exists(
                   select 1 from change_paths cp where cp.change_id = c.id and cp.operation = any($4)
               ))
               and (cardinality($5::text[]) = 0 or c.snapshot_id = any($5))
             order by s.number desc
             limit $6 offset $7"
        )))
        .bind(project.as_str())
        .bind(environment.as_str())
        .bind(filter.agent.as_ref().map(AgentId::as_str))
        .bind(&operations)
        .bind(&snapshots)
        .bind(page.limit)
        .bind(page.offset)
        .fetch_all(&self.pool)
        .await?;
        let total = match rows.first() {
            Some(row) => row.try_get("total")?,
            // Nothing there to count beside: a page past the end says so by its own offset.
            None => page.offset.min(self.count_changes(environment, filter).await?),
        };
        Ok(Paged { items: rows.iter().map(read_named).collect::<Result<_>>()?, total })
    }

    async fn count_changes(&self, environment: &EnvironmentId, filter: &ChangeFilter) -> Result<i64> {
        let operations: Vec<&str> = filter.operations.iter().map(|operation| operation.as_str()).collect();
        Ok(sqlx::query_scalar(
            "-- count_changes
             select count(*) from changes c
             where c.environment_id = $1
               and ($2::text is null or c.agent_id = $2)
               and (cardinality($3::text[]) = 0 or exists(
                   select 1 from change_paths cp where cp.change_id = c.id and cp.operation = any($3)
               ))",
        )
        .bind(environment.as_str())
        .bind(filter.agent.as_ref().map(AgentId::as_str))
        .bind(&operations)
        .fetch_one(&self.pool)
        .await?)
    }

    /// Gives the first paths of each of the changes, at most `limit` of one, sorted by path.
    pub async fn list_changed_paths(&self, changes: &[ChangeId], limit: i32) -> Result<Vec<(ChangeId, ChangedPath)>> {
        let ids: Vec<&str> = changes.iter().map(|id| id.as_str()).collect();
        let rows = sqlx::query(
            "-- list_changed_paths
             select * from change_paths where change_id = any($1) and position < $2 order by change_id, position",
        )
        .bind(&ids)
        .bind(limit)
        .fetch_all(&self.pool)
        .await?;
        rows.iter().map(|row| Ok((row.parse("change_id")?, read_path(row)?))).collect()
    }
}

async fn add(
    tx: &mut PgConnection,
    environment: &EnvironmentId,
    before: &Snapshot,
    after: &Snapshot,
    change: &NewChange,
) -> Result<ChangeId> {
    let id = ChangeId::generate();
    let Author { source, thread_id, run_id, message_id, agent_id, key_id } = &change.author;
    let shared_with: Vec<&str> = change.shared_with.iter().map(|run| run.as_str()).collect();
    sqlx::query(
        "-- add
         insert into changes (id, environment_id, snapshot_id, before_id, source, title, thread_id, run_id, message_id,
             agent_id, key_id, shared_with, additions, deletions, paths)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)",
    )
    .bind(id.as_str())
    .bind(environment.as_str())
    .bind(after.id.as_str())
    .bind(before.id.as_str())
    .bind(source.as_str())
    .bind(&change.title)
    .bind(thread_id.as_ref().map(|id| id.as_str()))
    .bind(run_id.as_ref().map(|id| id.as_str()))
    .bind(message_id.as_ref().map(|id| id.as_str()))
    .bind(agent_id.as_ref().map(|id| id.as_str()))
    .bind(key_id.as_ref().map(|id| id.as_str()))
    .bind(&shared_with)
    .bind(change.additions)
    .bind(change.deletions)
    .bind(change.paths)
    .execute(&mut *tx)
    .await?;
    let paths = &change.first_paths;
    sqlx::query(
        "-- add: paths
         insert into change_paths (change_id, position, path, operation, is_directory, previous_path, additions,
             deletions, size)
         select $1, p.position - 1, p.path, p.operation, p.is_directory, p.previous_path, p.additions, p.deletions, p.size
         from unnest($2::text[], $3::text[], $4::boolean[], $5::text[], $6::bigint[], $7::bigint[], $8::bigint[])
             with ordinality
             as p(path, operation, is_directory, previous_path, additions, deletions, size, position)",
    )
    .bind(id.as_str())
    .bind(paths.iter().map(|path| path.path.as_str()).collect::<Vec<_>>())
    .bind(paths.iter().map(|path| path.operation.as_str()).collect::<Vec<_>>())
    .bind(paths.iter().map(|path| path.is_directory).collect::<Vec<_>>())
    .bind(paths.iter().map(|path| path.previous_path.as_deref()).collect::<Vec<_>>())
    .bind(paths.iter().map(|path| path.additions).collect::<Vec<_>>())
    .bind(paths.iter().map(|path| path.deletions).collect::<Vec<_>>())
    .bind(paths.iter().map(|path| path.size).collect::<Vec<_>>())
    .execute(&mut *tx)
    .await?;
    if let Some(thread) = thread_id {
        sqlx::query(
            "-- add: step
             with thread as (
                 update threads set last_step = last_step + 1 where id = $2 returning id, last_step
             )
             insert into steps (id, thread_id, sequence, change_id)
             select $1, thread.id, thread.last_step, $3 from thread",
        )
        .bind(StepId::generate().as_str())
        .bind(thread.as_str())
        .bind(id.as_str())
        .execute(&mut *tx)
        .await?;
    }
    Ok(id)
}

fn read_named(row: &PgRow) -> Result<NamedChange> {
    Ok(NamedChange {
        change: read(row)?,
        thread_title: row.try_get("thread_title")?,
        agent_name: row.try_get("agent_name")?,
        project_name: row.try_get("project_name")?,
    })
}

/// Reads the [`COLUMNS`].
pub(crate) fn read(row: &PgRow) -> Result<Change> {
    let shared_with: Vec<String> = row.try_get("shared_with")?;
    Ok(Change {
        id: row.parse("id")?,
        environment_id: row.parse("environment_id")?,
        before_id: row.parse("before_id")?,
        snapshot_id: row.parse("snapshot_id")?,
        author: Author {
            source: row.parse("source")?,
            thread_id: row.parse_optional("thread_id")?,
            run_id: row.parse_optional("run_id")?,
            message_id: row.parse_optional("message_id")?,
            agent_id: row.parse_optional("agent_id")?,
            key_id: row.parse_optional("key_id")?,
        },
        shared_with: shared_with
            .into_iter()
            .map(|id| id.parse().map_err(Error::unreadable("shared_with")))
            .collect::<Result<_>>()?,
        title: row.try_get("title")?,
        additions: row.try_get("additions")?,
        deletions: row.try_get("deletions")?,
        paths: row.try_get("paths")?,
        step_id: row.parse_optional("step_id")?,
        created_at: row.try_get("created_at")?,
    })
}

pub(crate) fn read_path(row: &PgRow) -> Result<ChangedPath> {
    Ok(ChangedPath {
        path: row.try_get("path")?,
        operation: row.parse("operation")?,
        is_directory: row.try_get("is_directory")?,
        previous_path: row.try_get("previous_path")?,
        additions: row.try_get("additions")?,
        deletions: row.try_get("deletions")?,
        size: row.try_get("size")?,
    })
}
