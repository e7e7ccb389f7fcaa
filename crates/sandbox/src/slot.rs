//! What this process knows of one container.

use std::{
    sync::{
        Arc, RwLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use chrono::{DateTime, Utc};
use tokio::{sync::Mutex, time::Instant};

use crate::{Limits, Sandbox, Spec};

/// What is known of one place. Whoever changes its container holds `changing`.
#[derive(Default)]
pub(crate) struct Slot {
    pub(crate) changing: Arc<Mutex<()>>,
    running: RwLock<Option<(Spec, Sandbox)>>,
    pub(crate) uses: Arc<Uses>,
}

impl Slot {
    /// The running container, whatever it was made from.
    pub(crate) fn running(&self) -> Option<Sandbox> {
        let running = self.running.read().expect("nobody panics with this lock");
        running.as_ref().map(|(_, sandbox)| sandbox.clone()).filter(|sandbox| !sandbox.is_gone())
    }

    /// The running container if it was made from `spec`.
    pub(crate) fn running_as(&self, spec: &Spec) -> Option<Sandbox> {
        let running = self.running.read().expect("nobody panics with this lock");
        let (_, sandbox) = running.as_ref().filter(|(its, sandbox)| its == spec && !sandbox.is_gone())?;
        Some(sandbox.clone())
    }

    /// What the running container may use, if one runs; `None` in it stands for a computer of the standard size.
    pub(crate) fn limits(&self) -> Option<Option<Limits>> {
        let running = self.running.read().expect("nobody panics with this lock");
        running.as_ref().filter(|(_, sandbox)| !sandbox.is_gone()).map(|(spec, _)| spec.limits)
    }

    pub(crate) fn set_running(&self, running: Option<(Spec, Sandbox)>) {
        *self.running.write().expect("nobody panics with this lock") = running;
    }
}

/// How a container is being used, as far as this process knows; after a restart, use begins with the first look.
#[derive(Debug)]
pub(crate) struct Uses {
    last: RwLock<(Instant, DateTime<Utc>)>,
    commands: AtomicUsize,
}

impl Default for Uses {
    fn default() -> Self {
        Self { last: RwLock::new((Instant::now(), Utc::now())), commands: AtomicUsize::new(0) }
    }
}

impl Uses {
    pub(crate) fn touch(&self) {
        *self.last.write().expect("nobody panics with this lock") = (Instant::now(), Utc::now());
    }

    pub(crate) fn last_used_at(&self) -> DateTime<Utc> {
        self.last.read().expect("nobody panics with this lock").1
    }

    /// For how long nothing has been asked of the container; zero while a command runs.
    pub(crate) fn idle(&self) -> Duration {
        match self.commands.load(Ordering::Relaxed) {
            0 => self.last.read().expect("nobody panics with this lock").0.elapsed(),
            _ => Duration::ZERO,
        }
    }

    /// Counts a command until the guard is dropped.
    pub(crate) fn command(self: &Arc<Self>) -> InUse {
        self.commands.fetch_add(1, Ordering::Relaxed);
        InUse(Arc::clone(self))
    }
}

#[derive(Debug)]
pub(crate) struct InUse(Arc<Uses>);

impl Drop for InUse {
    fn drop(&mut self) {
        self.0.touch();
        self.0.commands.fetch_sub(1, Ordering::Relaxed);
    }
}
