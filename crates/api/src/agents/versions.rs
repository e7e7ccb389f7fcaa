//! `/agents/{id}/versions`: what an agent was after each change, and which of that its runs use.

use axum::{Json, extract::State, http::StatusCode};
use domain::{
    AgentId, AgentVersionId,
    agent::{Agent, AgentVersion},
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use store::{Paged, agent_versions::Label};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{find, input::UpdateAgent, view::AgentView};
use crate::{
    Api, Error, Result,
    auth::Caller,
    body::{Body, Patch},
    check::{Fields, Verdict},
    deleted::Deleted,
    list::List,
    path::Path,
    query::{self, Query},
    skills,
    timestamp::Timestamp,
};

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(list_agent_versions, create_agent_version))
        .routes(routes!(compare_agent_versions))
        .routes(routes!(get_agent_version, update_agent_version, delete_agent_version))
        .routes(routes!(publish_agent_version))
        .routes(routes!(unpublish_agent_version))
        .routes(routes!(restore_agent_version))
}

/// A version of an agent.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = AgentVersion)]
struct VersionView {
    id: String,
    agent_id: String,
    /// Counts from 0.
    version_number: i32,
    #[schema(example = "v3")]
    label: String,
    name: Option<String>,
    description: Option<String>,
    /// The agent as it was.
    #[schema(value_type = Object)]
    snapshot: Map<String, Value>,
    /// It is what the agent is now.
    is_current: bool,
    /// Runs of the agent use it, whatever is changed.
    is_published: bool,
    /// `published` or `draft`.
    status: &'static str,
    published_at: Option<Timestamp>,
    created_at: Timestamp,
    updated_at: Timestamp,
}

/// What says nothing of what an agent does: when and whose it is.
const NOT_IN_SNAPSHOTS: [&str; 9] = [
    "id",
    "userId",
    "organizationId",
    "createdByUserId",
    "projectId",
    "createdAt",
    "updatedAt",
    "lastRunAt",
    "isActive",
];

impl VersionView {
    fn new(agent: &Agent, version: AgentVersion) -> Result<Self> {
        let then =
            Agent { name: version.agent_name, model: version.model, settings: version.settings, ..agent.clone() };
        let snapshot = match serde_json::to_value(AgentView::from(then)).map_err(Error::internal)? {
            Value::Object(mut fields) => {
                fields.retain(|name, _| !NOT_IN_SNAPSHOTS.contains(&name.as_str()));
                fields
            }
            _ => Map::new(),
        };
        Ok(Self {
            id: version.id.into(),
            agent_id: version.agent_id.into(),
            version_number: version.number,
            label: format!("v{}", version.number),
            name: version.name,
            description: version.description,
            snapshot,
            is_current: version.is_current,
            is_published: version.is_published,
            status: if version.is_published { "published" } else { "draft" },
            published_at: version.published_at.map(Into::into),
            created_at: version.created_at.into(),
            updated_at: version.updated_at.into(),
        })
    }
}

/// `{version: …}`.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AgentVersionEnvelope)]
struct VersionEnvelope {
    version: VersionView,
}

/// A version that something was done with, beside and in `version`; and the agent as it is now.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AgentVersionResult)]
struct VersionResult {
    #[serde(flatten)]
    flat: VersionView,
    version: VersionView,
    agent: AgentView,
}

impl VersionResult {
    fn new(agent: Agent, version: AgentVersion) -> Result<Self> {
        let version = VersionView::new(&agent, version)?;
        Ok(Self { flat: version.clone(), version, agent: agent.into() })
    }
}

/// What differs between two versions.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = AgentVersionComparison)]
struct Comparison {
    base_version: VersionView,
    target_version: VersionView,
    /// Nothing differs.
    identical: bool,
    changes: Vec<Change>,
}

/// A field that two versions have different values of.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AgentVersionChange)]
struct Change {
    field: String,
    #[schema(value_type = Object)]
    from: Value,
    #[schema(value_type = Object)]
    to: Value,
}

/// A version to be kept.
#[derive(Deserialize, ToSchema)]
struct CreateVersion {
    /// What people call it.
    name: Option<String>,
    description: Option<String>,
    /// Fields of an agent that the version has instead of the agent's own. The agent is not changed.
    #[schema(value_type = Option<Object>)]
    snapshot: Option<UpdateAgent>,
}

/// What is said of a version. An absent field is left alone, `null` clears it.
#[derive(Deserialize, ToSchema)]
struct UpdateVersion {
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    name: Patch<String>,
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    description: Patch<String>,
}

#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct ListQuery {
    /// How many at most: 0 to 100, 50 if absent.
    limit: Option<i64>,
    /// How many to leave out.
    offset: Option<i64>,
}

