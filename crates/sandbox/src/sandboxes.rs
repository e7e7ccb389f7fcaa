//! The service: at most one container for each place, made when it is wanted and as it is wanted.

use std::{sync::Arc, time::Duration};

use bollard::Docker;
use chrono::DateTime;
use dashmap::DashMap;
use domain::EnvironmentId;
use futures::{StreamExt, TryStreamExt};
use tokio::{
    sync::{Mutex, MutexGuard, OwnedMutexGuard, Semaphore},
    time::Instant,
};
use tracing::Instrument;

use crate::{
    Error, Options, Report, Sandbox, Spec, Status, Workspace, containers::REMOVALS, directories::HostDirectories,
    disk::Disks, engine, network::Bridge, place::Place, report, runtimes, slot::Slot, status::with_stats, warm::Pool,
};

/// How long a running container's daemon may take to show that it lives, before the container is replaced.
pub(crate) const PING_LIMIT: Duration = Duration::from_secs(10);

/// How old a report may be that is not asked for by an operator.
const REPORT_AGE: Duration = Duration::from_secs(60);

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
    pub(crate) pool: Pool,
    report: Mutex<Option<(Instant, Arc<Report>)>>,
    pub(crate) starts: Semaphore,
    /// The processor cores of the engine's host; it refuses to start what asks for more.
    pub(crate) cores: f64,
    pub(crate) runtimes: runtimes::Known,
    pub(crate) disks: Disks,
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
        let pool = Pool::new(&options);
        Ok(Self {
            inner: Arc::new(Inner {
                options,
                engine,
                bridge,
                slots: DashMap::new(),
                pool,
                report: Mutex::default(),
                starts,
                cores,
                runtimes: runtimes::Known::default(),
                disks: Disks::new(),
            }),
        })
    }

    /// Gives the running container of `spec`, starting, adopting or rebuilding it as needed.
    ///
    /// It is the environment's own, or the one beside it if the network is [`crate::Network::Withheld`]; neither is touched for
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
            let changing = Arc::clone(&slot.changing).lock_owned().await;
            if let Some(sandbox) = slot.running_as(spec) {
                return Ok(sandbox);
            }
            // While we waited, the environment may have been removed and with it this slot.
            let is_current = self.inner.slots.get(&place).is_some_and(|current| Arc::ptr_eq(&current, &slot));
            if is_current {
                return self.start(spec, slot, changing).await;
            }
        }
    }

    /// Makes the container run. Once begun, it does not end with whoever asked: a container half made would be nobody's, and
    /// in the way of the next one.
    async fn start(&self, spec: &Spec, slot: Arc<Slot>, changing: OwnedMutexGuard<()>) -> Result<Sandbox, Error> {
        let (inner, spec) = (Arc::clone(&self.inner), spec.clone());
        let starting = async move {
            let _changing = changing;
            slot.set_running(None);
            let sandbox = inner.bring_up(&spec, &slot).await?;
            slot.set_running(Some((spec, sandbox.clone())));
            slot.uses.touch();
            Ok(sandbox)
        };
        match tokio::spawn(starting.in_current_span()).await {
            Ok(started) => started,
            Err(err) => match err.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(err) => Err(Error::other("the start of a container was given up", err)),
            },
        }
    }

    /// Gives the running container of an environment, its own one, if this process knows it.
    pub async fn find(&self, environment: &EnvironmentId) -> Option<Sandbox> {
        self.known(&Place::main(environment))?.running()
    }

    /// Gives the containers of an environment that run, its own one first, whoever started them; none is started.
    ///
    /// Costs questions to the engine about those that this process does not know.
    ///
    /// # Errors
    /// `NoEngine`.
    pub async fn running(&self, environment: &EnvironmentId) -> Result<Vec<Sandbox>, Error> {
        let mut running = Vec::new();
        for place in Place::all(environment) {
            let known = self.known(&place).and_then(|slot| slot.running());
            running.extend(match known {
                Some(sandbox) => Some(sandbox),
                None => self.inner.adopt(&place, &self.slot(&place)).await?,
            });
        }
        Ok(running)
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
        let Some(sandbox) = self.inner.adopt(place, &Slot::default()).await? else { return Ok(0) };
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
        self.inner.disks.remove(environment);
        Ok(())
    }

    /// Opens the files of an environment on this host, whose directories are made; no container is needed.
    pub fn workspace(&self, environment: &EnvironmentId) -> Result<Workspace, Error> {
        let directories = self.inner.directories(&Place::main(environment));
        self.inner.make(&directories)?;
        Workspace::open(directories.workspace())
    }

    /// Gives where the files of an environment are on this host; the directories are made.
    pub fn directories(&self, environment: &EnvironmentId) -> Result<HostDirectories, Error> {
        let directories = self.inner.directories(&Place::main(environment));
        self.inner.make(&directories)?;
        Ok(directories.on_host())
    }

    /// Removes every container of this installation, its network and what is mounted for them. Gives how many containers that were.
    pub async fn stop_all(&self) -> Result<usize, Error> {
        let containers = self.inner.list().await?;
        let count = containers.len();
        futures::stream::iter(containers)
            .map(|listed| async move { self.inner.stop_and_remove(&listed.id).await })
            .buffer_unordered(REMOVALS)
            .try_collect::<Vec<_>>()
            .await?;
        for slot in &self.inner.slots {
            slot.set_running(None);
        }
        self.inner.bridge.remove(&self.inner.engine).await?;
        self.inner.pool.bays.close().map_err(|err| Error::other("cannot unmount the bays of warm containers", err))?;
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

    /// Tells what this host enforced a minute ago at most: looking takes a while, and it seldom changes.
    pub async fn recent_report(&self) -> Arc<Report> {
        let mut known = self.inner.report.lock().await;
        match &*known {
            Some((at, report)) if at.elapsed() < REPORT_AGE => Arc::clone(report),
            _ => {
                let report = Arc::new(self.report().await);
                *known = Some((Instant::now(), Arc::clone(&report)));
                report
            }
        }
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
