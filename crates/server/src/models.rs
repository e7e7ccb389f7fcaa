//! What `GET /agents/models` offers: our catalogue, and what the back end says of itself once it has been asked.

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use api::{Model, Models};

/// A back end that says nothing is no reason to wait: the catalogue is there.
const ASK_LIMIT: Duration = Duration::from_secs(20);

/// Gives the catalogue as the API shows it.
pub(crate) fn from_catalogue(catalogue: &claude::Catalogue, options: &executor::Options) -> Models {
    Models { entries: catalogue.models().iter().map(|model| known(model, options)).collect() }
}

fn known(model: &claude::Model, options: &executor::Options) -> Model {
    Model {
        id: model.id.clone(),
        label: Some(model.name.clone()),
        context_window: Some(show_tokens(model.context_tokens)),
        context_tokens: i64::try_from(model.context_tokens).ok(),
        compact_at_tokens: Some(options.compact_at(model)),
        ..Model::default()
    }
}

/// Asks the back end which models it has, and offers those.
///
/// One without that route (many imitate only the messages) leaves the catalogue as it is.
pub(crate) async fn ask(
    client: claude::Client,
    catalogue: Arc<claude::Catalogue>,
    options: executor::Options,
    models: Arc<RwLock<Models>>,
) {
    let listed = match tokio::time::timeout(ASK_LIMIT, client.list_models()).await {
        Ok(Ok(listed)) => listed,
        Ok(Err(claude::Error::Status { status: 404 | 405 | 501, .. })) => {
            return tracing::info!("the model back end lists no models, offering the built-in catalogue");
        }
        Ok(Err(err)) => {
            let error = &err as &dyn std::error::Error;
            return tracing::warn!(error, "cannot list the models, offering the built-in catalogue");
        }
        Err(_) => return tracing::warn!("the model back end did not list its models in time"),
    };
    let entries = merge(&catalogue, &options, listed);
    if entries.is_empty() {
        return;
    }
    tracing::info!(count = entries.len(), "the model back end has listed its models");
    *models.write().unwrap_or_else(PoisonError::into_inner) = Models { entries };
}

fn merge(catalogue: &claude::Catalogue, options: &executor::Options, listed: Vec<claude::ModelInfo>) -> Vec<Model> {
    listed
        .into_iter()
        .filter(|info| info.lifecycle.as_deref() != Some("retired"))
        .map(|info| {
            let known = catalogue.find(&info.id).map(|model| known(model, options)).unwrap_or_default();
            Model {
                label: info.display_name.or(known.label.clone()),
                // What compaction goes by is our catalogue; the back end's own number is what people see.
                context_tokens: info
                    .max_input_tokens
                    .and_then(|tokens| tokens.try_into().ok())
                    .or(known.context_tokens),
                context_window: info.max_input_tokens.map(show_tokens).or(known.context_window.clone()),
                id: info.id,
                ..known
            }
        })
        .collect()
}

fn show_tokens(tokens: u64) -> String {
    match tokens {
        tokens if tokens >= 1_000_000 && tokens.is_multiple_of(1_000_000) => format!("{}M", tokens / 1_000_000),
        tokens if tokens >= 1_000 => format!("{}K", tokens / 1_000),
        tokens => tokens.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_back_end_says_wins_over_what_we_know() {
        let catalogue = claude::Catalogue::builtin();
        let info = |json: &str| serde_json::from_str::<claude::ModelInfo>(json).unwrap();
        let known = &catalogue.models()[0];
        let listed = vec![
            info(&format!(r#"{{"id": {:?}, "max_input_tokens": 200000}}"#, known.id)),
            info(r#"{"id": "local-model", "display_name": "Local"}"#),
            info(r#"{"id": "old", "lifecycle": "retired"}"#),
        ];
        let merged = merge(&catalogue, &executor::Options::default(), listed);
        assert_eq!(merged.len(), 2);
        assert_eq!(merged[0].label.as_deref(), Some(known.name.as_str()));
        assert_eq!(merged[0].context_window.as_deref(), Some("200K"));
        assert_eq!((merged[1].id.as_str(), merged[1].label.as_deref()), ("local-model", Some("Local")));
        assert_eq!(show_tokens(1_000_000), "1M");
    }
}
