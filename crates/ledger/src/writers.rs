//! Who writes to a workspace at the moment, or did since it was last looked at.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use domain::{WorkspacePath, change::Author};

/// A run that makes calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Writer {
    pub author: Author,
    /// What its steps are called.
    pub title: String,
    /// What its calls say they write.
    pub named: BTreeSet<WorkspacePath>,
    /// Whether it makes calls that may write anything.
    pub may_write_all: bool,
}

/// A run's calls under way. Dropping it tells that they are over.
#[derive(Debug)]
#[must_use]
pub struct Working {
    writers: Arc<Writers>,
    number: u64,
}

impl Drop for Working {
    fn drop(&mut self) {
        for entry in &mut self.writers.lock().entries {
            entry.is_active &= entry.number != self.number;
        }
    }
}

/// The writers of one environment.
#[derive(Debug, Default)]
pub(crate) struct Writers {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    entries: Vec<Entry>,
    last: u64,
}

#[derive(Debug)]
struct Entry {
    number: u64,
    writer: Writer,
    is_active: bool,
}

/// Those who had stopped writing when a scan began: all that they did is in it.
pub(crate) struct Done(Vec<u64>);

impl Writers {
    pub(crate) fn begin(self: &Arc<Self>, writer: Writer) -> Working {
        let mut state = self.lock();
        state.last += 1;
        let number = state.last;
        state.entries.push(Entry { number, writer, is_active: true });
        Working { writers: Arc::clone(self), number }
    }

    pub(crate) fn done(&self) -> Done {
        Done(self.lock().entries.iter().filter(|entry| !entry.is_active).map(|entry| entry.number).collect())
    }

    /// Gives who may have written since the last time, each run once.
    pub(crate) fn all(&self) -> Vec<Writer> {
        let mut writers: Vec<Writer> = Vec::new();
        for Entry { writer, .. } in &self.lock().entries {
            match writers.iter_mut().find(|known| known.author == writer.author) {
                None => writers.push(writer.clone()),
                Some(known) => {
                    known.named.extend(writer.named.iter().cloned());
                    known.may_write_all |= writer.may_write_all;
                    known.title.clone_from(&writer.title);
                }
            }
        }
        writers
    }

    /// Forgets those whose work is written down.
    pub(crate) fn forget(&self, done: &Done) {
        self.lock().entries.retain(|entry| !done.0.contains(&entry.number));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.lock().entries.is_empty()
    }

    /// Nothing panics while it holds this lock.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
