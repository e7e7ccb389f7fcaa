//! How much more may be written to an environment's files.

use std::sync::{Arc, Mutex, MutexGuard};

use crate::Error;

/// Bytes that may still be written, shared by everybody who writes to the same files. Without a look there is no limit.
#[derive(Debug, Clone, Default)]
pub(crate) struct Room(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    left: Option<u64>,
    /// All that was ever taken.
    taken: u64,
}

impl Room {
    /// Begins a look at how much there is, which takes its time: what is taken meanwhile it may not see.
    pub(crate) fn begin_look(&self) -> u64 {
        self.state().taken
    }

    /// Ends the look that `begin_look` gave a number, with the bytes that it found to be left.
    pub(crate) fn end_look(&self, begun: u64, left: u64) {
        let mut state = self.state();
        let meanwhile = state.taken - begun;
        state.left = Some(left.saturating_sub(meanwhile));
    }

    /// Takes `bytes` of it, or nothing.
    ///
    /// # Errors
    /// `DiskLimit` when there is less.
    pub(super) fn take(&self, bytes: u64) -> Result<(), Error> {
        let mut state = self.state();
        if let Some(left) = state.left {
            state.left = Some(left.checked_sub(bytes).ok_or(Error::DiskLimit)?);
        }
        state.taken = state.taken.saturating_add(bytes);
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("nobody panics with this lock")
    }
}
