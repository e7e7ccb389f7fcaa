//! The service: at most one container per environment, made when it is wanted and as it is wanted.

use std::{collections::HashMap, sync::Arc, time::Duration};

use bollard::{
    Docker,
    errors::Error as EngineError,
    models::{ContainerInspectResponse, ContainerStatsResponse},
    query_parameters::{
        CreateContainerOptionsBuilder, ListContainersOptionsBuilder, LogsOptionsBuilder, RemoveContainerOptionsBuilder,
        StatsOptionsBuilder, StopContainerOptionsBuilder,
    },
};
use chrono::DateTime;
use dashmap::DashMap;
use domain::EnvironmentId;
use futures::{StreamExt, TryStreamExt};
use tokio::{
    sync::Semaphore,
    time::{Instant, sleep, timeout_at},
};

use crate::{
    Egress, Error, Limits, Network, Options, Report, Sandbox, Spec, Status, Workspace,
    container::{self, LABEL_ENVIRONMENT, LABEL_INSTALLATION, LABEL_SPEC},
    directories::Directories,
    guest::Guest,
    network::Bridge,
    report,
    slot::Slot,
};

/// How long a running container's daemon may take to show that it lives, before the container is replaced.
const PING_LIMIT: Duration = Duration::from_secs(10);

/// Between SIGTERM and SIGKILL when a container is stopped; `guestd` itself gives its commands less.
const STOP_GRACE_SECONDS: i32 = 2;

/// All sandboxes of this installation. Cheap to clone.
#[derive(Clone)]
pub struct Sandboxes {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) options: Options,
    pub(crate) engine: Docker,
    pub(crate) bridge: Bridge,
    pub(crate) slots: DashMap<EnvironmentId, Arc<Slot>>,
    starts: Semaphore,
    /// The processor cores of the engine's host; it refuses to start what asks for more.
    cores: f64,
}

impl Sandboxes {
    /// Connects to the engine. Nothing is started or removed.
    ///
    /// # Errors
    /// `NoEngine`; `Other` for an entry of `egress_allow` that is no address.
    pub async fn connect(options: Options) -> Result<Self, Error> {
        let engine = match &options.docker_socket {
            Some(path) => Docker::connect_with_unix(path, 120, bollard::API_DEFAULT_VERSION),
            None => Docker::connect_with_defaults(),
        };
        let engine = engine.map_err(Error::NoEngine)?.negotiate_version().await.map_err(Error::NoEngine)?;
        let cores = engine.info().await.map_err(Error::NoEngine)?.ncpu.unwrap_or(1) as f64;
        let (bridge, starts) = (Bridge::new(&options)?, Semaphore::new(options.concurrent_starts.max(1)));
        Ok(Self { inner: Arc::new(Inner { options, engine, bridge, slots: DashMap::new(), starts, cores }) })
    }

    /// Gives the running container of an environment, starting, adopting or rebuilding it as needed.
    ///
    /// Concurrent calls for one environment share one start. A container that runs with the same spec (of this process
    /// or an earlier one) is taken as it is; one made from another spec is replaced; the files stay.
    ///
    /// # Errors
    /// `NoImage`, `StartFailed`, `NoEngine`; `Unfiltered` when internet is wanted and cannot be filtered.
    pub async fn open(&self, spec: &Spec) -> Result<Sandbox, Error> {
        loop {
            let slot = self.slot(&spec.environment);
            slot.uses.touch();
            if let Some(sandbox) = slot.running_as(spec) {
                return Ok(sandbox);
            }
            let _changing = slot.changing.lock().await;
            if let Some(sandbox) = slot.running_as(spec) {
                return Ok(sandbox);
            }
            // While we waited, the environment may have been removed and with it this slot.
            let is_current =
                self.inner.slots.get(&spec.environment).is_some_and(|current| Arc::ptr_eq(&current, &slot));
            if is_current {
                slot.set_running(None);
                let sandbox = self.inner.bring_up(spec, &slot).await?;
                slot.set_running(Some((spec.clone(), sandbox.clone())));
                slot.uses.touch();
                return Ok(sandbox);
            }
        }
    }

    /// Gives the running container of an environment, if this process knows one.
    pub async fn find(&self, environment: &EnvironmentId) -> Option<Sandbox> {
        let slot = self.inner.slots.get(environment).map(|slot| Arc::clone(&slot))?;
        slot.running()
    }

