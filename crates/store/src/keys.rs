//! API keys: made once, shown once, kept as a hash.
//!
//! A key is `tb_` and 64 hex digits (256 random bits), so a plain SHA-256 is as good as a slow hash and costs
//! microseconds. The row is found by the hash through an index; the comparison that decides is made in constant time.
//! Nothing of it is remembered between requests: a key that is revoked is refused by every server from the commit on.

use chrono::{DateTime, Utc};
use domain::{
    ApiKeyId, OrganizationId, ProjectId,
    key::{ApiKey, KeyKind},
    scope::Scopes,
};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use sqlx::{PgConnection, Row, postgres::PgRow};
use subtle::ConstantTimeEq;

use crate::{
    Error, Page, Paged, Result, Store,
    row::{ReadColumn, to_json},
    users,
};

mod usage;

pub use usage::{DayUsage, KeyUsage, Usage};

/// What every key begins with: what does not is refused without a query.
const PREFIX: &str = "tb_";

/// What a key is made from.
#[derive(Debug, Clone)]
pub struct NewKey {
    pub name: String,
    pub description: Option<String>,
    pub kind: KeyKind,
    pub scopes: Scopes,
    pub user_id: Option<String>,
    pub metadata: Option<Map<String, Value>>,
    pub expires_at: Option<DateTime<Utc>>,
    pub created_by: Option<ApiKeyId>,
}

impl NewKey {
    /// A key that may do everything in its project, for ever.
    pub fn named(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            description: None,
            kind: KeyKind::Standard,
            scopes: Scopes::all(),
            user_id: None,
            metadata: None,
            expires_at: None,
            created_by: None,
        }
    }
}

/// A key that was accepted, what it opens, and what for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    pub key_id: ApiKeyId,
    pub project_id: ProjectId,
    pub organization_id: OrganizationId,
    /// Of the project.
    pub tier: Option<String>,
    pub scopes: Scopes,
    pub kind: KeyKind,
}

/// Whose keys are meant.
#[derive(Debug, Clone, Copy)]
pub enum Owner<'a> {
    Project(&'a ProjectId),
    Organization(&'a OrganizationId),
}

impl Owner<'_> {
    /// What `$1` and `$2` are in [`OWNED`].
    pub(crate) fn columns(&self) -> (Option<&str>, Option<&str>) {
        match self {
            Self::Project(id) => (Some(id.as_str()), None),
            Self::Organization(id) => (None, Some(id.as_str())),
        }
    }
}

/// Which keys are asked for; `None` does not filter.
#[derive(Debug, Clone, Default)]
pub struct KeyFilter {
    pub is_active: Option<bool>,
    pub user_id: Option<String>,
}

const OWNED: &str = "from api_keys k join projects p on p.id = k.project_id
     where ($1::text is null or k.project_id = $1)
       and ($2::text is null or p.organization_id = $2)
       and k.deleted_at is null";

fn hash(key: &SecretString) -> [u8; 32] {
    Sha256::digest(key.expose_secret().as_bytes()).into()
}

impl Store {
    /// Makes a key that may do everything in a project. The text is given here and never again.
    pub async fn create_key(
        &self,
        project: &ProjectId,
        name: &str,
        expires_at: Option<DateTime<Utc>>,
    ) -> Result<(ApiKey, SecretString)> {
        self.create_key_with(project, NewKey { expires_at, ..NewKey::named(name) }).await
    }

    /// Makes a key. The text is given here and never again.
    ///
    /// # Errors
    /// `State` for a key of a user who is deactivated.
    pub async fn create_key_with(&self, project: &ProjectId, new: NewKey) -> Result<(ApiKey, SecretString)> {
        let random: [u8; 32] = rand::random();
        let text: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        let key = SecretString::from(format!("{PREFIX}{text}"));
        let prefix: String = key.expose_secret().chars().take(11).collect();
        let mut tx = self.pool.begin().await?;
        users::lock(&mut tx, Owner::Project(project)).await?;
        let row = sqlx::query(
            "-- create_key
             insert into api_keys (id, project_id, name, prefix, hash, expires_at, scopes, kind, description, user_id,
                 metadata, created_by)
             select $1, id, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12
             from projects
             where id = $2 and deleted_at is null
             returning *",
        )
        .bind(ApiKeyId::generate().as_str())
        .bind(project.as_str())
        .bind(new.name)
        .bind(prefix)
        .bind(hash(&key).as_slice())
        .bind(new.expires_at)
        .bind(new.scopes.words())
        .bind(new.kind.as_str())
        .bind(new.description)
        .bind(&new.user_id)
        .bind(new.metadata.as_ref().map(to_json))
        .bind(new.created_by.as_ref().map(ApiKeyId::as_str))
        .fetch_optional(&mut *tx)
        .await?
        .ok_or_else(|| Error::not_found("Project", project))?;
        if let Some(user) = &new.user_id {
            users::admit(&mut tx, project.as_str(), user).await?;
        }
        tx.commit().await?;
        Ok((read(&row)?, key))
    }

