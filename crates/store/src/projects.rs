//! Projects: the owners of everything.

use domain::ProjectId;

use crate::{Result, Store};

impl Store {
    /// Gives the installation's first project, made on the first call.
    pub async fn default_project(&self) -> Result<ProjectId> {
        // The lock makes two servers that start at once agree on one project.
        let mut tx = self.pool.begin().await?;
        sqlx::query("select pg_advisory_xact_lock(hashtext('atelier.default_project'))").execute(&mut *tx).await?;
        let found: Option<String> = sqlx::query_scalar("select id from projects order by created_at, id limit 1")
            .fetch_optional(&mut *tx)
            .await?;
        let id = match found {
            Some(id) => id.parse().map_err(crate::Error::unreadable("a project id"))?,
            None => {
                let id = ProjectId::generate();
                sqlx::query("insert into projects (id, name) values ($1, 'Default')")
                    .bind(id.as_str())
                    .execute(&mut *tx)
                    .await?;
                id
            }
        };
        tx.commit().await?;
        Ok(id)
    }

    /// Makes a project.
    pub async fn create_project(&self, name: &str) -> Result<ProjectId> {
        let id = ProjectId::generate();
        sqlx::query("insert into projects (id, name) values ($1, $2)")
            .bind(id.as_str())
            .bind(name)
            .execute(&self.pool)
            .await?;
        Ok(id)
    }
}
