//! Keeps an environment from filling the disk, where the kernel does not: by looking how much it takes.
//!
//! What counts is what somebody in the environment can fill: its files, its home directory and the layers that its
//! containers write. A look is a walk over all of it, so it is taken as seldom as makes it a twentieth of one core's time.
//!
//! Of an environment over its limit, all that runs is killed when it is seen to grow, so that whatever fills the disk
//! ends and whatever makes room goes on. The same happens to what grew most when the whole disk is nearly full.

use std::{io, path::Path, time::Duration};

use bollard::query_parameters::InspectContainerOptionsBuilder;
use dashmap::DashMap;
use domain::EnvironmentId;
use tokio::time::Instant;

use crate::{Error, Sandboxes, Workspace, place::Place, sandboxes::Inner, workspace::Room};

/// How often an environment is looked at, in units of what a look takes.
const COST: u32 = 20;

/// What grows less between two looks is a log, or the marks of a command that removes files.
const GROWTH: u64 = 1024 * 1024;

/// How old a look may be that decides about a file to be written.
const FRESH: Duration = Duration::from_secs(60);

/// How much disk an environment takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskUse {
    pub bytes: u64,
    pub limit: u64,
}

/// An environment in which everything that ran was killed because of the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overrun {
    pub environment: EnvironmentId,
    pub used: DiskUse,
    /// How many process trees that were.
    pub killed: usize,
    /// Whether it was for the sake of the whole disk, and not of the environment's own limit.
    pub is_for_reserve: bool,
}

/// What is known of each environment.
pub(crate) type Disks = DashMap<EnvironmentId, Known>;

#[derive(Default)]
pub(crate) struct Known {
    look: Option<Look>,
    room: Room,
}

/// The latest look at an environment.
#[derive(Clone, Copy)]
struct Look {
    bytes: u64,
    at: Instant,
    took: Duration,
}

impl Look {
    /// Whether it is too early for another one.
    fn is_newer_than(&self, age: Duration) -> bool {
        self.at.elapsed() < age.max(self.took * COST)
    }
}

struct Growth {
    environment: EnvironmentId,
    used: DiskUse,
    bytes: u64,
}

impl Sandboxes {
    /// Looks at the environments whose containers run, and kills what fills the disk. To be called every few seconds.
    ///
    /// # Errors
    /// `NoEngine`. An environment that cannot be looked at is left out, with a line in the log.
    pub async fn watch_disks(&self) -> Result<Vec<Overrun>, Error> {
        let mut overruns = Vec::new();
        let mut growths = Vec::new();
        for environment in self.inner.environments_running().await? {
            let limit = self.disk_limit(&environment);
            let before = self.latest_look(&environment);
            if before.is_some_and(|look| look.is_newer_than(Duration::ZERO)) {
                continue;
            }
            let used = match self.look(&environment, limit).await {
                Ok(used) => used,
                Err(err) => {
                    let error = &err as &dyn std::error::Error;
                    tracing::warn!(%environment, error, "cannot look how much disk an environment takes");
                    continue;
                }
            };
            let grew = before.map_or(used.bytes, |before| used.bytes.saturating_sub(before.bytes));
            let was_within = before.is_none_or(|before| before.bytes <= limit);
            if used.bytes > limit && (was_within || grew > GROWTH) {
                overruns.push(self.end_all(environment, used, false).await);
            } else if grew > GROWTH {
                growths.push(Growth { environment, used, bytes: grew });
            }
        }
        if self.inner.is_nearly_full()
            && let Some(most) = growths.into_iter().max_by_key(|growth| growth.bytes)
        {
            overruns.push(self.end_all(most.environment, most.used, true).await);
        }
        Ok(overruns)
    }

    /// Opens the files of an environment for somebody who writes, with as much room as its limit leaves.
    ///
    /// # Errors
    /// `Other` if they cannot be looked at. What is written beyond the limit fails with `DiskLimit`.
    pub async fn writable(&self, environment: &EnvironmentId, limit: u64) -> Result<Workspace, Error> {
        if !self.latest_look(environment).is_some_and(|look| look.is_newer_than(FRESH)) {
            self.look(environment, limit).await?;
        }
        let room = self.inner.disks.entry(environment.clone()).or_default().room.clone();
        let (sandboxes, environment) = (self.clone(), environment.clone());
        crate::workspace::on_blocking_thread(move || Ok(sandboxes.workspace(&environment)?.within(room))).await
    }