    /// Finds whose key this is; `None` for one that is unknown, expired or revoked, or whose project is deleted.
    pub async fn find_caller(&self, key: &SecretString) -> Result<Option<Caller>> {
        if !key.expose_secret().starts_with(PREFIX) {
            return Ok(None);
        }
        let hash = hash(key);
        let row = sqlx::query(
            "-- find_caller
             select k.id, k.project_id, k.hash, k.scopes, k.kind, p.organization_id, p.tier,
                 k.last_used_at is null or k.last_used_at < now() - interval '1 minute' as is_stale
             from api_keys k join projects p on p.id = k.project_id
             where k.hash = $1
               and k.revoked_at is null
               and (k.expires_at is null or k.expires_at > now())
               and p.deleted_at is null",
        )
        .bind(hash.as_slice())
        .fetch_optional(&self.pool)
        .await?;
        let Some(row) = row else { return Ok(None) };
        if !bool::from(row.try_get::<&[u8], _>("hash")?.ct_eq(hash.as_slice())) {
            return Ok(None);
        }
        // Once a minute is enough to tell a used key from an unused one; a write per request would be a commit each.
        if row.try_get("is_stale")? {
            sqlx::query(
                "-- find_caller: used
                 update api_keys
                 set last_used_at = now()
                 -- Of several requests at once the first one has written it.
                 where id = $1 and (last_used_at is null or last_used_at < now() - interval '1 minute')",
            )
            .bind(row.try_get::<&str, _>("id")?)
            .execute(&self.pool)
            .await?;
        }
        Ok(Some(Caller {
            key_id: row.parse("id")?,
            project_id: row.parse("project_id")?,
            organization_id: row.parse("organization_id")?,
            tier: row.try_get("tier")?,
            scopes: scopes(&row)?,
            kind: row.parse("kind")?,
        }))
    }

    /// Lists all keys of the installation, oldest first.
    pub async fn list_keys(&self) -> Result<Vec<ApiKey>> {
        let rows = sqlx::query("select * from api_keys where deleted_at is null order by created_at, id")
            .fetch_all(&self.pool)
            .await?;
        rows.iter().map(read).collect()
    }

    /// Lists keys, newest first; revoked and expired ones too.
    pub async fn list_keys_of(&self, owner: Owner<'_>, filter: &KeyFilter, page: Page) -> Result<Paged<ApiKey>> {
        const ACTIVE: &str = "k.revoked_at is null and (k.expires_at is null or k.expires_at > now())";
        let (project, organization) = owner.columns();
        let filtered =
            format!("{OWNED} and ($3::boolean is null or ({ACTIVE}) = $3) and ($4::text is null or k.user_id = $4)");
        let rows = sqlx::query(sqlx::AssertSqlSafe(format!(
            "-- list_keys_of
             select k.* {filtered} order by k.created_at desc, k.id desc limit $5 offset $6"
        )))
        .bind(project)
        .bind(organization)
        .bind(filter.is_active)
        .bind(&filter.user_id)
        .bind(page.limit)
        .bind(page.offset)
        .fetch_all(&self.pool)
        .await?;
        let total = sqlx::query_scalar(sqlx::AssertSqlSafe(format!(
            "-- list_keys_of: total
             select count(*) {filtered}"
        )))
        .bind(project)
        .bind(organization)
        .bind(filter.is_active)
        .bind(&filter.user_id)
        .fetch_one(&self.pool)
        .await?;
        Ok(Paged { items: rows.iter().map(read).collect::<Result<_>>()?, total })
    }

    /// Finds a key, also one that is revoked or expired.
    pub async fn find_key(&self, owner: Owner<'_>, id: &ApiKeyId) -> Result<Option<ApiKey>> {
        let mut connection = self.pool.acquire().await?;
        find(&mut connection, owner, id, "").await
    }

