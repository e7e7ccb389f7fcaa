//! The containers of this installation as the engine has them: found, listed, asked, stopped, removed.

use std::{collections::HashMap, sync::Arc};

use bollard::{
    errors::Error as EngineError,
    models::{ContainerInspectResponse, ContainerStatsResponse},
    query_parameters::{
        ListContainersOptionsBuilder, LogsOptionsBuilder, RemoveContainerOptionsBuilder, StatsOptionsBuilder,
        StopContainerOptionsBuilder,
    },
};
use domain::EnvironmentId;
use futures::StreamExt;

use crate::{
    Error,
    container::{LABEL_BAY, LABEL_ENVIRONMENT, LABEL_INSTALLATION, LABEL_NETWORK, LABEL_WARM},
    directories::Directories,
    place::Place,
    sandboxes::Inner,
    slot::Slot,
};

/// Between SIGTERM and SIGKILL when a container is stopped; `guestd` itself gives its commands less.
const STOP_GRACE_SECONDS: i32 = 2;

/// Containers removed at once. More only make each of them slower.
pub(crate) const REMOVALS: usize = 4;

/// A container of this installation.
pub(crate) struct Listed {
    pub(crate) id: String,
    /// `None` for one that waits for an environment, or that nobody knows.
    pub(crate) place: Option<Place>,
    /// Where it waits or waited.
    pub(crate) bay: Option<String>,
    /// Which process lets it wait.
    pub(crate) mark: Option<String>,
    pub(crate) is_running: bool,
}

impl Inner {
    /// Stops and removes the containers of an environment that are there and ours. True if one ran. The caller holds
    /// the slots.
    pub(crate) async fn take_down(&self, places: &[Place], slots: &[Arc<Slot>]) -> Result<bool, Error> {
        slots.iter().for_each(|slot| slot.set_running(None));
        let downs = places.iter().map(async |place| {
            let Some((id, ran)) = self.ours(place).await? else { return Ok(false) };
            self.stop_and_remove(&id).await?;
            Ok(ran)
        });
        let downs = futures::future::join_all(downs).await;
        downs.into_iter().try_fold(false, |any, ran| Ok(ran? || any))
    }

    /// Finds a container of this installation: its id, and whether it runs.
    pub(crate) async fn ours(&self, place: &Place) -> Result<Option<(String, bool)>, Error> {
        let Some(existing) = self.inspect(place).await? else { return Ok(None) };
        let labels = existing.config.and_then(|config| config.labels).unwrap_or_default();
        if labels.get(LABEL_INSTALLATION) != Some(&self.options.installation) {
            return Ok(None);
        }
        let is_running = existing.state.and_then(|state| state.running).unwrap_or(false);
        Ok(existing.id.map(|id| (id, is_running)))
    }

    pub(crate) async fn stop_and_remove(&self, id: &str) -> Result<(), Error> {
        // Removing by force ends what does not stop, so how stopping went does not matter.
        let _ = self.halt(id).await;
        self.delete(id).await
    }

    /// Stops a container and leaves it.
    pub(crate) async fn halt(&self, id: &str) -> Result<(), Error> {
        let options = StopContainerOptionsBuilder::new().t(STOP_GRACE_SECONDS).build();
        let stopped = self.engine.stop_container(id, Some(options)).await;
        absent_is_fine(stopped).map_err(|err| Error::other(format!("cannot stop container {id}"), err))
    }

    pub(crate) async fn delete(&self, id: &str) -> Result<(), Error> {
        let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
        let removed = self.engine.remove_container(id, Some(options)).await;
        absent_is_fine(removed).map_err(|err| Error::other(format!("cannot remove container {id}"), err))
    }

    /// Lists the containers of this installation.
    pub(crate) async fn list(&self) -> Result<Vec<Listed>, Error> {
        let label = format!("{LABEL_INSTALLATION}={}", self.options.installation);
        let filters = HashMap::from([("label".to_owned(), vec![label])]);
        let options = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
        let containers = self.engine.list_containers(Some(options)).await.map_err(Error::NoEngine)?;
        let ours = containers.into_iter().filter_map(|container| {
            let labels = container.labels?;
            let (bay, mark) = (labels.get(LABEL_BAY).cloned(), labels.get(LABEL_WARM).cloned());
            // A label stays as it was made; whose a container is that waited, its name tells.
            let environment = match bay {
                Some(_) => container.names.iter().flatten().find_map(|name| self.environment_named(name)),
                None => labels.get(LABEL_ENVIRONMENT).and_then(|id| id.parse().ok()),
            };
            let is_offline = labels.contains_key(LABEL_NETWORK);
            let place = environment.map(|environment| Place { environment, is_offline });
            let is_running = container.state.is_some_and(|state| state.as_ref() == "running");
            Some(Listed { id: container.id?, place, bay, mark, is_running })
        });
        Ok(ours.collect())
    }

    /// Reads the environment out of a container's name, as [`Place::name`] writes it.
    fn environment_named(&self, name: &str) -> Option<EnvironmentId> {
        let name = name.trim_start_matches('/');
        name.strip_prefix(&format!("atelier-{}-", self.options.installation))?.parse().ok()
    }

    pub(crate) fn directories(&self, place: &Place) -> Directories {
        Directories::new(&self.options.data_dir, place)
    }

    pub(crate) fn make(&self, directories: &Directories) -> Result<(), Error> {
        let made = directories.make(&self.options.user);
        made.map_err(|err| Error::other(format!("cannot make '{}'", directories.root.display()), err))
    }

    pub(crate) async fn inspect(&self, place: &Place) -> Result<Option<ContainerInspectResponse>, Error> {
        let name = place.name(&self.options.installation);
        match self.engine.inspect_container(&name, None).await {
            Ok(container) => Ok(Some(container)),
            Err(EngineError::DockerResponseServerError { status_code: 404, .. }) => Ok(None),
            Err(err) => Err(Error::NoEngine(err)),
        }
    }

    pub(crate) async fn is_running(&self, place: &Place) -> Result<bool, Error> {
        let state = self.inspect(place).await?.and_then(|container| container.state);
        Ok(state.and_then(|state| state.running).unwrap_or(false))
    }

    pub(crate) async fn stats(&self, place: &Place) -> Option<ContainerStatsResponse> {
        let name = place.name(&self.options.installation);
        let options = StatsOptionsBuilder::new().stream(false).one_shot(true).build();
        // A container that ends meanwhile has none.
        std::pin::pin!(self.engine.stats(&name, Some(options))).next().await?.ok()
    }

    /// Gives the last lines a container has said.
    pub(crate) async fn log(&self, id: &str) -> String {
        let options = LogsOptionsBuilder::new().stdout(true).stderr(true).tail("20").build();
        let lines = self.engine.logs(id, Some(options)).take(200).filter_map(|line| async { line.ok() });
        let lines: Vec<String> = lines.map(|line| line.to_string()).collect().await;
        lines.concat()
    }
}

/// A container that is gone, or not running, or already being removed is what was wanted.
fn absent_is_fine(result: Result<(), EngineError>) -> Result<(), EngineError> {
    match result {
        Err(EngineError::DockerResponseServerError { status_code: 304 | 404 | 409, .. }) => Ok(()),
        other => other,
    }
}
