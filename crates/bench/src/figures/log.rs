//! What the store writes a second, and whether a thread gets slower as it grows.

use std::time::Duration;

use super::{Bench, Task, between, take_overheads};
use crate::{
    database::WRITERS,
    report::Bound::{AtLeast, AtMost},
    samples::Samples,
};

/// Events in one checkpoint where a reply and its calls come together.
const TOGETHER: usize = 8;

impl Bench<'_> {
    pub(super) async fn events(&mut self) -> anyhow::Result<()> {
        let (mut single, mut together, mut rows) = (Samples::default(), Samples::default(), Samples::default());
        let duration = Duration::from_millis(if self.is_quick { 50 } else { 1000 });
        let mut writers = self.baselines.database.writers().await?;
        for _ in 0..self.count(5) {
            rows.push(self.baselines.database.commits_per_second(duration).await?);
            single.push(writers.events_per_second(1, duration).await?);
            together.push(writers.events_per_second(TOGETHER, duration).await?);
        }
        writers.close().await;
        let baseline = Some(("one commit each", rows.median()));
        let aim = || Some(("5,000", AtLeast(5000.0)));
        let name = format!("durable events, {WRITERS} runs, {TOGETHER} a checkpoint");
        self.report.add(name, "1/s", &together, baseline, aim());
        self.report.add(format!("durable events, {WRITERS} runs, 1 a checkpoint"), "1/s", &single, baseline, aim());
        Ok(())
    }

    pub(super) async fn long_thread(&mut self, environment: &str) -> anyhow::Result<()> {
        let turns = if self.is_quick { 20 } else { 505 };
        let last = turns - 5;
        let (mut early, mut late, mut next) = (Samples::default(), Samples::default(), Samples::default());
        let (mut fresh, task) = (Samples::default(), Task { bashes: turns, ..Task::default() });
        for _ in 0..self.count(4) {
            let thread = self.system.client.thread(environment).await?;
            let message = task.message();
            let seen = self.system.client.run(&thread, &message).await?;
            let exchanges = self.exchanges(&super::Done { seen, message });
            take_overheads(&mut early, &exchanges, 2..9);
            take_overheads(&mut late, &exchanges, last - 4..last + 3);
            // A new message there reads all of it back.
            for (samples, thread) in [(&mut next, thread), (&mut fresh, self.system.client.thread(environment).await?)]
            {
                for _ in 0..self.count(3) {
                    let message = Task { deltas: 1, ..Task::default() }.message();
                    let seen = self.system.client.run(&thread, &message).await?;
                    let sent_at = seen.sent_at;
                    if let Some(asked) = self.exchanges(&super::Done { seen, message }).get(&0) {
                        between(samples, sent_at, asked.body_at);
                    }
                }
            }
        }
        let baseline = Some(("turn 5", early.median()));
        let aim = Some(("1.5 x turn 5", AtMost(1.5 * early.median())));
        self.report.add(format!("Bash call in turn {last} of a thread"), "ms", &late, baseline, aim);
        let baseline = Some(("in a new thread", fresh.median()));
        self.report.add("message to the model's request there", "ms", &next, baseline, None);
        Ok(())
    }
}
