//! `/skills`: custom skills, made of text and files or installed from an archive.

use axum::{Json, extract::State, http::StatusCode};
use domain::{
    SkillId,
    skill::{BuiltIn, Skill, SkillFile},
};
use serde::{Deserialize, Serialize};
use store::skills::SkillFilter;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    Api, Error, Result,
    auth::Caller,
    body::Body,
    deleted::Deleted,
    list::List,
    path::Path,
    query::{self, Query},
};

mod archive;
mod enabled;
mod input;
mod install;
mod view;

pub use enabled::WhyUnavailable;
pub(crate) use enabled::{check_available, check_enabled};

use input::{CreateSkill, UpdateSkill};
use view::{SkillEnvelope, SkillView};

pub(crate) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(list_skills, create_skill))
        .routes(routes!(install::install_skill))
        .routes(routes!(list_built_in_skills))
        .routes(routes!(get_skill, update_skill, delete_skill))
        .routes(routes!(list_workspace_skills))
}

#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(rename_all = "camelCase")]
struct ListQuery {
    /// `research`, `creative`, `productivity`, `development`, `documents` or `custom`.
    category: Option<String>,
    #[serde(default, deserialize_with = "query::boolean")]
    is_active: Option<bool>,
    /// How many at most: 0 to 100, 50 if absent.
    limit: Option<i64>,
    /// How many to leave out.
    offset: Option<i64>,
}

/// List custom skills
///
/// Newest first, without their files: those come with a single skill. Built-in skills are not among them.
#[utoipa::path(get, path = "/skills", tag = "skills", params(ListQuery),
    responses((status = 200, description = "A part of the list", body = List<SkillView>)))]
async fn list_skills(
    State(api): State<Api>,
    caller: Caller,
    Query(query): Query<ListQuery>,
) -> Result<Json<List<SkillView>>> {
    let page = query::page(query.limit, query.offset, 50, 100)?;
    let category = query.category.filter(|category| !category.is_empty());
    let filter =
        SkillFilter { category: category.as_deref().map(input::category).transpose()?, is_active: query.is_active };
    let skills = api.store.list_skills(&caller.project, filter, page).await?;
    Ok(Json(List::new(skills, page, |skill| SkillView::new(skill, None))))
}

/// Create a skill
///
/// `markdown` may be a whole SKILL.md; what its frontmatter says of name and description holds where the fields are absent.
/// An agent has the skill when its `enabledSkills` name the skill's id.
#[utoipa::path(post, path = "/skills", tag = "skills", request_body = CreateSkill,
    responses(
        (status = 201, description = "The skill", body = SkillEnvelope),
        (status = 409, description = "Models would call it as another skill of the project", body = crate::error::ErrorBody),
    ))]
async fn create_skill(
    State(api): State<Api>,
    caller: Caller,
    Body(body): Body<CreateSkill>,
) -> Result<(StatusCode, Json<SkillEnvelope>)> {
    let new = body.into_new()?;
    let files = new.files.clone();
    let skill = api.store.create_skill(&caller.project, new).await?;
    Ok((StatusCode::CREATED, Json(SkillEnvelope::new(skill, files))))
}

/// Get a skill with its files
#[utoipa::path(get, path = "/skills/{id}", tag = "skills", params(("id" = String, Path, description = "The skill's id")),
    responses((status = 200, description = "The skill", body = SkillEnvelope)))]
async fn get_skill(State(api): State<Api>, caller: Caller, Path(id): Path<SkillId>) -> Result<Json<SkillEnvelope>> {
    let (skill, files) = find(&api, &caller, &id).await?;
    Ok(Json(SkillEnvelope::new(skill, files)))
}

/// Change a skill
///
/// An absent field is left alone; `files` replaces all of them. Runs under way go on with what they began with, as far as
/// they have read it.
#[utoipa::path(patch, path = "/skills/{id}", tag = "skills", params(("id" = String, Path, description = "The skill's id")),
    request_body = UpdateSkill,
    responses(
        (status = 200, description = "The skill after the change", body = SkillEnvelope),
        (status = 409, description = "Models would call it as another skill of the project", body = crate::error::ErrorBody),
    ))]
