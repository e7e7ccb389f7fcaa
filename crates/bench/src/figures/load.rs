//! Many threads at once: what they get done, and what they take.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use futures::future::try_join_all;
use store::postgres::Socket;

use super::{Bench, Task};
use crate::{
    machine,
    report::Bound::{AtLeast, AtMost},
    samples::Samples,
};

const THREADS: usize = 32;
const ENVIRONMENTS: usize = 4;
const MEBIBYTE: f64 = 1024.0 * 1024.0;
const WAIT: Duration = Duration::from_secs(60);

const JOB: Task = Task { writes: 10, bashes: 10, deltas: 0, delay_ms: 0 };

impl Bench<'_> {
    pub(super) fn idle_memory(&mut self) {
        let mut idle = Samples::default();
        idle.push(machine::resident(self.system.pid()) as f64 / MEBIBYTE);
        self.report.add("memory of an idle server", "MiB", &idle, None, Some(("60 MiB", AtMost(60.0))));
    }

    /// What runs take in the middle of their work, while the model lets them wait.
    pub(super) async fn memory_of_runs(&mut self) -> anyhow::Result<()> {
        let environments = self.warm_environments().await?;
        let (mut each, mut whole, mut postgres) = (Samples::default(), Samples::default(), Samples::default());
        let before = machine::resident(self.system.pid());
        let (pid, model) = (self.system.pid(), &self.system.model);
        let already = model.timings().len();
        let waiting = async {
            // Some calls in, where buffers have their size.
            self.wait_for(|| model.timings().len() >= already + THREADS * 4).await?;
            model.pause();
            let unanswered = || model.timings()[already..].iter().filter(|timing| timing.sent_at.is_empty()).count();
            self.wait_for(|| unanswered() == THREADS).await?;
            let during = machine::resident(pid);
            each.push(during.saturating_sub(before) as f64 / MEBIBYTE / THREADS as f64);
            whole.push(during as f64 / MEBIBYTE);
            postgres.push(machine::resident_with_children(self.postgres()?) as f64 / MEBIBYTE);
            model.resume();
            anyhow::Ok(())
        };
        futures::try_join!(self.jobs(&environments), waiting)?;
        let aim = Some(("1 MiB", AtMost(1.0)));
        self.report.add("memory of one of 32 running threads", "MiB", &each, None, aim);
        self.report.add("memory of the server with 32 of them", "MiB", &whole, None, None);
        self.report.add("memory of its Postgres meanwhile", "MiB", &postgres, None, None);
        Ok(())
    }

    pub(super) async fn threads(&mut self) -> anyhow::Result<()> {
        let environments = self.warm_environments().await?;
        let (mut one, mut many) = (Samples::default(), Samples::default());
        for _ in 0..self.count(5) {
            let began_at = Instant::now();
            self.work(&environments[0], &JOB).await?;
            one.push((JOB.writes + JOB.bashes) as f64 / began_at.elapsed().as_secs_f64());
            let began_at = Instant::now();
            self.jobs(&environments).await?;
            many.push((THREADS * (JOB.writes + JOB.bashes)) as f64 / began_at.elapsed().as_secs_f64());
        }
        let aim = Some(("400", AtLeast(400.0)));
        self.report.add("calls over 32 threads", "1/s", &many, Some(("1 thread", one.median())), aim);
        Ok(())
    }

    /// A job in each of [`THREADS`] threads at once.
    async fn jobs(&self, environments: &[String]) -> anyhow::Result<()> {
        let jobs = (0..THREADS).map(|at| self.work(&environments[at % environments.len()], &JOB));
        try_join_all(jobs).await.map(drop)
    }

    async fn warm_environments(&self) -> anyhow::Result<Vec<String>> {
        let environments = try_join_all((0..ENVIRONMENTS).map(|_| self.system.client.environment())).await?;
        for environment in &environments {
            self.work(environment, &Task { bashes: 1, ..Task::default() }).await?;
        }
        Ok(environments)
    }

    async fn wait_for(&self, is_so: impl Fn() -> bool) -> anyhow::Result<()> {
        let began_at = Instant::now();
        while !is_so() {
            ensure!(began_at.elapsed() < WAIT, "what was waited for did not come");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    fn postgres(&self) -> anyhow::Result<u32> {
        let data = self.system.data();
        Socket::find(data)?.context("Postgres runs")?;
        let pid = std::fs::read_to_string(data.join("postgres/data/postmaster.pid"))?;
        Ok(pid.lines().next().unwrap_or_default().trim().parse()?)
    }
}