    /// Changes a key as `change` says, under its row's lock: its name and what is said of it, its scopes, its end.
    pub async fn update_key<E: From<Error>>(
        &self,
        owner: Owner<'_>,
        id: &ApiKeyId,
        change: impl FnOnce(&mut ApiKey) -> std::result::Result<(), E> + Send,
    ) -> std::result::Result<ApiKey, E> {
        let mut tx = self.pool.begin().await.map_err(Error::from)?;
        users::lock(&mut tx, owner).await?;
        let found = find(&mut tx, owner, id, "for update of k").await?;
        let mut key = found.ok_or_else(|| Error::not_found("API key", id))?;
        change(&mut key)?;
        if let Some(user) = key.user_id.as_ref().filter(|_| key.revoked_at.is_none()) {
            users::admit(&mut tx, key.project_id.as_str(), user).await?;
        }
        let row = sqlx::query(
            "-- update_key
             update api_keys
             set name = $2, description = $3, scopes = $4, expires_at = $5, metadata = $6, user_id = $7,
                 revoked_at = $8
             where id = $1
             returning *",
        )
        .bind(id.as_str())
        .bind(&key.name)
        .bind(&key.description)
        .bind(key.scopes.words())
        .bind(key.expires_at)
        .bind(key.metadata.as_ref().map(to_json))
        .bind(&key.user_id)
        .bind(key.revoked_at)
        .fetch_one(&mut *tx)
        .await
        .map_err(Error::from)?;
        tx.commit().await.map_err(Error::from)?;
        Ok(read(&row)?)
    }

    /// Revokes a key: it is refused from now on, on every server. One that is revoked already stays as it is.
    pub async fn revoke_key_of(&self, owner: Owner<'_>, id: &ApiKeyId) -> Result<ApiKey> {
        self.update_key(owner, id, |key| {
            key.revoked_at.get_or_insert_with(Utc::now);
            Ok::<_, Error>(())
        })
        .await
    }

    /// Revokes a key and lists it no more.
    pub async fn delete_key(&self, owner: Owner<'_>, id: &ApiKeyId) -> Result<()> {
        let (project, organization) = owner.columns();
        let done = sqlx::query(sqlx::AssertSqlSafe(format!(
            "-- delete_key
             update api_keys
             set deleted_at = now(), revoked_at = coalesce(revoked_at, now())
             where id in (select k.id {OWNED} and k.id = $3)"
        )))
        .bind(project)
        .bind(organization)
        .bind(id.as_str())
        .execute(&self.pool)
        .await?;
        if done.rows_affected() == 0 { Err(Error::not_found("API key", id)) } else { Ok(()) }
    }

    /// Revokes the key with this id, name or prefix (8 characters or more). It is refused from now on, on every server.
    ///
    /// # Errors
    /// `NotFound` if no valid key matches; `Conflict` if several do.
    pub async fn revoke_key(&self, id_or_prefix: &str) -> Result<ApiKey> {
        // As lists show it.
        let id_or_prefix = id_or_prefix.trim().trim_end_matches('…');
        let mut tx = self.pool.begin().await?;
        let rows = sqlx::query(
            "-- revoke_key
             update api_keys
             set revoked_at = now()
             where (id = $1 or name = $1 or length($1) >= 8 and (starts_with(prefix, $1) or starts_with(id, $1)))
               and revoked_at is null
             returning *",
        )
        .bind(id_or_prefix)
        .fetch_all(&mut *tx)
        .await?;
        match rows.as_slice() {
            [] => Err(Error::not_found("API key", id_or_prefix)),
            [row] => {
                let key = read(row)?;
                tx.commit().await?;
                Ok(key)
            }
            _ => Err(Error::Conflict(format!(
                "several keys are called or start with {id_or_prefix}: name one by its id"
            ))),
        }
    }
}

async fn find(
    connection: &mut PgConnection,
    owner: Owner<'_>,
    id: &ApiKeyId,
    lock: &'static str,
) -> Result<Option<ApiKey>> {
    let (project, organization) = owner.columns();
    let row = sqlx::query(sqlx::AssertSqlSafe(format!(
        "-- find_key
         select k.* {OWNED} and k.id = $3 {lock}"
    )))
    .bind(project)
    .bind(organization)
    .bind(id.as_str())
    .fetch_optional(connection)
    .await?;
    row.as_ref().map(read).transpose()
}

fn scopes(row: &PgRow) -> Result<Scopes> {
    let words: Vec<String> = row.try_get("scopes")?;
    Scopes::parse(words.iter().map(String::as_str)).map_err(Error::unreadable("the scopes of a key"))
}

fn read(row: &PgRow) -> Result<ApiKey> {
    Ok(ApiKey {
        id: row.parse("id")?,
        project_id: row.parse("project_id")?,
        name: row.try_get("name")?,
        prefix: row.try_get("prefix")?,
        description: row.try_get("description")?,
        kind: row.parse("kind")?,
        scopes: scopes(row)?,
        user_id: row.try_get("user_id")?,
        metadata: row.json_optional("metadata")?,
        created_by: row.parse_optional("created_by")?,
        created_at: row.try_get("created_at")?,
        last_used_at: row.try_get("last_used_at")?,
        expires_at: row.try_get("expires_at")?,
        revoked_at: row.try_get("revoked_at")?,
    })
}
