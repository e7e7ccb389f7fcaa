//! Work that starts by itself: a thread with its first run, for whoever has nobody to tell of a failure.

use domain::{AgentId, EnvironmentId, ProjectId, limits::Limits};
use sqlx::{Acquire, PgConnection};

use crate::{
    Error, Result,
    row::ReadColumn,
    runs::{self, NewRun, Started},
    threads::{self, NewThread},
};

/// What is to be done, and where.
pub(crate) struct Work<'a> {
    /// `None`: the project's default environment.
    pub environment_id: Option<&'a EnvironmentId>,
    pub agent_id: Option<&'a AgentId>,
    pub app_id: Option<&'a str>,
    pub title: &'a str,
    pub task: &'a str,
}

/// Makes the thread and the run, or says why there can be none: what the work refers to is gone, and trying again would
/// change nothing. What failed in the transaction is undone, so that it can be used to write that down.
pub(crate) async fn start(
    tx: &mut PgConnection,
    project: &ProjectId,
    work: Work<'_>,
) -> Result<std::result::Result<Started, String>> {
    let mut attempt = tx.begin().await?;
    match make_run(&mut attempt, project, work).await {
        Ok(started) => {
            attempt.commit().await?;
            Ok(Ok(started))
        }
        Err(err @ (Error::NotFound { .. } | Error::State(_))) => {
            attempt.rollback().await?;
            Ok(Err(err.to_string()))
        }
        Err(err) => Err(err),
    }
}

async fn make_run(tx: &mut PgConnection, project: &ProjectId, work: Work<'_>) -> Result<Started> {
    let environment_id = match work.environment_id {
        Some(id) => id.clone(),
        None => default_environment(tx, project).await?,
    };
    let new_thread = NewThread {
        environment_id,
        agent_id: work.agent_id.cloned(),
        app_id: work.app_id.map(str::to_owned),
        title: Some(work.title.to_owned()),
        task: Some(work.task.to_owned()),
        metadata: None,
        limits: Limits::default(),
    };
    let thread = threads::insert(tx, project, &new_thread).await?;
    let run = NewRun { messages: vec![work.task.into()], ..NewRun::default() };
    runs::start(tx, project, &thread, &run, true).await
}

async fn default_environment(tx: &mut PgConnection, project: &ProjectId) -> Result<EnvironmentId> {
    let row = sqlx::query(
        "-- starting: default environment
         select id from environments where project_id = $1 and is_default and deleted_at is null",
    )
    .bind(project.as_str())
    .fetch_optional(tx)
    .await?;
    match row {
        Some(row) => row.parse("id"),
        None => Err(Error::State("the project has no default environment, and none is named".into())),
    }
}
