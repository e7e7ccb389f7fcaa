//! Pid 1's duty: whatever ends as a child of ours is waited for at once, so no zombie ever takes a process slot.
//!
//! And a supervisor that somebody stopped is set going again, or the end of its command would never be known.

use std::{cell::RefCell, collections::HashMap};

use rustix::process::{Signal, WaitOptions, WaitStatus, wait};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::oneshot,
};

use crate::processes::signal as send;

/// Waits for every child; tells those who asked about a pid how it ended.
#[derive(Default)]
pub(crate) struct Reaper {
    asked: RefCell<HashMap<i32, oneshot::Sender<WaitStatus>>>,
}

impl Reaper {
    /// Reaps until the daemon ends.
    pub(crate) async fn run(&self, is_supervisor: impl Fn(i32) -> bool) -> std::io::Result<()> {
        let mut child_ended = signal(SignalKind::child())?;
        loop {
            // Signals are merged: one may stand for many ends.
            while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG | WaitOptions::UNTRACED) {
                let pid = pid.as_raw_nonzero().get();
                if status.stopped() {
                    if is_supervisor(pid) {
                        send(pid, Signal::CONT);
                    }
                } else if let Some(asker) = self.asked.borrow_mut().remove(&pid) {
                    // The asker may have lost interest.
                    let _ = asker.send(status);
                }
            }
            child_ended.recv().await;
        }
    }

    /// Asks to hear how `pid` ends, in case it becomes our child (its supervisor was killed).
    pub(crate) fn ask(&self, pid: i32) -> oneshot::Receiver<WaitStatus> {
        let (sender, receiver) = oneshot::channel();
        self.asked.borrow_mut().insert(pid, sender);
        receiver
    }

    /// Takes the question back.
    pub(crate) fn forget(&self, pid: i32) {
        self.asked.borrow_mut().remove(&pid);
    }
}
