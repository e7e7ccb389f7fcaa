//! Custom skills of a project, and their files.

use domain::{
    ProjectId, SkillId,
    skill::{self, Category, Skill, SkillFile},
};
use sqlx::{PgConnection, Row, postgres::PgRow};

use crate::{Error, Page, Paged, Result, Store, row::ReadColumn};

/// What a skill is made of.
#[derive(Debug, Clone, PartialEq)]
pub struct NewSkill {
    pub name: String,
    pub description: String,
    pub markdown: String,
    pub category: Category,
    pub icon: Option<String>,
    pub is_active: bool,
    /// In hexadecimal, where it comes from an archive.
    pub archive_sha256: Option<String>,
    pub files: Vec<SkillFile>,
}

/// What to list.
#[derive(Debug, Clone, Copy, Default)]
pub struct SkillFilter {
    pub category: Option<Category>,
    pub is_active: Option<bool>,
}

impl Store {
    /// Makes a skill.
    ///
    /// # Errors
    /// `Conflict` if models would call it as one that is there.
    pub async fn create_skill(&self, project: &ProjectId, new: NewSkill) -> Result<Skill> {
        let id = SkillId::generate();
        let slug = slug_of(&new.name, &id);
        let mut tx = self.pool.begin().await?;
        let row = sqlx::query(
            "-- create_skill
             insert into skills (id, project_id, slug, name, description, markdown, category, icon, is_active, version,
                 archive_sha256)
             values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
             returning *",
        )
        .bind(id.as_str())
        .bind(project.as_str())
        .bind(&slug)
        .bind(&new.name)
        .bind(&new.description)
        .bind(&new.markdown)
        .bind(new.category.as_str())
        .bind(&new.icon)
        .bind(new.is_active)
        .bind(skill::version(&slug, &new.description, &new.markdown, &new.files))
        .bind(&new.archive_sha256)
        .fetch_one(&mut *tx)
        .await?;
        put_files(&mut tx, &id, &new.files).await?;
        tx.commit().await?;
        read(&row)
    }

    /// Changes a skill as `change` says, under its row's lock.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` if models would call it as another one.
    pub async fn update_skill(
        &self,
        project: &ProjectId,
        id: &SkillId,
        change: impl FnOnce(&mut NewSkill) + Send,
    ) -> Result<(Skill, Vec<SkillFile>)> {
        let mut tx = self.pool.begin().await?;
        let row = sqlx::query(
            "-- update_skill: lock
             select * from skills where project_id = $1 and id = $2 for update",
        )
        .bind(project.as_str())
        .bind(id.as_str())
        .fetch_optional(&mut *tx)
        .await?
        .ok_or_else(|| Error::not_found("Skill", id))?;
        let files = list_files(&mut tx, id).await?;
        let Skill { name, description, markdown, category, icon, is_active, archive_sha256, .. } = read(&row)?;
        let mut new = NewSkill { name, description, markdown, category, icon, is_active, archive_sha256, files };
        let files_before = new.files.clone();
        change(&mut new);
        let slug = slug_of(&new.name, id);
        let row = sqlx::query(
            "-- update_skill
             update skills
             set slug = $2, name = $3, description = $4, markdown = $5, category = $6, icon = $7, is_active = $8,
                 version = $9, archive_sha256 = $10, updated_at = now()
             where id = $1
             returning *",
        )
        .bind(id.as_str())
        .bind(&slug)
        .bind(&new.name)
        .bind(&new.description)
        .bind(&new.markdown)
        .bind(new.category.as_str())
        .bind(&new.icon)
        .bind(new.is_active)
        .bind(skill::version(&slug, &new.description, &new.markdown, &new.files))
        .bind(&new.archive_sha256)
        .fetch_one(&mut *tx)
        .await?;
        if new.files != files_before {
            sqlx::query("delete from skill_files where skill_id = $1").bind(id.as_str()).execute(&mut *tx).await?;
            put_files(&mut tx, id, &new.files).await?;
        }
        tx.commit().await?;
        Ok((read(&row)?, new.files))
    }

    /// Finds a skill of the project, with its files.
    pub async fn find_skill(&self, project: &ProjectId, id: &SkillId) -> Result<Option<(Skill, Vec<SkillFile>)>> {
        let mut connection = self.pool.acquire().await?;
        let row = sqlx::query("-- find_skill\nselect * from skills where project_id = $1 and id = $2")
            .bind(project.as_str())
            .bind(id.as_str())
            .fetch_optional(&mut *connection)
            .await?;
        let Some(row) = row else { return Ok(None) };
        Ok(Some((read(&row)?, list_files(&mut connection, id).await?)))
    }