    /// Tells how the container of an environment is.
    pub async fn status(&self, environment: &EnvironmentId) -> Result<Status, Error> {
        let Some(container) = self.inner.inspect(environment).await? else { return Ok(Status::default()) };
        let state = container.state.unwrap_or_default();
        let is_running = state.running.unwrap_or(false);
        let started_at = state.started_at.and_then(|time| DateTime::parse_from_rfc3339(&time).ok());
        let slot = self.inner.slots.get(environment).map(|slot| slot.uses.last_used_at());
        let status = Status {
            is_running,
            container: container.id,
            started_at: started_at.map(|time| time.to_utc()).filter(|_| is_running),
            last_used_at: slot,
            ..Status::default()
        };
        let stats = if is_running { self.inner.stats(environment).await } else { None };
        Ok(stats.map_or(status.clone(), |stats| with_stats(status, &stats)))
    }

    /// Stops and removes the container; the files stay. True if one ran.
    pub async fn stop(&self, environment: &EnvironmentId) -> Result<bool, Error> {
        let slot = self.slot(environment);
        let _changing = slot.changing.lock().await;
        slot.set_running(None);
        self.inner.take_down(environment).await
    }

    /// Removes the container and the files.
    pub async fn remove(&self, environment: &EnvironmentId) -> Result<(), Error> {
        let slot = self.slot(environment);
        let _changing = slot.changing.lock().await;
        slot.set_running(None);
        self.inner.take_down(environment).await?;
        Workspace::delete(self.inner.directories(environment).root).await?;
        self.inner.slots.remove(environment);
        Ok(())
    }

    /// Opens the files of an environment on this host, whose directories are made; no container is needed.
    pub fn workspace(&self, environment: &EnvironmentId) -> Result<Workspace, Error> {
        let directories = self.inner.directories(environment);
        self.inner.make(&directories)?;
        Workspace::open(directories.workspace())
    }

    /// Removes every container of this installation and its network. Gives how many containers that were.
    pub async fn stop_all(&self) -> Result<usize, Error> {
        let containers = self.inner.list().await?;
        let count = containers.len();
        futures::stream::iter(containers)
            .map(|(id, _, _)| async move { self.inner.stop_and_remove(&id).await })
            .buffer_unordered(4)
            .try_collect::<Vec<_>>()
            .await?;
        for slot in &self.inner.slots {
            slot.set_running(None);
        }
        self.inner.bridge.remove(&self.inner.engine).await?;
        Ok(count)
    }

    /// Asks the engine for a sign of life.
    ///
    /// # Errors
    /// `NoEngine`.
    pub async fn ping(&self) -> Result<(), Error> {
        self.inner.engine.ping().await.map(drop).map_err(Error::NoEngine)
    }

    /// Tells what this host really enforces.
    pub async fn report(&self) -> Report {
        report::report(&self.inner.engine, &self.inner.options, &self.inner.bridge).await
    }

    pub(crate) fn slot(&self, environment: &EnvironmentId) -> Arc<Slot> {
        Arc::clone(&self.inner.slots.entry(environment.clone()).or_default())
    }
}

