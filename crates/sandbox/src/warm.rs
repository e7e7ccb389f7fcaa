//! Containers that run before anybody needs them.
//!
//! Starting a container takes the engine a quarter of a second; giving one away that waits takes two mounts and a new name.
//! A warm container is made like a standard environment's on the default image, one kind with internet and one without,
//! in a [bay](bays) in place of an environment's directories. It serves the one environment that it is given to and is
//! never given back. Those of an earlier process are not taken over: nobody knows what was half done with them.

pub(crate) mod bays;

use std::{
    collections::HashSet,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bollard::{
    models::ContainerUpdateBody,
    query_parameters::{CreateContainerOptionsBuilder, RenameContainerOptionsBuilder},
};
use domain::EnvironmentId;
use tokio::{
    sync::Notify,
    time::{Instant, sleep},
};
use uuid::Uuid;

use self::bays::{Bay, Bays};
use crate::{
    Error, Network, Options, Sandbox, Sandboxes, Spec, container,
    directories::Directories,
    guest::Guest,
    place::Place,
    sandboxes::{Inner, PING_LIMIT},
    slot::Slot,
};

/// How often to look whether those that wait are still as they should be.
const EVERY: Duration = Duration::from_secs(30);

/// The containers that wait, and where.
pub(crate) struct Pool {
    pub(crate) bays: Bays,
    /// How many of each kind.
    size: usize,
    /// Marks those of this process.
    mark: String,
    state: Mutex<State>,
    taken: Notify,
}

#[derive(Default)]
struct State {
    ready: Vec<Ready>,
    /// Bays of containers that are being made, wait, or are being given away.
    bays: HashSet<String>,
}

/// A container that waits.
pub(crate) struct Ready {
    bay: Bay,
    container: String,
    network: Network,
    /// What it was made from.
    hash: String,
}

impl Pool {
    pub(crate) fn new(options: &Options) -> Self {
        Self {
            bays: Bays::new(&options.data_dir),
            size: options.warm,
            mark: Uuid::new_v4().simple().to_string(),
            state: Mutex::default(),
            taken: Notify::new(),
        }
    }

    /// Takes one out, if there is one that was made from this.
    pub(crate) fn take(&self, network: Network, hash: &str) -> Option<Ready> {
        let mut state = self.state();
        let at = state.ready.iter().position(|ready| ready.network == network && ready.hash == hash)?;
        let ready = state.ready.swap_remove(at);
        self.taken.notify_one();
        Some(ready)
    }

    /// Tells whether a container that is no environment's is one of ours, and so to be let alone.
    pub(crate) fn is_waiting(&self, bay: Option<&str>, mark: Option<&str>) -> bool {
        mark == Some(self.mark.as_str()) && bay.is_some_and(|bay| self.state().bays.contains(bay))
    }

    /// Lists the bays in which nothing of this process waits.
    pub(crate) fn unheld(&self) -> Vec<Bay> {
        let mut bays = self.bays.list().unwrap_or_default();
        let state = self.state();
        bays.retain(|bay| !state.bays.contains(&bay.id));
        bays
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sandboxes {
    /// Keeps as many containers waiting as the options say, until dropped. Without any to keep, it ends at once.
    pub async fn keep_warm(&self) {
        let pool = &self.inner.pool;
        if pool.size == 0 {
            return;
        }
        loop {
            if let Err(err) = self.inner.fill_pool().await {
                tracing::warn!(error = &err as &dyn std::error::Error, "cannot keep containers waiting");
                sleep(EVERY).await;
            }
            tokio::select! {
                () = pool.taken.notified() => {}
                () = sleep(EVERY) => {}
            }
        }
    }

    /// How many containers wait to be given to an environment.
    pub fn warm(&self) -> usize {
        self.inner.pool.state().ready.len()
    }
}

impl Inner {
    /// Removes what nobody would be given any more, and makes what is missing.
    async fn fill_pool(&self) -> Result<(), Error> {
        self.pool.bays.prepare().map_err(|err| Error::other("cannot mount a directory for warm containers", err))?;
        for network in [Network::None, Network::Open] {
            let spec = Self::warm_spec(network);
            let hash = self.standard_hash(&spec, &self.image_id(&spec).await?);
            for stale in self.stale(network, &hash).await {
                self.discard(&stale.bay, Some(&stale.container)).await;
            }
            loop {
                let ready = self.pool.state().ready.iter().filter(|ready| ready.network == network).count();
                if ready >= self.pool.size {
                    break;
                }
                let made = self.make_warm(&spec, &hash).await?;
                self.pool.state().ready.push(made);
            }
        }
        Ok(())
    }

    /// What a warm container is made from: what a standard environment is that asks for nothing. Its id is nobody's.
    fn warm_spec(network: Network) -> Spec {
        Spec {
            environment: EnvironmentId::generate(),
            image: None,
            built: None,
            network,
            limits: None,
            env: Vec::new(),
        }
    }

    /// Takes out those that were made from something else, or have ended.
    async fn stale(&self, network: Network, hash: &str) -> Vec<Ready> {
        let all: Vec<(String, Guest)> = {
            let state = self.pool.state();
            let of_kind = state.ready.iter().filter(|ready| ready.network == network && ready.hash == hash);
            of_kind
                .filter_map(|ready| Some((ready.bay.id.clone(), Guest::new(&ready.bay.directories.run).ok()?)))
                .collect()
        };
        let mut well = HashSet::new();
        for (bay, guest) in all {
            if guest.ping(PING_LIMIT).await.is_ok() {
                well.insert(bay);
            }
        }
        let mut state = self.pool.state();
        let (stale, kept) = std::mem::take(&mut state.ready)
            .into_iter()
            .partition(|ready| ready.network == network && !well.contains(&ready.bay.id));
        state.ready = kept;
        stale
    }

    async fn make_warm(&self, spec: &Spec, hash: &str) -> Result<Ready, Error> {
        let bay = self.pool.bays.make(&self.options.user).map_err(|err| Error::other("cannot make a bay", err))?;
        self.pool.state().bays.insert(bay.id.clone());
        let mut container = None;
        match self.start_warm(spec, hash, &bay, &mut container).await {
            Ok(()) => {
                let container = container.expect("what was started was made");
                Ok(Ready { bay, container, network: spec.network, hash: hash.to_owned() })
            }
            Err(err) => {
                self.discard(&bay, container.as_deref()).await;
                Err(err)
            }
        }
    }

    async fn start_warm(&self, spec: &Spec, hash: &str, bay: &Bay, made: &mut Option<String>) -> Result<(), Error> {
        let network = self.network(spec).await?;
        let body = container::body(&self.options, spec, self.limits(spec), &bay.directories, &network, hash);
        let body = container::in_bay(body, &bay.id, &self.pool.mark);
        let name = format!("atelier-{}.warm.{}", self.options.installation, bay.id);
        let options = CreateContainerOptionsBuilder::new().name(&name).build();
        let created = self.engine.create_container(Some(options), body).await;
        let id = created.map_err(|err| Error::other("cannot create a warm container", err))?.id;
        *made = Some(id.clone());
        let _start = self.starts.acquire().await.expect("the semaphore is never closed");
        let deadline = Instant::now() + self.options.start_deadline;
        let started = self.engine.start_container(&id, None).await;
        started.map_err(|err| Error::other("cannot start a warm container", err))?;
        let run = &bay.directories.run;
        let guest = Guest::new(run).map_err(|err| Error::other(format!("cannot open '{}'", run.display()), err))?;
        while guest.ping(PING_LIMIT).await.is_err() {
            if Instant::now() > deadline {
                return Err(Error::other("a warm container does not come up", self.log(&id).await));
            }
            sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    /// Makes a container that waited that of an environment. The caller holds the slot. Should it fail, the container is
    /// gone, and one is to be started as if there had been none.
    pub(crate) async fn hand_out(
        &self,
        ready: Ready,
        spec: &Spec,
        slot: &Slot,
        directories: &Directories,
    ) -> Option<Sandbox> {
        match self.try_hand_out(&ready, spec, slot, directories).await {
            Ok(sandbox) => {
                self.pool.state().bays.remove(&ready.bay.id);
                Some(sandbox)
            }
            Err(err) => {
                tracing::warn!(error = &err as &dyn std::error::Error, "cannot use a container that waited");
                self.discard(&ready.bay, Some(&ready.container)).await;
                None
            }
        }
    }

    async fn try_hand_out(
        &self,
        ready: &Ready,
        spec: &Spec,
        slot: &Slot,
        directories: &Directories,
    ) -> Result<Sandbox, Error> {
        let (limits, made_with) = (self.limits(spec), self.limits(&Self::warm_spec(spec.network)));
        if limits != made_with {
            let update = ContainerUpdateBody {
                memory: Some(limits.memory_bytes as i64),
                memory_swap: Some(limits.memory_bytes as i64),
                nano_cpus: Some((limits.cpus * 1e9) as i64),
                pids_limit: Some(i64::from(limits.pids)),
                ..Default::default()
            };
            let updated = self.engine.update_container(&ready.container, update).await;
            updated.map_err(|err| Error::other("cannot set the limits of a warm container", err))?;
        }
        ready.bay.give_to(directories).map_err(|err| Error::other("cannot mount files into a warm container", err))?;
        let place = Place::of(spec);
        // The name last: from now on it is the environment's for everybody, and everything in it is.
        let name = RenameContainerOptionsBuilder::new().name(&place.name(&self.options.installation)).build();
        let renamed = self.engine.rename_container(&ready.container, name).await;
        renamed.map_err(|err| Error::other("cannot name a warm container", err))?;
        let sandbox = self.sandbox(&place, &ready.container, slot)?;
        sandbox.ping(PING_LIMIT).await?;
        Ok(sandbox)
    }

    /// Removes a container that nobody will be given, and its bay.
    async fn discard(&self, bay: &Bay, container: Option<&str>) {
        if let Some(container) = container
            && let Err(err) = self.delete(container).await
        {
            // Out of our hands, and so the reconciler's.
            tracing::warn!(error = &err as &dyn std::error::Error, "cannot remove a warm container");
        } else if let Err(err) = bay.clear() {
            tracing::warn!(error = &err as &dyn std::error::Error, "cannot remove a bay");
        }
        self.pool.state().bays.remove(&bay.id);
    }

    /// Brings the files of an environment back into the bay of its container, before that is started again. True also if
    /// the container has none.
    pub(crate) fn attach_bay(&self, bay: Option<&String>, directories: &Directories) -> bool {
        let Some(bay) = bay else { return true };
        let attached = self.pool.bays.prepare().and_then(|()| self.pool.bays.bay(bay).attach(directories));
        attached.inspect_err(|err| tracing::warn!("cannot mount files into a container's bay: {err}")).is_ok()
    }
}

/// Removes those of `bays` that no container uses.
pub(crate) fn clear(bays: &[Bay], used: &HashSet<String>) {
    for bay in bays.iter().filter(|bay| !used.contains(&bay.id)) {
        if let Err(err) = bay.clear() {
            tracing::warn!(bay = bay.id, "cannot remove a bay: {err}");
        }
    }
}
