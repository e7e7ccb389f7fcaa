//! Hints between the parts of one process: "look again", and the deltas that only those who watch now can see.
//!
//! A hint is never data: losing one costs a moment (everybody polls slowly as well), never an event. Register before
//! you read, so that what lands in between wakes you.

use std::sync::Arc;

use dashmap::DashMap;
use domain::{QuestionId, RunId, ThreadId, event::Delta};
use tokio::sync::{Notify, broadcast, watch};

/// Deltas kept for a reader that is behind. What falls out is repeated by the finished item.
const DELTA_BACKLOG: usize = 1024;

/// Where hints are sent and awaited.
#[derive(Default)]
pub struct Hub {
    threads: DashMap<ThreadId, Arc<Channel>>,
    work: Notify,
    cancels: DashMap<RunId, Arc<Notify>>,
    questions: Notify,
    builds: Notify,
    answers: DashMap<QuestionId, broadcast::Sender<Piece>>,
}

/// A piece of an answer on its way, or that the answer can be read now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    Text(String),
    End,
}

struct Channel {
    sequence: watch::Sender<i64>,
    deltas: broadcast::Sender<Sent>,
}

/// A delta and the number of the newest event before it.
#[derive(Debug, Clone)]
pub(crate) struct Sent {
    pub run: RunId,
    pub after: i64,
    pub delta: Delta,
}

impl Hub {
    /// Wakes those who claim runs.
    pub fn hint_work(&self) {
        self.work.notify_one();
    }

    /// Waits until a run may be there to claim. One hint sent before the call counts.
    pub async fn work(&self) {
        self.work.notified().await;
    }

    /// Wakes the thread's readers: its events now reach up to `sequence`.
    pub(crate) fn hint_events(&self, thread: &ThreadId, sequence: i64) {
        if let Some(channel) = self.threads.get(thread) {
            channel.sequence.send_if_modified(|newest| {
                let is_newer = sequence > *newest;
                *newest = sequence.max(*newest);
                is_newer
            });
        }
    }

    /// Shows a delta to those who read the thread now. `after` is the newest event that the sender has committed.
    pub fn send_delta(&self, thread: &ThreadId, run: &RunId, after: i64, delta: Delta) {
        if let Some(channel) = self.threads.get(thread) {
            // No receiver is no error: the reader left between the two lines.
            let _ = channel.deltas.send(Sent { run: run.clone(), after, delta });
        }
    }

    /// Tells whether anybody reads the thread now, so that a delta need not be made for nobody.
    pub fn is_watched(&self, thread: &ThreadId) -> bool {
        self.threads.contains_key(thread)
    }

    pub(crate) fn watch(self: &Arc<Self>, thread: &ThreadId) -> Watch {
        // The entry's lock is held from look-up to subscription, so a channel is not dropped in between.
        let channel = self.threads.entry(thread.clone()).or_insert_with(|| {
            Arc::new(Channel { sequence: watch::Sender::new(0), deltas: broadcast::Sender::new(DELTA_BACKLOG) })
        });
        let (sequence, deltas) = (channel.sequence.subscribe(), channel.deltas.subscribe());
        drop(channel);
        Watch { sequence, deltas, _registration: Registration { hub: self.clone(), thread: thread.clone() } }
    }

    /// Asks the worker that drives the run here to look whether it shall stop.
    pub(crate) fn hint_cancel(&self, run: &RunId) {
        if let Some(cancel) = self.cancels.get(run) {
            cancel.notify_one();
        }
    }

    /// Registers interest in the run's cancellation until the value is dropped.
    pub fn cancels(self: &Arc<Self>, run: &RunId) -> CancelHints {
        let notify = self.cancels.entry(run.clone()).or_default().clone();
        CancelHints { hub: self.clone(), run: run.clone(), notify }
    }
}

/// Builds of images.
impl Hub {
    /// Wakes those who claim builds.
    pub(crate) fn hint_builds(&self) {
        self.builds.notify_one();
    }

    /// Waits until a build may be there to claim. One hint sent before the call counts.
    pub async fn builds(&self) {
        self.builds.notified().await;
    }
}

/// Side questions: who may answer one, and who waits for an answer.
impl Hub {
    /// Wakes those who claim side questions.
    pub(crate) fn hint_questions(&self) {
        self.questions.notify_one();
    }

    /// Waits until a side question may be there to claim. One hint sent before the call counts.
    pub async fn questions(&self) {
        self.questions.notified().await;
    }

    pub(crate) fn send_answer(&self, question: &QuestionId, text: String) {
        if let Some(answer) = self.answers.get(question) {
            let _ = answer.send(Piece::Text(text));
        }
    }

    pub(crate) fn end_answer(&self, question: &QuestionId) {
        if let Some(answer) = self.answers.get(question) {
            let _ = answer.send(Piece::End);
        }
    }

    pub(crate) fn answers(self: &Arc<Self>, question: &QuestionId) -> Answers {
        let entry = self.answers.entry(question.clone()).or_insert_with(|| broadcast::Sender::new(DELTA_BACKLOG));
        let pieces = entry.subscribe();
        drop(entry);
        Answers { pieces, hub: self.clone(), question: question.clone() }
    }
}

/// The pieces of an answer, for one who waits for it.
pub struct Answers {
    pieces: broadcast::Receiver<Piece>,
    hub: Arc<Hub>,
    question: QuestionId,
}

impl Answers {
    /// Waits for the next piece. Pieces may be lost, the end too: whoever waits looks at the row now and then.
    pub async fn next(&mut self) -> Piece {
        loop {
            match self.pieces.recv().await {
                Ok(piece) => return piece,
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return Piece::End,
            }
        }
    }
}

impl Drop for Answers {
    fn drop(&mut self) {
        // This receiver still counts.
        self.hub.answers.remove_if(&self.question, |_, answer| answer.receiver_count() <= 1);
    }
}

/// A reader's registration.
pub(crate) struct Watch {
    pub sequence: watch::Receiver<i64>,
    pub deltas: broadcast::Receiver<Sent>,
    // Last: dropped after the receivers, so that it sees whether they were the last ones.
    _registration: Registration,
}

struct Registration {
    hub: Arc<Hub>,
    thread: ThreadId,
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.hub.threads.remove_if(&self.thread, |_, channel| channel.sequence.receiver_count() == 0);
    }
}

/// Hints that a run shall look whether it was cancelled.
pub struct CancelHints {
    hub: Arc<Hub>,
    run: RunId,
    notify: Arc<Notify>,
}

impl CancelHints {
    /// Waits for the next hint.
    pub async fn next(&self) {
        self.notify.notified().await;
    }
}

impl Drop for CancelHints {
    fn drop(&mut self) {
        self.hub.cancels.remove(&self.run);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_thread_nobody_reads_takes_no_memory() {
        let hub = Arc::new(Hub::default());
        let thread = ThreadId::generate();
        let (first, mut second) = (hub.watch(&thread), hub.watch(&thread));
        drop(first);
        assert!(hub.is_watched(&thread));
        hub.hint_events(&thread, 3);
        second.sequence.changed().await.expect("the channel is open");
        assert_eq!(*second.sequence.borrow(), 3);
        drop(second);
        assert!(!hub.is_watched(&thread));
    }

    #[tokio::test]
    async fn a_hint_for_work_before_the_wait_is_not_lost() {
        let hub = Hub::default();
        hub.hint_work();
        hub.work().await;
    }
}