impl Inner {
    /// Makes the container of `spec` run, reusing what is there. The caller holds the slot.
    async fn bring_up(&self, spec: &Spec, slot: &Slot) -> Result<Sandbox, Error> {
        let image = spec.image.as_ref().unwrap_or(&self.options.image);
        let image_id = match self.engine.inspect_image(image).await {
            Ok(found) => found.id.unwrap_or_default(),
            Err(EngineError::DockerResponseServerError { status_code: 404, .. }) => {
                return Err(Error::NoImage(image.clone()));
            }
            Err(err) => return Err(Error::NoEngine(err)),
        };
        let hash = container::spec_hash(&self.options, spec, self.limits(spec), &image_id);
        let directories = self.directories(&spec.environment);
        self.make(&directories)?;

        let existing = self.inspect(&spec.environment).await?;
        let network = self.network(spec).await?;
        if let Some(existing) = existing {
            let id = existing.id.unwrap_or_default();
            let labels = existing.config.and_then(|config| config.labels).unwrap_or_default();
            if labels.get(LABEL_INSTALLATION) != Some(&self.options.installation) {
                return Err(self.start_failed(
                    spec,
                    "its name is taken by a container that is not ours",
                    String::new(),
                ));
            }
            if labels.get(LABEL_SPEC) == Some(&hash) {
                if existing.state.and_then(|state| state.running).unwrap_or(false) {
                    let sandbox = self.sandbox(spec, &id, &directories, slot)?;
                    match sandbox.ping(PING_LIMIT).await {
                        Ok(_) => return Ok(sandbox),
                        Err(Error::Gone) => {}
                        // Not the container's fault, and so no reason to throw away what it is doing.
                        Err(err) => return Err(err),
                    }
                } else if let Ok(sandbox) = self.start(spec, &id, &directories, slot).await {
                    // Stopped while idle: what was installed into it is still there.
                    return Ok(sandbox);
                }
            }
            self.delete(&id).await?;
        }
        let body = container::body(&self.options, spec, self.limits(spec), &directories, &network, &hash);
        let name = container::name(&self.options.installation, &spec.environment);
        let options = CreateContainerOptionsBuilder::new().name(&name).build();
        let deadline = Instant::now() + self.options.start_deadline;
        let id = loop {
            match self.engine.create_container(Some(options.clone()), body.clone()).await {
                Ok(created) => break created.id,
                // A container that somebody else is removing keeps its name until it is gone.
                Err(EngineError::DockerResponseServerError { status_code: 409, .. }) if Instant::now() < deadline => {
                    sleep(Duration::from_millis(20)).await;
                }
                Err(EngineError::DockerResponseServerError { message, .. }) => {
                    return Err(self.start_failed(spec, &message, String::new()));
                }
                Err(err) => return Err(Error::NoEngine(err)),
            }
        };
        let started = self.start(spec, &id, &directories, slot).await;
        if started.is_err() {
            self.delete(&id).await?;
        }
        started
    }

    /// Starts a container that exists and waits for its daemon.
    async fn start(&self, spec: &Spec, id: &str, directories: &Directories, slot: &Slot) -> Result<Sandbox, Error> {
        let _start = self.starts.acquire().await.expect("the semaphore is never closed");
        let deadline = Instant::now() + self.options.start_deadline;
        directories.renew_run(&self.options.user).await?;
        match timeout_at(deadline, self.engine.start_container(id, None)).await {
            Ok(Ok(())) => {}
            Ok(Err(EngineError::DockerResponseServerError { message, .. })) => {
                return Err(self.start_failed(spec, &message, self.log(id).await));
            }
            Ok(Err(err)) => return Err(Error::NoEngine(err)),
            Err(_) => return Err(self.start_failed(spec, "the engine does not start it in time", self.log(id).await)),
        }
        let mut polls = 0u32;
        loop {
            let sandbox = self.sandbox(spec, id, directories, slot)?;
            if sandbox.ping(PING_LIMIT).await.is_ok() {
                return Ok(sandbox);
            }
            if Instant::now() > deadline {
                return Err(self.start_failed(spec, "its daemon does not answer in time", self.log(id).await));
            }
            polls += 1;
            // Whether it still runs is asked seldom: each time costs as much as the start of the daemon.
            if polls.is_multiple_of(100) && !self.is_running(&spec.environment).await? {
                return Err(self.start_failed(spec, "its daemon ends at once", self.log(id).await));
            }
            sleep(Duration::from_millis(2)).await;
        }
    }

    /// Gives the engine's name of the network that `spec` wants, ready and filtered.
    async fn network(&self, spec: &Spec) -> Result<String, Error> {
        if spec.network == Network::None {
            return Ok("none".to_owned());
        }
        match self.bridge.ensure(&self.engine).await? {
            Egress::NotEnforced(reason) if !self.options.allow_unfiltered_egress => Err(Error::Unfiltered(reason)),
            Egress::Enforced | Egress::NotEnforced(_) => Ok(self.bridge.name.clone()),
        }
    }

    fn limits(&self, spec: &Spec) -> Limits {
        let limits = spec.limits.unwrap_or(self.options.limits);
        Limits { cpus: limits.cpus.min(self.cores), ..limits }
    }

    fn sandbox(&self, spec: &Spec, id: &str, directories: &Directories, slot: &Slot) -> Result<Sandbox, Error> {
        let guest = Guest::new(&directories.run())
            .map_err(|err| Error::other(format!("cannot open '{}'", directories.run().display()), err))?;
        Ok(Sandbox::new(spec.environment.clone(), id.to_owned(), guest, Arc::clone(&slot.uses)))
    }

