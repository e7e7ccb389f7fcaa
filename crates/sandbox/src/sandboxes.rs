//! The service: at most one container for each place, made when it is wanted and as it is wanted.

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
    sync::{MutexGuard, Semaphore},
    time::{Instant, sleep, timeout_at},
};

use crate::{
    Egress, Error, Limits, Network, Options, Report, Sandbox, Spec, Status, Workspace,
    container::{self, LABEL_ENVIRONMENT, LABEL_INSTALLATION, LABEL_NETWORK, LABEL_SPEC},
    directories::Directories,
    engine,
    guest::Guest,
    images,
    network::Bridge,
    place::Place,
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
    pub(crate) slots: DashMap<Place, Arc<Slot>>,
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
        let engine = engine::connect(options.docker_socket.as_deref()).await.map_err(Error::NoEngine)?;
        let cores = engine.info().await.map_err(Error::NoEngine)?.ncpu.unwrap_or(1) as f64;
        let (bridge, starts) = (Bridge::new(&options)?, Semaphore::new(options.concurrent_starts.max(1)));
        Ok(Self { inner: Arc::new(Inner { options, engine, bridge, slots: DashMap::new(), starts, cores }) })
    }

    /// Gives the running container of `spec`, starting, adopting or rebuilding it as needed.
    ///
    /// It is the environment's own, or the one beside it if the network is [`Network::Withheld`]; neither is touched for
    /// the other. Concurrent calls for one container share one start. A container that runs with the same spec (of this process
    /// or an earlier one) is taken as it is; one made from another spec is replaced; the files stay.
    ///
    /// # Errors
    /// `ImageRefused`, `NoImage`, `StartFailed`, `NoEngine`; `Unfiltered` when internet is wanted and cannot be filtered.
    pub async fn open(&self, spec: &Spec) -> Result<Sandbox, Error> {
        let place = Place::of(spec);
        loop {
            let slot = self.slot(&place);
            slot.uses.touch();
            if let Some(sandbox) = slot.running_as(spec) {
                return Ok(sandbox);
            }
            let _changing = slot.changing.lock().await;
            if let Some(sandbox) = slot.running_as(spec) {
                return Ok(sandbox);
            }
            // While we waited, the environment may have been removed and with it this slot.
            let is_current = self.inner.slots.get(&place).is_some_and(|current| Arc::ptr_eq(&current, &slot));
            if is_current {
                slot.set_running(None);
                let sandbox = self.inner.bring_up(spec, &slot).await?;
                slot.set_running(Some((spec.clone(), sandbox.clone())));
                slot.uses.touch();
                return Ok(sandbox);
            }
        }
    }

    /// Gives the running container of an environment, its own one, if this process knows it.
    pub async fn find(&self, environment: &EnvironmentId) -> Option<Sandbox> {
        self.known(&Place::main(environment))?.running()
    }

    /// Tells whether [`open`](Self::open) would give a container that this process knows to run.
    pub fn is_open(&self, spec: &Spec) -> bool {
        self.known(&Place::of(spec)).is_some_and(|slot| slot.running_as(spec).is_some())
    }

    /// Kills every process tree that was started under `group`, in whichever container of the environment, and returns
    /// when all are gone. Gives how many trees that were.
    ///
    /// A container that runs since before this process did is asked too; none is started for it.
    pub async fn kill_group(&self, environment: &EnvironmentId, group: &str) -> Result<usize, Error> {
        let places = Place::all(environment);
        let killed = futures::future::join_all(places.iter().map(|place| self.kill_group_at(place, group))).await;
        killed.into_iter().sum()
    }

    async fn kill_group_at(&self, place: &Place, group: &str) -> Result<usize, Error> {
        if let Some(sandbox) = self.known(place).and_then(|slot| slot.running()) {
            match sandbox.kill_group(group).await {
                // It has ended. Another server may have started one anew.
                Err(Error::Gone) => {}
                killed => return killed,
            }
        }
        let Some(sandbox) = self.inner.adopt(place).await? else { return Ok(0) };
        match sandbox.kill_group(group).await {
            Err(Error::Gone) => Ok(0),
            killed => killed,
        }
    }

    /// Tells how the container of an environment is, its own one.
    pub async fn status(&self, environment: &EnvironmentId) -> Result<Status, Error> {
        let place = Place::main(environment);
        let Some(container) = self.inner.inspect(&place).await? else { return Ok(Status::default()) };
        let state = container.state.unwrap_or_default();
        let is_running = state.running.unwrap_or(false);
        let started_at = state.started_at.and_then(|time| DateTime::parse_from_rfc3339(&time).ok());
        let slot = self.known(&place).map(|slot| slot.uses.last_used_at());
        let status = Status {
            is_running,
            container: container.id,
            started_at: started_at.map(|time| time.to_utc()).filter(|_| is_running),
            last_used_at: slot,
            ..Status::default()
        };
        let stats = if is_running { self.inner.stats(&place).await } else { None };
        Ok(stats.map_or(status.clone(), |stats| with_stats(status, &stats)))
    }

    /// Stops and removes the environment's containers; the files stay. True if one ran.
    pub async fn stop(&self, environment: &EnvironmentId) -> Result<bool, Error> {
        let places = Place::all(environment);
        let slots = places.each_ref().map(|place| self.slot(place));
        let _changing = lock(&slots).await;
        self.inner.take_down(&places, &slots).await
    }

    /// Removes the environment's containers and its files.
    pub async fn remove(&self, environment: &EnvironmentId) -> Result<(), Error> {
        let places = Place::all(environment);
        let slots = places.each_ref().map(|place| self.slot(place));
        let _changing = lock(&slots).await;
        self.inner.take_down(&places, &slots).await?;
        Workspace::delete(self.inner.directories(&places[0]).root).await?;
        for place in &places {
            self.inner.slots.remove(place);
        }
        Ok(())
    }

    /// Opens the files of an environment on this host, whose directories are made; no container is needed.
    pub fn workspace(&self, environment: &EnvironmentId) -> Result<Workspace, Error> {
        let directories = self.inner.directories(&Place::main(environment));
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

    pub(crate) fn slot(&self, place: &Place) -> Arc<Slot> {
        Arc::clone(&self.inner.slots.entry(place.clone()).or_default())
    }

    /// Gives a slot that is there, without making one.
    pub(crate) fn known(&self, place: &Place) -> Option<Arc<Slot>> {
        self.inner.slots.get(place).map(|slot| Arc::clone(&slot))
    }
}

