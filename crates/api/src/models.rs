//! `GET /agents/models`: what an agent may be given to think with.

use axum::{Json, extract::State};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::Api;

/// The models on offer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Models {
    pub entries: Vec<Model>,
}

/// A model on offer. Agents may name others: any name is passed on to the Messages API.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Model {
    #[schema(example = "claude-sonnet-5-5")]
    pub id: String,
    #[schema(example = "Claude Sonnet 4.5")]
    pub label: Option<String>,
    pub description: Option<String>,
    /// A word, for example `high`.
    pub intelligence: Option<String>,
    /// A text, for example `200K`.
    pub context_window: Option<String>,
    /// A word, for example `fast`.
    pub speed: Option<String>,
    /// The same as `context_window`, as a number.
    #[serde(skip)]
    pub context_tokens: Option<i64>,
    /// A conversation with more tokens is summarised.
    #[serde(skip)]
    pub compact_at_tokens: Option<i64>,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ModelView {
    #[serde(flatten)]
    model: Model,
    /// Always `managed`.
    source: &'static str,
    provider_type: Option<String>,
    required_tier: Option<String>,
    /// Always false: whoever runs the server pays for the model.
    locked: bool,
}

/// The model catalogue.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ModelCatalogue {
    /// Always `managed_catalog`.
    mode: &'static str,
    model_selection: bool,
    /// Always `self_hosted`.
    tier: &'static str,
    /// The first is the one used where an agent names none.
    models: Vec<ModelView>,
}

pub(crate) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(list_models))
}

/// List the models
///
/// Agents may name other models too; the name is passed on as it is.
#[utoipa::path(get, path = "/agents/models", tag = "agents",
    responses((status = 200, description = "The catalogue", body = ModelCatalogue)))]
async fn list_models(State(api): State<Api>) -> Json<ModelCatalogue> {
    let mut entries = api.models.read().unwrap_or_else(std::sync::PoisonError::into_inner).entries.clone();
    let default = &api.settings.default_model;
    match entries.iter().position(|model| model.id == *default) {
        Some(position) => entries[..=position].rotate_right(1),
        // Clients take the first model that is not locked, so there must be one.
        None => entries.insert(0, Model { id: default.clone(), ..Model::default() }),
    }
    let view = |model| ModelView { model, source: "managed", provider_type: None, required_tier: None, locked: false };
    Json(ModelCatalogue {
        mode: "managed_catalog",
        model_selection: true,
        tier: "self_hosted",
        models: entries.into_iter().map(view).collect(),
    })
}