    /// Stops and removes the container of an environment, if there is one of ours. True if it ran.
    pub(crate) async fn take_down(&self, environment: &EnvironmentId) -> Result<bool, Error> {
        let Some(existing) = self.inspect(environment).await? else { return Ok(false) };
        let labels = existing.config.and_then(|config| config.labels).unwrap_or_default();
        if labels.get(LABEL_INSTALLATION) != Some(&self.options.installation) {
            return Ok(false);
        }
        let ran = existing.state.and_then(|state| state.running).unwrap_or(false);
        self.stop_and_remove(&existing.id.unwrap_or_default()).await?;
        Ok(ran)
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

    /// Lists the containers of this installation: id, environment, and whether it runs.
    pub(crate) async fn list(&self) -> Result<Vec<(String, Option<EnvironmentId>, bool)>, Error> {
        let label = format!("{LABEL_INSTALLATION}={}", self.options.installation);
        let filters = HashMap::from([("label".to_owned(), vec![label])]);
        let options = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
        let containers = self.engine.list_containers(Some(options)).await.map_err(Error::NoEngine)?;
        let ours = containers.into_iter().filter_map(|container| {
            let environment = container.labels?.get(LABEL_ENVIRONMENT).and_then(|id| id.parse().ok());
            let is_running = container.state.is_some_and(|state| state.as_ref() == "running");
            Some((container.id?, environment, is_running))
        });
        Ok(ours.collect())
    }

    pub(crate) fn directories(&self, environment: &EnvironmentId) -> Directories {
        Directories::new(&self.options.data_dir, environment)
    }

    fn make(&self, directories: &Directories) -> Result<(), Error> {
        let made = directories.make(&self.options.user);
        made.map_err(|err| Error::other(format!("cannot make '{}'", directories.root.display()), err))
    }

    async fn inspect(&self, environment: &EnvironmentId) -> Result<Option<ContainerInspectResponse>, Error> {
        let name = container::name(&self.options.installation, environment);
        match self.engine.inspect_container(&name, None).await {
            Ok(container) => Ok(Some(container)),
            Err(EngineError::DockerResponseServerError { status_code: 404, .. }) => Ok(None),
            Err(err) => Err(Error::NoEngine(err)),
        }
    }

    async fn is_running(&self, environment: &EnvironmentId) -> Result<bool, Error> {
        let state = self.inspect(environment).await?.and_then(|container| container.state);
        Ok(state.and_then(|state| state.running).unwrap_or(false))
    }

    async fn stats(&self, environment: &EnvironmentId) -> Option<ContainerStatsResponse> {
        let name = container::name(&self.options.installation, environment);
        let options = StatsOptionsBuilder::new().stream(false).one_shot(true).build();
        // A container that ends meanwhile has none.
        std::pin::pin!(self.engine.stats(&name, Some(options))).next().await?.ok()
    }

    fn start_failed(&self, spec: &Spec, reason: &str, log: String) -> Error {
        Error::StartFailed { environment: spec.environment.clone(), reason: reason.to_owned(), log }
    }

    /// Gives the last lines a container has said.
    async fn log(&self, id: &str) -> String {
        let options = LogsOptionsBuilder::new().stdout(true).stderr(true).tail("20").build();
        let lines = self.engine.logs(id, Some(options)).take(200).filter_map(|line| async { line.ok() });
        let lines: Vec<String> = lines.map(|line| line.to_string()).collect().await;
        lines.concat()
    }
}

fn with_stats(status: Status, stats: &ContainerStatsResponse) -> Status {
    let memory = stats.memory_stats.clone().unwrap_or_default();
    let details = memory.stats.unwrap_or_default();
    // The names of the kernel's two versions of control groups.
    let cache = details.get("total_inactive_file").or(details.get("inactive_file")).copied().unwrap_or(0);
    let cpu = stats.cpu_stats.as_ref().and_then(|cpu| cpu.cpu_usage.as_ref()?.total_usage);
    Status {
        memory_bytes: memory.usage.map(|usage| usage.saturating_sub(cache)),
        memory_limit_bytes: memory.limit,
        cpu_time: cpu.map(Duration::from_nanos),
        processes: stats.pids_stats.as_ref().and_then(|pids| pids.current),
        ..status
    }
}

/// A container that is gone, or not running, or already being removed is what was wanted.
fn absent_is_fine(result: Result<(), EngineError>) -> Result<(), EngineError> {
    match result {
        Err(EngineError::DockerResponseServerError { status_code: 304 | 404 | 409, .. }) => Ok(()),
        other => other,
    }
}