/// Keeps everybody else from changing the containers of an environment.
async fn lock(slots: &[Arc<Slot>; 2]) -> [MutexGuard<'_, ()>; 2] {
    let [main, offline] = slots;
    [main.changing.lock().await, offline.changing.lock().await]
}

impl Inner {
    /// Makes the container of `spec` run, reusing what is there. The caller holds the slot.
    async fn bring_up(&self, spec: &Spec, slot: &Slot) -> Result<Sandbox, Error> {
        let image = spec.image.as_ref().unwrap_or(&self.options.image);
        if *image != self.options.image && !images::are_among(&self.options.images, image) {
            return Err(Error::ImageRefused(image.clone()));
        }
        let image_id = match self.engine.inspect_image(image).await {
            Ok(found) => found.id.unwrap_or_default(),
            Err(EngineError::DockerResponseServerError { status_code: 404, .. }) => {
                return Err(Error::NoImage(image.clone()));
            }
            Err(err) => return Err(Error::NoEngine(err)),
        };
        let hash = container::spec_hash(&self.options, spec, self.limits(spec), &image_id);
        let place = Place::of(spec);
        let directories = self.directories(&place);
        self.make(&directories)?;

        let existing = self.inspect(&place).await?;
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
                    let sandbox = self.sandbox(&place, &id, slot)?;
                    match sandbox.ping(PING_LIMIT).await {
                        Ok(_) => return Ok(sandbox),
                        Err(Error::Gone) => {}
                        // Not the container's fault, and so no reason to throw away what it is doing.
                        Err(err) => return Err(err),
                    }
                } else if let Ok(sandbox) = self.start(spec, &id, slot).await {
                    // Stopped while idle: what was installed into it is still there.
                    return Ok(sandbox);
                }
            }
            self.delete(&id).await?;
        }
        let body = container::body(&self.options, spec, self.limits(spec), &directories, &network, &hash);
        let name = place.name(&self.options.installation);
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
        let started = self.start(spec, &id, slot).await;
        if started.is_err() {
            self.delete(&id).await?;
        }
        started
    }

    /// Starts a container that exists and waits for its daemon.
    async fn start(&self, spec: &Spec, id: &str, slot: &Slot) -> Result<Sandbox, Error> {
        let place = Place::of(spec);
        let _start = self.starts.acquire().await.expect("the semaphore is never closed");
        let deadline = Instant::now() + self.options.start_deadline;
        self.directories(&place).renew_run(&self.options.user).await?;
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
            let sandbox = self.sandbox(&place, id, slot)?;
            if sandbox.ping(PING_LIMIT).await.is_ok() {
                return Ok(sandbox);
            }
            if Instant::now() > deadline {
                return Err(self.start_failed(spec, "its daemon does not answer in time", self.log(id).await));
            }
            polls += 1;
            // Whether it still runs is asked seldom: each time costs as much as the start of the daemon.
            if polls.is_multiple_of(100) && !self.is_running(&place).await? {
                return Err(self.start_failed(spec, "its daemon ends at once", self.log(id).await));
            }
            sleep(Duration::from_millis(2)).await;
        }
    }

    /// Gives the engine's name of the network that `spec` wants, ready and filtered.
    async fn network(&self, spec: &Spec) -> Result<String, Error> {
        if spec.network != Network::Open {
            return Ok("none".to_owned());
        }
        match self.bridge.ensure(&self.engine).await? {
            Egress::NotEnforced(reason) if !self.options.allow_unfiltered_egress => Err(Error::Unfiltered(reason)),
            Egress::Enforced | Egress::NotEnforced(_) => Ok(self.bridge.name.clone()),
        }
    }

    fn limits(&self, spec: &Spec) -> Limits {
        let limits = spec.limits.unwrap_or(self.options.sizes.standard);
        Limits { cpus: limits.cpus.min(self.cores), ..limits }
    }

    fn sandbox(&self, place: &Place, id: &str, slot: &Slot) -> Result<Sandbox, Error> {
        let run = self.directories(place).run;
        let guest = Guest::new(&run).map_err(|err| Error::other(format!("cannot open '{}'", run.display()), err))?;
        Ok(Sandbox::new(place.environment.clone(), id.to_owned(), guest, Arc::clone(&slot.uses)))
    }

    /// Gives the way to a container of ours that runs, whatever it was made from and whoever started it.
    async fn adopt(&self, place: &Place) -> Result<Option<Sandbox>, Error> {
        match self.ours(place).await? {
            // Not put into its slot: whoever opens it looks at what it was made from.
            Some((id, true)) => self.sandbox(place, &id, &Slot::default()).map(Some),
            Some((_, false)) | None => Ok(None),
        }
    }

    /// Stops and removes the containers of an environment that are there and ours. True if one ran. The caller holds
    /// the slots.
    async fn take_down(&self, places: &[Place], slots: &[Arc<Slot>]) -> Result<bool, Error> {
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
    async fn ours(&self, place: &Place) -> Result<Option<(String, bool)>, Error> {
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

    /// Lists the containers of this installation: id, place, and whether it runs.
    pub(crate) async fn list(&self) -> Result<Vec<(String, Option<Place>, bool)>, Error> {
        let label = format!("{LABEL_INSTALLATION}={}", self.options.installation);
        let filters = HashMap::from([("label".to_owned(), vec![label])]);
        let options = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
        let containers = self.engine.list_containers(Some(options)).await.map_err(Error::NoEngine)?;
        let ours = containers.into_iter().filter_map(|container| {
            let labels = container.labels?;
            let environment = labels.get(LABEL_ENVIRONMENT).and_then(|id| id.parse().ok());
            let is_offline = labels.contains_key(LABEL_NETWORK);
            let place = environment.map(|environment| Place { environment, is_offline });
            let is_running = container.state.is_some_and(|state| state.as_ref() == "running");
            Some((container.id?, place, is_running))
        });
        Ok(ours.collect())
    }

    pub(crate) fn directories(&self, place: &Place) -> Directories {
        Directories::new(&self.options.data_dir, place)
    }

    fn make(&self, directories: &Directories) -> Result<(), Error> {
        let made = directories.make(&self.options.user);
        made.map_err(|err| Error::other(format!("cannot make '{}'", directories.root.display()), err))
    }

    async fn inspect(&self, place: &Place) -> Result<Option<ContainerInspectResponse>, Error> {
        let name = place.name(&self.options.installation);
        match self.engine.inspect_container(&name, None).await {
            Ok(container) => Ok(Some(container)),
            Err(EngineError::DockerResponseServerError { status_code: 404, .. }) => Ok(None),
            Err(err) => Err(Error::NoEngine(err)),
        }
    }

    async fn is_running(&self, place: &Place) -> Result<bool, Error> {
        let state = self.inspect(place).await?.and_then(|container| container.state);
        Ok(state.and_then(|state| state.running).unwrap_or(false))
    }

    async fn stats(&self, place: &Place) -> Option<ContainerStatsResponse> {
        let name = place.name(&self.options.installation);
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
