//! The people of an organization, and that nobody who is deactivated has a key.
//!
//! Whatever gives somebody a key or takes all keys away holds the organization's row: such things are rare, and so none
//! of them can slip between two steps of another.

use chrono::{DateTime, Utc};
use domain::{OrganizationId, user::User};
use serde_json::{Map, Value};
use sqlx::{PgConnection, Row, postgres::PgRow};

use crate::{
    Error, Page, Paged, Result, Store,
    keys::Owner,
    row::{ReadColumn, to_json},
};

/// What a user is made of.
#[derive(Debug, Clone)]
pub struct NewUser {
    /// An id of the caller's choice, else one is made.
    pub id: Option<String>,
    pub name: String,
    pub email: Option<String>,
    pub metadata: Option<Map<String, Value>>,
}

/// A user, and what their keys do.
#[derive(Debug, Clone, PartialEq)]
pub struct KnownUser {
    pub user: User,
    /// Keys that open something.
    pub active_keys: i64,
    /// When one of their keys was last used, to the minute.
    pub last_used_at: Option<DateTime<Utc>>,
}

const KNOWN: &str = "u.*,
    (select count(*) from api_keys k join projects p on p.id = k.project_id
     where k.user_id = u.id and p.organization_id = u.organization_id and p.deleted_at is null
       and k.revoked_at is null and (k.expires_at is null or k.expires_at > now())) as active_keys,
    (select max(k.last_used_at) from api_keys k join projects p on p.id = k.project_id
     where k.user_id = u.id and p.organization_id = u.organization_id) as last_used_at";

impl Store {
    /// Makes a user.
    ///
    /// # Errors
    /// `Conflict` if the id is taken.
    pub async fn create_user(&self, organization: &OrganizationId, new: NewUser) -> Result<KnownUser> {
        let id = new.id.unwrap_or_else(|| format!("user_{}", uuid::Uuid::now_v7().simple()));
        let row = sqlx::query(sqlx::AssertSqlSafe(format!(
            "-- create_user
             with u as (
                 insert into users (organization_id, id, name, email, metadata)
                 values ($1, $2, $3, $4, $5)
                 on conflict do nothing
                 returning *
             )
             select {KNOWN} from u"
        )))
        .bind(organization.as_str())
        .bind(&id)
        .bind(&new.name)
        .bind(&new.email)
        .bind(new.metadata.as_ref().map(to_json))
        .fetch_optional(&self.pool)
        .await?;
        let row = row.ok_or_else(|| Error::Conflict(format!("a user with the id {id} exists already")))?;
        read(&row)
    }

    /// Lists the users of an organization by their names.
    pub async fn list_users(
        &self,
        organization: &OrganizationId,
        is_active: Option<bool>,
        page: Page,
    ) -> Result<Paged<KnownUser>> {
        const WHERE: &str = "from users u
             where u.organization_id = $1 and ($2::boolean is null or (u.deactivated_at is null) = $2)";
        let rows = sqlx::query(sqlx::AssertSqlSafe(format!(
            "-- list_users
             select {KNOWN} {WHERE} order by u.name, u.id limit $3 offset $4"
        )))
        .bind(organization.as_str())
        .bind(is_active)
        .bind(page.limit)
        .bind(page.offset)
        .fetch_all(&self.pool)
        .await?;
        let total = sqlx::query_scalar(sqlx::AssertSqlSafe(format!(
            "-- list_users: total
             select count(*) {WHERE}"
        )))
        .bind(organization.as_str())
        .bind(is_active)
        .fetch_one(&self.pool)
        .await?;
        Ok(Paged { items: rows.iter().map(read).collect::<Result<_>>()?, total })
    }

    /// Finds a user.
    pub async fn find_user(&self, organization: &OrganizationId, id: &str) -> Result<Option<KnownUser>> {
        let row = sqlx::query(sqlx::AssertSqlSafe(format!(
            "-- find_user
             select {KNOWN} from users u where u.organization_id = $1 and u.id = $2"
        )))
        .bind(organization.as_str())
        .bind(id)
        .fetch_optional(&self.pool)
        .await?;
        row.as_ref().map(read).transpose()
    }