#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(rename_all = "camelCase")]
struct CompareQuery {
    base_version_id: Option<String>,
    target_version_id: Option<String>,
}

fn check_text(text: &str) -> Verdict {
    if text.len() <= 4096 { Ok(()) } else { Err("must have at most 4096 bytes".into()) }
}

/// List an agent's versions
///
/// One for each change, newest first.
#[utoipa::path(get, path = "/agents/{id}/versions", tag = "agents",
    params(("id" = String, Path, description = "The agent's id"), ListQuery),
    responses((status = 200, description = "A part of the list", body = List<VersionView>)))]
async fn list_agent_versions(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<AgentId>,
    Query(query): Query<ListQuery>,
) -> Result<Json<List<VersionView>>> {
    let page = query::page(query.limit, query.offset, 50, 100)?;
    let agent = find(&api, &caller, &id).await?;
    let Paged { items, total } = api.store.list_agent_versions(&caller.project, &id, page).await?;
    let items = items.into_iter().map(|version| VersionView::new(&agent, version)).collect::<Result<_>>()?;
    Ok(Json(List::new(Paged { items, total }, page, std::convert::identity)))
}

/// Keep a version of an agent
///
/// What the agent is now, under a name; or with other fields, which does not change the agent.
#[utoipa::path(post, path = "/agents/{id}/versions", tag = "agents",
    params(("id" = String, Path, description = "The agent's id")),
    request_body = CreateVersion,
    responses((status = 201, description = "The version", body = VersionEnvelope)))]
async fn create_agent_version(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<AgentId>,
    Body(body): Body<CreateVersion>,
) -> Result<(StatusCode, Json<VersionEnvelope>)> {
    let mut fields = Fields::default();
    for (name, text) in [("name", &body.name), ("description", &body.description)] {
        if let Some(text) = text {
            fields.check(name, check_text(text));
        }
    }
    fields.finish()?;
    let agent = find(&api, &caller, &id).await?;
    let snapshot = match body.snapshot {
        None => None,
        Some(change) => {
            change.check()?;
            skills::check_enabled(&api, &caller.project, change.enabled_skills()).await?;
            let mut snapshot = agent.clone();
            change.apply(&mut snapshot);
            Some(snapshot)
        }
    };
    let label = Label { name: body.name, description: body.description };
    let version = api.store.create_agent_version(&caller.project, &id, &label, snapshot.as_ref()).await?;
    Ok((StatusCode::CREATED, Json(VersionEnvelope { version: VersionView::new(&agent, version)? })))
}

/// Compare two versions of an agent
#[utoipa::path(get, path = "/agents/{id}/versions/compare", tag = "agents",
    params(("id" = String, Path, description = "The agent's id"), CompareQuery),
    responses((status = 200, description = "What differs", body = Comparison)))]
async fn compare_agent_versions(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<AgentId>,
    Query(query): Query<CompareQuery>,
) -> Result<Json<Comparison>> {
    let parse = |name: &str, text: Option<String>| -> Result<AgentVersionId> {
        let text = text.filter(|text| !text.is_empty()).ok_or_else(|| Error::missing_field(name))?;
        text.parse().map_err(|_| Error::not_found("Version", text))
    };
    let agent = find(&api, &caller, &id).await?;
    let base = parse("baseVersionId", query.base_version_id)?;
    let target = parse("targetVersionId", query.target_version_id)?;
    let (base, target) = futures::try_join!(
        api.store.get_agent_version(&caller.project, &id, &base),
        api.store.get_agent_version(&caller.project, &id, &target),
    )?;
    let (base, target) = (VersionView::new(&agent, base)?, VersionView::new(&agent, target)?);
    let changes: Vec<_> = target
        .snapshot
        .iter()
        .filter_map(|(field, to)| {
            let from = base.snapshot.get(field).cloned().unwrap_or_default();
            (from != *to).then(|| Change { field: field.clone(), from, to: to.clone() })
        })
        .collect();
    Ok(Json(Comparison { identical: changes.is_empty(), base_version: base, target_version: target, changes }))
}

/// Get a version of an agent
#[utoipa::path(get, path = "/agents/{id}/versions/{versionId}", tag = "agents",
    params(
        ("id" = String, Path, description = "The agent's id"),
        ("versionId" = String, Path, description = "The version's id"),
    ),
    responses((status = 200, description = "The version", body = VersionEnvelope)))]
async fn get_agent_version(
    State(api): State<Api>,
    caller: Caller,
    Path((id, version)): Path<(AgentId, AgentVersionId)>,
) -> Result<Json<VersionEnvelope>> {
    let agent = find(&api, &caller, &id).await?;
    let version = api.store.get_agent_version(&caller.project, &id, &version).await?;
    Ok(Json(VersionEnvelope { version: VersionView::new(&agent, version)? }))
}

