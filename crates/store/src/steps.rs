//! Steps: the changes that a thread's runs made to files, in the thread's own order.

use domain::{
    ChangeId, ProjectId, StepId, ThreadId,
    change::{ChangedPath, Step},
};
use sqlx::{Row, postgres::PgRow};

use crate::{
    Page, Paged, Result, Store,
    changes::{self, COLUMNS},
    row::ReadColumn,
};

/// Columns of a step `st` with the change `c`. Messages keep their position when a thread is copied.
const OWN: &str = "st.id as own_id, st.thread_id as own_thread_id, st.sequence, st.created_at as own_created_at, (
    select m.id
    from messages o join messages m on m.thread_id = st.thread_id and m.position = o.position
    where o.id = c.message_id
) as own_message_id";

impl Store {
    /// Lists the steps of a thread of the project, oldest first.
    pub async fn list_steps(&self, project: &ProjectId, thread: &ThreadId, page: Page) -> Result<Paged<Step>> {
        let rows = sqlx::query(sqlx::AssertSqlSafe(format!(
            "-- list_steps
             select {COLUMNS}, {OWN}
             from steps st
             join threads th on th.id = st.thread_id
             join changes c on c.id = st.change_id
             where th.project_id = $1 and th.deleted_at is null and st.thread_id = $2
             order by st.sequence
             limit $3 offset $4"
        )))
        .bind(project.as_str())
        .bind(thread.as_str())
        .bind(page.limit)
        .bind(page.offset)
        .fetch_all(&self.pool)
        .await?;
        let total: Option<i64> = sqlx::query_scalar(
            "-- list_steps: total
             select last_step from threads where project_id = $1 and id = $2 and deleted_at is null",
        )
        .bind(project.as_str())
        .bind(thread.as_str())
        .fetch_optional(&self.pool)
        .await?;
        Ok(Paged { items: rows.iter().map(read).collect::<Result<_>>()?, total: total.unwrap_or(0) })
    }

    /// Finds a step of a thread of the project.
    pub async fn find_step(&self, project: &ProjectId, thread: &ThreadId, id: &StepId) -> Result<Option<Step>> {
        let row = sqlx::query(sqlx::AssertSqlSafe(format!(
            "-- find_step
             select {COLUMNS}, {OWN}
             from steps st
             join threads th on th.id = st.thread_id
             join changes c on c.id = st.change_id
             where th.project_id = $1 and th.deleted_at is null and st.thread_id = $2 and st.id = $3"
        )))
        .bind(project.as_str())
        .bind(thread.as_str())
        .bind(id.as_str())
        .fetch_optional(&self.pool)
        .await?;
        row.as_ref().map(read).transpose()
    }

    /// Finds the step of a thread that one of the changes is. Of several, the newest.
    pub async fn find_step_of(&self, thread: &ThreadId, changes: &[ChangeId]) -> Result<Option<Step>> {
        let row = sqlx::query(sqlx::AssertSqlSafe(format!(
            "-- find_step_of
             select {COLUMNS}, {OWN}
             from steps st join changes c on c.id = st.change_id
             where st.thread_id = $1 and st.change_id = any($2)
             order by st.sequence desc
             limit 1"
        )))
        .bind(thread.as_str())
        .bind(changes.iter().map(ChangeId::as_str).collect::<Vec<_>>())
        .fetch_optional(&self.pool)
        .await?;
        row.as_ref().map(read).transpose()
    }

    /// Lists the paths that steps of a thread changed, up to and including the step with this number, each once.
    pub async fn list_step_paths(&self, thread: &ThreadId, last: i64) -> Result<Vec<String>> {
        Ok(sqlx::query_scalar(
            "-- list_step_paths
             select distinct cp.path
             from steps st join change_paths cp on cp.change_id = st.change_id
             where st.thread_id = $1 and st.sequence <= $2
             order by cp.path",
        )
        .bind(thread.as_str())
        .bind(last)
        .fetch_all(&self.pool)
        .await?)
    }

    /// Lists the steps of a thread of the project that changed a path, newest first.
    pub async fn list_file_steps(
        &self,
        project: &ProjectId,
        thread: &ThreadId,
        path: &str,
        page: Page,
    ) -> Result<Paged<(Step, ChangedPath)>> {
        let rows = sqlx::query(sqlx::AssertSqlSafe(format!(
            "-- list_file_steps
             select {COLUMNS}, {OWN},
                 cp.path, cp.operation, cp.is_directory, cp.previous_path, cp.size,
                 cp.additions as path_additions, cp.deletions as path_deletions,
                 count(*) over () as total
             from steps st
             join threads th on th.id = st.thread_id
             join changes c on c.id = st.change_id
             join change_paths cp on cp.change_id = c.id
             where th.project_id = $1 and th.deleted_at is null and st.thread_id = $2 and cp.path = $3
             order by st.sequence desc
             limit $4 offset $5"
        )))
        .bind(project.as_str())
        .bind(thread.as_str())
        .bind(path)
        .bind(page.limit)
        .bind(page.offset)
        .fetch_all(&self.pool)
        .await?;
        let total = rows.first().map(|row| row.try_get("total")).transpose()?.unwrap_or(0);
        let read = |row| {
            let mut path = changes::read_path(row)?;
            // The change's own are of all its paths.
            path.additions = row.try_get("path_additions")?;
            path.deletions = row.try_get("path_deletions")?;
            Ok((read(row)?, path))
        };
        Ok(Paged { items: rows.iter().map(read).collect::<Result<_>>()?, total })
    }
}

fn read(row: &PgRow) -> Result<Step> {
    Ok(Step {
        id: row.parse("own_id")?,
        thread_id: row.parse("own_thread_id")?,
        sequence: row.try_get("sequence")?,
        message_id: row.parse_optional("own_message_id")?,
        change: changes::read(row)?,
        created_at: row.try_get("own_created_at")?,
    })
}
