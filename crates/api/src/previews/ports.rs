//! `/environments/{id}/ports`: what listens in an environment.

use std::time::Duration;

use axum::{Json, extract::State};
use domain::EnvironmentId;
use sandbox::{Port, Sandbox};
use serde::Serialize;
use store::{Page, Paged};
use tokio::time::timeout;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{Api, Error, Result, auth::Caller, environments::find, list::List, path::Path};

/// The list comes out of the kernel's tables; what takes longer is not our daemon, or has no processor.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(list_ports))
}

/// A TCP port that something in an environment listens on.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Port)]
pub(crate) struct PortView {
    #[schema(example = 5000)]
    port: u16,
    /// What the process that listens calls itself; null where that cannot be seen.
    #[schema(example = "python3")]
    process: Option<String>,
    /// That process, by its number in the container.
    pid: Option<u32>,
}

impl From<Port> for PortView {
    fn from(Port { port, pid, process }: Port) -> Self {
        Self { port, process, pid }
    }
}

/// List ports that something listens on
///
/// In their order. An environment whose container does not run has none.
#[utoipa::path(get, path = "/environments/{id}/ports", tag = "environments",
    params(("id" = String, Path, description = "The environment's id")),
    responses((status = 200, description = "All of them", body = List<PortView>)))]
async fn list_ports(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<EnvironmentId>,
) -> Result<Json<List<PortView>>> {
    find(&api, &caller, &id).await?;
    let items = list(&api, &id).await?;
    let total = items.len() as i64;
    Ok(Json(List::new(Paged { items, total }, Page::ALL, |port| port)))
}

/// Lists what listens in the running containers of an environment; none is started.
pub(crate) async fn list(api: &Api, environment: &EnvironmentId) -> Result<Vec<PortView>> {
    let running = api.sandboxes.running(environment).await?;
    let listed = timeout(ANSWER_LIMIT, all(&running))
        .await
        .map_err(|late| Error::unavailable("The environment's container does not answer right now; try again", late))?;
    Ok(listed?.into_iter().map(Into::into).collect())
}

async fn all(running: &[Sandbox]) -> std::result::Result<Vec<Port>, sandbox::Error> {
    let mut ports: Vec<Port> = Vec::new();
    for sandbox in running {
        match sandbox.ports().await {
            Ok(more) => ports.extend(more),
            // It ended meanwhile.
            Err(sandbox::Error::Gone) => {}
            Err(err) => return Err(err),
        }
    }
    // An environment with two containers may have a port twice; a preview opens the first.
    ports.sort_by_key(|port| port.port);
    ports.dedup_by_key(|port| port.port);
    Ok(ports)
}