    /// Finds the skill of the project that models call so.
    pub async fn find_skill_by_slug(&self, project: &ProjectId, slug: &str) -> Result<Option<Skill>> {
        let row = sqlx::query("-- find_skill_by_slug\nselect * from skills where project_id = $1 and slug = $2")
            .bind(project.as_str())
            .bind(slug)
            .fetch_optional(&self.pool)
            .await?;
        row.as_ref().map(read).transpose()
    }

    /// Lists the project's skills, newest first.
    pub async fn list_skills(&self, project: &ProjectId, filter: SkillFilter, page: Page) -> Result<Paged<Skill>> {
        let rows = sqlx::query(
            "-- list_skills
             select * from skills
             where project_id = $1 and ($2::text is null or category = $2) and ($3::boolean is null or is_active = $3)
             order by created_at desc, id desc
             limit $4 offset $5",
        )
        .bind(project.as_str())
        .bind(filter.category.map(Category::as_str))
        .bind(filter.is_active)
        .bind(page.limit)
        .bind(page.offset)
        .fetch_all(&self.pool)
        .await?;
        let total = sqlx::query_scalar(
            "-- list_skills: how many
             select count(*) from skills
             where project_id = $1 and ($2::text is null or category = $2) and ($3::boolean is null or is_active = $3)",
        )
        .bind(project.as_str())
        .bind(filter.category.map(Category::as_str))
        .bind(filter.is_active)
        .fetch_one(&self.pool)
        .await?;
        Ok(Paged { items: rows.iter().map(read).collect::<Result<_>>()?, total })
    }

    /// Lists those of the project's skills that are named, by id or by slug, sorted by slug: what a run is told is the same
    /// in whatever order they were named. Whether they are active is the caller's matter.
    pub async fn list_named_skills(&self, project: &ProjectId, names: &[String]) -> Result<Vec<Skill>> {
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let rows = sqlx::query(
            "-- list_named_skills
             select * from skills
             where project_id = $1 and (id = any($2) or slug = any($2))
             order by slug",
        )
        .bind(project.as_str())
        .bind(names)
        .fetch_all(&self.pool)
        .await?;
        rows.iter().map(read).collect()
    }

    /// Deletes a skill. Agents that name it go on without.
    pub async fn delete_skill(&self, project: &ProjectId, id: &SkillId) -> Result<()> {
        let done = sqlx::query("-- delete_skill\ndelete from skills where project_id = $1 and id = $2")
            .bind(project.as_str())
            .bind(id.as_str())
            .execute(&self.pool)
            .await?;
        if done.rows_affected() == 0 { Err(Error::not_found("Skill", id)) } else { Ok(()) }
    }
}

/// A name without a single letter that a slug may have is called by its id.
fn slug_of(name: &str, id: &SkillId) -> String {
    let tail = &id.as_str()[id.as_str().len().saturating_sub(8)..];
    skill::slug(name).unwrap_or_else(|| format!("skill-{tail}"))
}

async fn put_files(tx: &mut PgConnection, id: &SkillId, files: &[SkillFile]) -> Result<()> {
    for file in files {
        sqlx::query(
            "-- put_files
             insert into skill_files (skill_id, path, content, language, is_executable) values ($1, $2, $3, $4, $5)",
        )
        .bind(id.as_str())
        .bind(&file.path)
        .bind(&file.content)
        .bind(&file.language)
        .bind(file.is_executable)
        .execute(&mut *tx)
        .await?;
    }
    Ok(())
}

async fn list_files(connection: &mut PgConnection, id: &SkillId) -> Result<Vec<SkillFile>> {
    let rows = sqlx::query("-- list_files\nselect * from skill_files where skill_id = $1 order by path collate \"C\"")
        .bind(id.as_str())
        .fetch_all(connection)
        .await?;
    rows.iter()
        .map(|row| {
            Ok(SkillFile {
                path: row.try_get("path")?,
                content: row.try_get("content")?,
                language: row.try_get("language")?,
                is_executable: row.try_get("is_executable")?,
            })
        })
        .collect()
}

fn read(row: &PgRow) -> Result<Skill> {
    Ok(Skill {
        id: row.parse("id")?,
        project_id: row.parse("project_id")?,
        slug: row.try_get("slug")?,
        name: row.try_get("name")?,
        description: row.try_get("description")?,
        markdown: row.try_get("markdown")?,
        category: row.parse("category")?,
        icon: row.try_get("icon")?,
        is_active: row.try_get("is_active")?,
        version: row.try_get("version")?,
        archive_sha256: row.try_get("archive_sha256")?,
        created_at: row.try_get("created_at")?,
        updated_at: row.try_get("updated_at")?,
    })
}
