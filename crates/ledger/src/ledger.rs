//! The ledger of an installation, and what is kept in memory of each environment.

use std::{path::PathBuf, sync::Arc};

use dashmap::DashMap;
use domain::EnvironmentId;
use history::History;
use sandbox::Sandboxes;
use store::Store;
use tokio::sync::{Mutex, MutexGuard};

use crate::{Error, Options, Working, Writer, writers::Writers};

/// Writes down the past of environments and reads it. Cheap to clone.
#[derive(Clone)]
pub struct Ledger {
    pub(crate) store: Store,
    sandboxes: Sandboxes,
    options: Arc<Options>,
    desks: Arc<DashMap<EnvironmentId, Arc<Desk>>>,
}

/// Where the changes of one environment are written down, by one at a time.
#[derive(Debug, Default)]
struct Desk {
    turn: Mutex<()>,
    writers: Arc<Writers>,
}

/// The right to write down the changes of an environment.
pub(crate) struct Turn<'a> {
    pub(crate) environment: &'a EnvironmentId,
    pub(crate) writers: &'a Arc<Writers>,
    _guard: MutexGuard<'a, ()>,
}

/// Where the files of an environment and their past are.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) history: History,
    pub(crate) workspace: PathBuf,
}

impl Ledger {
    pub fn new(store: Store, sandboxes: Sandboxes, options: Options) -> Self {
        Self { store, sandboxes, options: options.into(), desks: Arc::default() }
    }

    /// Tells that a run is about to write to an environment.
    pub fn begin(&self, environment: &EnvironmentId, writer: Writer) -> Working {
        self.desk(environment).writers.begin(writer)
    }

    fn desk(&self, environment: &EnvironmentId) -> Arc<Desk> {
        // Those of which nobody holds anything would only be made again.
        if self.desks.len() > 1000 {
            self.desks.retain(|_, desk| Arc::strong_count(desk) > 1 || !desk.writers.is_empty());
        }
        self.desks.entry(environment.clone()).or_default().clone()
    }

    /// Does `work` when it is the turn of whoever asks, and nobody else's.
    ///
    /// The turn is kept while files are read and rows are written: that is what it is for. It is kept in no other call.
    pub(crate) async fn in_turn<T>(
        &self,
        environment: &EnvironmentId,
        work: impl AsyncFnOnce(Turn<'_>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let desk = self.desk(environment);
        let turn = Turn { environment, writers: &desk.writers, _guard: desk.turn.lock().await };
        work(turn).await
    }

    /// Does blocking work on the files of an environment.
    pub(crate) async fn at<T: Send + 'static>(
        &self,
        environment: &EnvironmentId,
        work: impl FnOnce(&Place) -> Result<T, history::Error> + Send + 'static,
    ) -> Result<T, Error> {
        let (sandboxes, options, environment) = (self.sandboxes.clone(), self.options.clone(), environment.clone());
        let done = tokio::task::spawn_blocking(move || {
            let directories = sandboxes.directories(&environment).map_err(Error::Workspace)?;
            let history = History::open(directories.history, (*options).clone())?;
            Ok(work(&Place { history, workspace: directories.workspace })?)
        });
        done.await.map_err(Error::CutOff)?
    }
}
