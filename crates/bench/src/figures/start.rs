//! From an environment to the first call done in it, beside the engine's own create and start.

use anyhow::Context;

use super::{Bench, Task, between};
use crate::{report::Bound::AtMost, samples::Samples};

impl Bench<'_> {
    pub(super) async fn cold_start(&mut self) -> anyhow::Result<()> {
        let (mut cold, mut warm, mut engine) = (Samples::default(), Samples::default(), Samples::default());
        let task = Task { bashes: 1, ..Task::default() };
        for _ in 0..self.count(12) {
            let environment = self.system.client.environment().await?;
            for samples in [&mut cold, &mut warm] {
                let seen = self.work(&environment, &task).await?.seen;
                let done_at = seen.times("response.item.completed").next().context("a call was done")?;
                between(samples, seen.sent_at, done_at);
            }
            self.baselines.create_and_start(&mut engine).await?;
        }
        let baseline = ("create + start", engine.median());
        let aim = || Some(("1.2 x create + start", AtMost(1.2 * engine.median())));
        self.report.add("message to first call done, cold", "ms", &cold, Some(baseline), aim());
        self.report.add("message to first call done, warm", "ms", &warm, Some(baseline), aim());
        self.report.add("create and start, by the engine", "ms", &engine, None, None);
        Ok(())
    }
}