async fn update_skill(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<SkillId>,
    Body(body): Body<UpdateSkill>,
) -> Result<Json<SkillEnvelope>> {
    let change = body.check()?;
    let (skill, files) = api.store.update_skill(&caller.project, &id, |skill| change.apply(skill)).await?;
    Ok(Json(SkillEnvelope::new(skill, files)))
}

/// Delete a skill
///
/// Agents that name it go on without it, and their runs say so.
#[utoipa::path(delete, path = "/skills/{id}", tag = "skills", params(("id" = String, Path, description = "The skill's id")),
    responses((status = 200, description = "It is deleted", body = Deleted)))]
async fn delete_skill(State(api): State<Api>, caller: Caller, Path(id): Path<SkillId>) -> Result<Json<Deleted>> {
    api.store.delete_skill(&caller.project, &id).await?;
    Ok(Json(Deleted::new("skillId", &id)))
}

/// A tool of this server that is switched on as a skill.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct BuiltInSkill {
    /// What `enabledSkills` names.
    #[schema(example = "web_search")]
    id: &'static str,
    description: &'static str,
    /// False: a message that names it is refused, and the runs of an agent that has it go on without it.
    is_available: bool,
    /// Why not, with the server's default model.
    unavailable_reason: Option<String>,
}

#[derive(Serialize, ToSchema)]
struct BuiltInSkills {
    data: Vec<BuiltInSkill>,
}

/// List built-in skills
///
/// Their ids go into `enabledSkills` beside those of custom skills.
#[utoipa::path(get, path = "/skills/built-in", tag = "skills",
    responses((status = 200, description = "All of them", body = BuiltInSkills)))]
async fn list_built_in_skills(State(api): State<Api>, _: Caller) -> Json<BuiltInSkills> {
    let why = |skill| api.why_unavailable.as_ref().and_then(|why| why(skill, &api.settings.default_model));
    let data = BuiltIn::ALL.map(|skill| BuiltInSkill {
        id: skill.as_str(),
        is_available: why(skill).is_none(),
        unavailable_reason: why(skill),
        description: match skill {
            BuiltIn::WebSearch => "Search the web",
            BuiltIn::DeepResearch => "Research a question in many sources",
            BuiltIn::ImageGeneration => "Make and change pictures",
        },
    });
    Json(BuiltInSkills { data: data.into() })
}

/// A skill that lies in a workspace.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct WorkspaceSkill {
    #[schema(example = "deploy")]
    name: String,
    description: String,
    /// Its directory, relative to the workspace.
    #[schema(example = ".claude/skills/deploy")]
    path: String,
    /// Always false: whoever wrote the workspace's files wrote it, and the agent is told so.
    is_trusted: bool,
}

#[derive(Serialize, ToSchema)]
struct WorkspaceSkills {
    data: Vec<WorkspaceSkill>,
}

/// List the skills in an environment's workspace
///
/// What lies in `.claude/skills`. Agents that work there are told of them, as of files that nobody vouches for.
#[utoipa::path(get, path = "/environments/{id}/skills", tag = "skills",
    params(("id" = String, Path, description = "The environment's id")),
    responses((status = 200, description = "All of them", body = WorkspaceSkills)))]
async fn list_workspace_skills(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<domain::EnvironmentId>,
) -> Result<Json<WorkspaceSkills>> {
    crate::environments::find(&api, &caller, &id).await?;
    let found = api.sandboxes.workspace(&id)?.list_skills().await;
    let data = found.into_iter().map(|skill| WorkspaceSkill {
        name: skill.name,
        description: skill.description,
        path: skill.path,
        is_trusted: false,
    });
    Ok(Json(WorkspaceSkills { data: data.collect() }))
}

async fn find(api: &Api, caller: &Caller, id: &SkillId) -> Result<(Skill, Vec<SkillFile>)> {
    let found = api.store.find_skill(&caller.project, id).await?;
    found.ok_or_else(|| Error::not_found("Skill", id))
}
