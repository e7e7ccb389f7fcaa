//! A job of 20 calls: what a call costs beside what it must cost.

use anyhow::ensure;

use super::{Bench, Task, take_overheads};
use crate::{baseline::Costs, report::Bound::AtMost, samples::Samples};

const WRITES: usize = 10;
const BASHES: usize = 10;

impl Bench<'_> {
    pub(super) async fn job(&mut self, environment: &str) -> anyhow::Result<()> {
        let (mut bash, mut write, mut whole, mut costs) =
            (Samples::default(), Samples::default(), Samples::default(), Costs::default());
        for _ in 0..self.count(20) {
            let task = Task { writes: WRITES, bashes: BASHES, ..Task::default() };
            let done = self.work(environment, &task).await?;
            let exchanges = self.exchanges(&done);
            ensure!(exchanges.len() == WRITES + BASHES + 1, "the model was asked {} times", exchanges.len());
            take_overheads(&mut write, &exchanges, 0..WRITES);
            take_overheads(&mut bash, &exchanges, WRITES..WRITES + BASHES);
            let calls = (WRITES + BASHES) as f64;
            whole.push(calls / (done.seen.ended_at - done.seen.sent_at).as_secs_f64());
            self.baselines.sample(&mut costs, self.count(10)).await?;
        }
        let (exec, commit) = (costs.host_bash.median(), costs.commit.median());
        let needed = exec + 2.0 * commit;
        let aim = ("1.5 x (bash on the host + 2 commits)", AtMost(1.5 * needed));
        self.report.add("Bash call, model to next request", "ms", &bash, Some(("bash + 2 commits", needed)), Some(aim));
        let guest = costs.guest_bash.median() + 2.0 * commit;
        self.report.add(
            "the same, in terms of the sandbox",
            "ms",
            &bash,
            Some(("bash in it + 2 commits", guest)),
            None,
        );
        self.report.add("Write call, model to next request", "ms", &write, Some(("2 commits", 2.0 * commit)), None);
        self.report.add("one commit, one row", "ms", &costs.commit, None, None);
        self.report.add("bash on the host", "ms", &costs.host_bash, None, None);
        self.report.add("bash in a container, by us", "ms", &costs.guest_bash, Some(("bash on the host", exec)), None);
        let ours = ("by us", costs.guest_bash.median());
        self.report.add("bash in a container, by the engine", "ms", &costs.engine_bash, Some(ours), None);
        self.report.add("calls of one thread", "1/s", &whole, None, None);
        Ok(())
    }
}
