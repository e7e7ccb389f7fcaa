//! Where answers wait until a test lets them go on.

use std::collections::HashSet;
use std::sync::Arc;

use tokio::sync::watch;

#[derive(Clone, Default)]
pub(crate) struct Gates(Arc<watch::Sender<State>>);

#[derive(Debug, Default)]
struct State {
    is_paused: bool,
    released: HashSet<String>,
    is_closing: bool,
}

impl Gates {
    pub(crate) fn pause(&self, is_paused: bool) {
        self.0.send_modify(|state| state.is_paused = is_paused);
    }

    pub(crate) fn release(&self, name: &str) {
        self.0.send_modify(|state| {
            state.released.insert(name.to_owned());
        });
    }

    pub(crate) fn close(&self) {
        self.0.send_modify(|state| state.is_closing = true);
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.0.borrow().is_paused
    }

    /// Waits while everything is paused, and for the named gate. False when the server stops meanwhile.
    pub(crate) async fn pass(&self, gate: Option<&str>) -> bool {
        let mut states = self.0.subscribe();
        let passed = states
            .wait_for(|state| {
                state.is_closing || (!state.is_paused && gate.is_none_or(|gate| state.released.contains(gate)))
            })
            .await;
        passed.is_ok_and(|state| !state.is_closing)
    }

    pub(crate) async fn wait_until_closing(&self) {
        // An error means the sender is gone, which is closing too.
        let _ = self.0.subscribe().wait_for(|state| state.is_closing).await;
    }
}
