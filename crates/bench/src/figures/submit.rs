//! From a message to its stream and to the model, and from the model to who reads.

use anyhow::Context;

use super::{Bench, Task, between};
use crate::{
    report::Bound::AtMost,
    samples::{Samples, timed},
};

/// Frames of a reply before its first delta: the message's start, the block's start, a ping.
const FRAMES_BEFORE_DELTAS: usize = 3;
const DELTAS: usize = 50;
const DELTA_DELAY_MS: usize = 3;

impl Bench<'_> {
    pub(super) async fn submit(&mut self, environment: &str) -> anyhow::Result<()> {
        let (mut stream, mut model, mut commit) = (Samples::default(), Samples::default(), Samples::default());
        for _ in 0..self.count(100) {
            let done = self.work(environment, &Task { deltas: 1, ..Task::default() }).await?;
            let asked = self.exchanges(&done).remove(&0).context("the model was asked")?;
            between(&mut stream, done.seen.sent_at, done.seen.first_byte_at);
            between(&mut model, done.seen.sent_at, asked.body_at);
            for _ in 0..self.count(5) {
                timed(&mut commit, self.baselines.database.commit()).await?;
            }
        }
        let commit = commit.median();
        let aim = ("1 commit + 2 ms", AtMost(commit + 2.0));
        self.report.add("message to first byte of the stream", "ms", &stream, Some(("1 commit", commit)), Some(aim));
        let aim = ("2 commits + 3 ms", AtMost(2.0 * commit + 3.0));
        let baseline = Some(("2 commits", 2.0 * commit));
        self.report.add("message to the model's request, warm", "ms", &model, baseline, Some(aim));
        Ok(())
    }

    pub(super) async fn deltas(&mut self, environment: &str) -> anyhow::Result<()> {
        let mut passed = Samples::default();
        for _ in 0..self.count(4) {
            let task = Task { deltas: DELTAS, delay_ms: DELTA_DELAY_MS, ..Task::default() };
            let done = self.work(environment, &task).await?;
            let asked = self.exchanges(&done).remove(&0).context("the model was asked")?;
            let sent = asked.sent_at.iter().skip(FRAMES_BEFORE_DELTAS).take(DELTAS);
            let mut read = done.seen.times("response.content_part.delta");
            for sent_at in sent {
                between(&mut passed, *sent_at, read.next().context("every delta is shown")?);
            }
        }
        self.report.add("delta of the model to the client", "ms", &passed, None, Some(("2 ms", AtMost(2.0))));
        Ok(())
    }
}