    /// Changes a user as `change` says, under the row's lock. One who is deactivated by that loses all keys with it: they are
    /// refused from then on, on every server.
    pub async fn update_user(
        &self,
        organization: &OrganizationId,
        id: &str,
        change: impl FnOnce(&mut User) + Send,
    ) -> Result<KnownUser> {
        let mut tx = self.pool.begin().await?;
        lock(&mut tx, Owner::Organization(organization)).await?;
        let row = sqlx::query("select * from users where organization_id = $1 and id = $2 for update")
            .bind(organization.as_str())
            .bind(id)
            .fetch_optional(&mut *tx)
            .await?
            .ok_or_else(|| Error::not_found("User", id))?;
        let mut user = read_user(&row)?;
        change(&mut user);
        if user.deactivated_at.is_some() {
            revoke_keys(&mut tx, organization, id).await?;
        }
        let row = sqlx::query(sqlx::AssertSqlSafe(format!(
            "-- update_user
             with u as (
                 update users set name = $3, email = $4, metadata = $5, deactivated_at = $6, updated_at = now()
                 where organization_id = $1 and id = $2
                 returning *
             )
             select {KNOWN} from u"
        )))
        .bind(organization.as_str())
        .bind(id)
        .bind(&user.name)
        .bind(&user.email)
        .bind(user.metadata.as_ref().map(to_json))
        .bind(user.deactivated_at)
        .fetch_one(&mut *tx)
        .await?;
        tx.commit().await?;
        read(&row)
    }

    /// Forgets a user's name, address and metadata, and revokes their keys. What was done with those keys stays theirs by
    /// their id.
    pub async fn delete_user(&self, organization: &OrganizationId, id: &str) -> Result<()> {
        let mut tx = self.pool.begin().await?;
        lock(&mut tx, Owner::Organization(organization)).await?;
        revoke_keys(&mut tx, organization, id).await?;
        let done = sqlx::query("delete from users where organization_id = $1 and id = $2")
            .bind(organization.as_str())
            .bind(id)
            .execute(&mut *tx)
            .await?;
        if done.rows_affected() == 0 {
            return Err(Error::not_found("User", id));
        }
        tx.commit().await?;
        Ok(())
    }
}

/// Holds an organization's people, and who has which key, as they are.
pub(crate) async fn lock(tx: &mut PgConnection, owner: Owner<'_>) -> Result<()> {
    let (project, organization) = owner.columns();
    sqlx::query(
        "-- users: lock
         select 1 from organizations
         where id = coalesce($2, (select organization_id from projects where id = $1))
         for no key update",
    )
    .bind(project)
    .bind(organization)
    .execute(tx)
    .await?;
    Ok(())
}

/// Lets somebody have a key of a project, whose people the caller holds. Who is not known yet is from then on.
///
/// # Errors
/// `State` for one who is deactivated.
pub(crate) async fn admit(tx: &mut PgConnection, project: &str, id: &str) -> Result<()> {
    let is_deactivated: bool = sqlx::query_scalar(
        "-- users: admit
         insert into users (organization_id, id, name)
         select organization_id, $2, $2 from projects where id = $1
         on conflict on constraint users_pkey do update set id = excluded.id
         returning deactivated_at is not null",
    )
    .bind(project)
    .bind(id)
    .fetch_one(tx)
    .await?;
    if is_deactivated {
        return Err(Error::State(format!("the user {id} is deactivated, so no key can be theirs")));
    }
    Ok(())
}

async fn revoke_keys(tx: &mut PgConnection, organization: &OrganizationId, id: &str) -> Result<()> {
    sqlx::query(
        "-- users: revoke keys
         update api_keys k
         set revoked_at = now()
         from projects p
         where p.id = k.project_id and p.organization_id = $1 and k.user_id = $2 and k.revoked_at is null",
    )
    .bind(organization.as_str())
    .bind(id)
    .execute(tx)
    .await?;
    Ok(())
}

fn read(row: &PgRow) -> Result<KnownUser> {
    Ok(KnownUser {
        user: read_user(row)?,
        active_keys: row.try_get("active_keys")?,
        last_used_at: row.try_get("last_used_at")?,
    })
}

fn read_user(row: &PgRow) -> Result<User> {
    Ok(User {
        organization_id: row.parse("organization_id")?,
        id: row.try_get("id")?,
        name: row.try_get("name")?,
        email: row.try_get("email")?,
        metadata: row.json_optional("metadata")?,
        created_at: row.try_get("created_at")?,
        updated_at: row.try_get("updated_at")?,
        deactivated_at: row.try_get("deactivated_at")?,
    })
}