/// Change what is said of a version
///
/// Its name and its description; what the agent was stays.
#[utoipa::path(patch, path = "/agents/{id}/versions/{versionId}", tag = "agents",
    params(
        ("id" = String, Path, description = "The agent's id"),
        ("versionId" = String, Path, description = "The version's id"),
    ),
    request_body = UpdateVersion,
    responses((status = 200, description = "The version after the change", body = VersionEnvelope)))]
async fn update_agent_version(
    State(api): State<Api>,
    caller: Caller,
    Path((id, version)): Path<(AgentId, AgentVersionId)>,
    Body(body): Body<UpdateVersion>,
) -> Result<Json<VersionEnvelope>> {
    let mut fields = Fields::default();
    for (name, text) in [("name", &body.name), ("description", &body.description)] {
        if let Patch::Value(text) = text {
            fields.check(name, check_text(text));
        }
    }
    fields.finish()?;
    let agent = find(&api, &caller, &id).await?;
    let change = |label: &mut Label| {
        body.name.apply(&mut label.name);
        body.description.apply(&mut label.description);
    };
    let version = api.store.update_agent_version(&caller.project, &id, &version, change).await?;
    Ok(Json(VersionEnvelope { version: VersionView::new(&agent, version)? }))
}

/// Delete a version of an agent
#[utoipa::path(delete, path = "/agents/{id}/versions/{versionId}", tag = "agents",
    params(
        ("id" = String, Path, description = "The agent's id"),
        ("versionId" = String, Path, description = "The version's id"),
    ),
    responses(
        (status = 200, description = "It is deleted", body = Deleted),
        (status = 409, description = "It is what the agent is now, or what its runs use", body = crate::error::ErrorBody),
    ))]
async fn delete_agent_version(
    State(api): State<Api>,
    caller: Caller,
    Path((id, version)): Path<(AgentId, AgentVersionId)>,
) -> Result<Json<Deleted>> {
    api.store.delete_agent_version(&caller.project, &id, &version).await?;
    Ok(Json(Deleted::new("versionId", &version)))
}

/// Publish a version of an agent
///
/// Runs that begin from now on use it, and what is changed later waits for another to be published.
#[utoipa::path(post, path = "/agents/{id}/versions/{versionId}/publish", tag = "agents",
    params(
        ("id" = String, Path, description = "The agent's id"),
        ("versionId" = String, Path, description = "The version's id"),
    ),
    responses((status = 200, description = "The version", body = VersionResult)))]
async fn publish_agent_version(
    State(api): State<Api>,
    caller: Caller,
    Path((id, version)): Path<(AgentId, AgentVersionId)>,
) -> Result<Json<VersionResult>> {
    let version = api.store.publish_agent_version(&caller.project, &id, &version, true).await?;
    Ok(Json(VersionResult::new(find(&api, &caller, &id).await?, version)?))
}

/// Take a published version back
///
/// Runs that begin from now on use what the agent is.
#[utoipa::path(post, path = "/agents/{id}/versions/{versionId}/unpublish", tag = "agents",
    params(
        ("id" = String, Path, description = "The agent's id"),
        ("versionId" = String, Path, description = "The version's id"),
    ),
    responses(
        (status = 200, description = "The version", body = VersionResult),
        (status = 409, description = "It is not published", body = crate::error::ErrorBody),
    ))]
async fn unpublish_agent_version(
    State(api): State<Api>,
    caller: Caller,
    Path((id, version)): Path<(AgentId, AgentVersionId)>,
) -> Result<Json<VersionResult>> {
    let version = api.store.publish_agent_version(&caller.project, &id, &version, false).await?;
    Ok(Json(VersionResult::new(find(&api, &caller, &id).await?, version)?))
}

/// Make an agent what it was
///
/// Which is a change like others and leads to a new version. What is published stays.
#[utoipa::path(post, path = "/agents/{id}/versions/{versionId}/restore", tag = "agents",
    params(
        ("id" = String, Path, description = "The agent's id"),
        ("versionId" = String, Path, description = "The version's id"),
    ),
    responses((status = 200, description = "The version that was restored, and the agent", body = VersionResult)))]
async fn restore_agent_version(
    State(api): State<Api>,
    caller: Caller,
    Path((id, version)): Path<(AgentId, AgentVersionId)>,
) -> Result<Json<VersionResult>> {
    let version = api.store.get_agent_version(&caller.project, &id, &version).await?;
    let then = version.clone();
    let restore = |agent: &mut Agent| {
        agent.name = then.agent_name;
        agent.model = then.model;
        agent.settings = then.settings;
    };
    let agent = api.store.update_agent(&caller.project, &id, restore).await?;
    let version = api.store.get_agent_version(&caller.project, &id, &version.id).await?;
    Ok(Json(VersionResult::new(agent, version)?))
}