    /// Tells how many bytes an environment took when it was last looked at, if it was by this process.
    pub fn disk_bytes(&self, environment: &EnvironmentId) -> Option<u64> {
        self.latest_look(environment).map(|look| look.bytes)
    }

    fn latest_look(&self, environment: &EnvironmentId) -> Option<Look> {
        self.inner.disks.get(environment)?.look
    }

    /// Measures how much an environment takes, and remembers it.
    async fn look(&self, environment: &EnvironmentId, limit: u64) -> Result<DiskUse, Error> {
        let room = self.inner.disks.entry(environment.clone()).or_default().room.clone();
        let (began, begun) = (Instant::now(), room.begin_look());
        let bytes = self.inner.measure(environment).await?;
        room.end_look(begun, limit.saturating_sub(bytes));
        let look = Look { bytes, at: Instant::now(), took: began.elapsed() };
        self.inner.disks.entry(environment.clone()).or_default().look = Some(look);
        Ok(DiskUse { bytes, limit })
    }

    /// What an environment may take. Of one that this process did not start, its size is not known: the most there is.
    fn disk_limit(&self, environment: &EnvironmentId) -> u64 {
        let known = Place::all(environment).iter().find_map(|place| self.known(place)?.limits());
        let sizes = &self.inner.options.sizes;
        known.flatten().map_or_else(|| sizes.most_disk(), |limits| limits.disk_bytes)
    }

    async fn end_all(&self, environment: EnvironmentId, used: DiskUse, is_for_reserve: bool) -> Overrun {
        let mut killed = 0;
        for sandbox in self.running(&environment).await.unwrap_or_default() {
            // One that has ended meanwhile fills nothing.
            match sandbox.kill_over_disk().await {
                Ok(trees) => killed += trees,
                Err(Error::Gone) => {}
                Err(err) => {
                    let error = &err as &dyn std::error::Error;
                    tracing::error!(%environment, error, "cannot end what fills the disk");
                }
            }
        }
        // What it wrote between the look and its end is not the growth of whatever runs next.
        if let Err(err) = self.look(&environment, used.limit).await {
            let error = &err as &dyn std::error::Error;
            tracing::warn!(%environment, error, "cannot look how much disk an environment takes");
        }
        Overrun { environment, used, killed, is_for_reserve }
    }
}

impl Inner {
    /// Lists the environments whose containers run, whoever started them.
    async fn environments_running(&self) -> Result<Vec<EnvironmentId>, Error> {
        let running = self.list().await?.into_iter().filter(|listed| listed.is_running);
        let mut environments: Vec<_> = running.filter_map(|listed| Some(listed.place?.environment)).collect();
        environments.sort();
        environments.dedup();
        Ok(environments)
    }

    async fn measure(&self, environment: &EnvironmentId) -> Result<u64, Error> {
        let places = Place::all(environment);
        let directories = self.directories(&places[0]);
        self.make(&directories)?;
        let mut bytes = 0;
        for root in [directories.workspace(), directories.home()] {
            bytes += Workspace::open(root)?.stats().await?.disk_bytes;
        }
        for place in &places {
            bytes += self.layer_bytes(place).await?;
        }
        Ok(bytes)
    }

    /// Gives what a container has written beside its image.
    async fn layer_bytes(&self, place: &Place) -> Result<u64, Error> {
        use bollard::errors::Error as E;
        let options = InspectContainerOptionsBuilder::new().size(true).build();
        match self.engine.inspect_container(&place.name(&self.options.installation), Some(options)).await {
            Ok(container) => Ok(container.size_rw.and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or(0)),
            Err(E::DockerResponseServerError { status_code: 404, .. }) => Ok(0),
            Err(err) => Err(Error::NoEngine(err)),
        }
    }

    fn is_nearly_full(&self) -> bool {
        match free_bytes(&self.options.data_dir) {
            Ok(free) => free < self.options.disk_reserve,
            Err(err) => {
                tracing::warn!(error = &err as &dyn std::error::Error, "cannot tell how full the disk is");
                false
            }
        }
    }
}

fn free_bytes(directory: &Path) -> io::Result<u64> {
    let stat = rustix::fs::statvfs(directory)?;
    Ok(stat.f_bavail * stat.f_frsize)
}
