//! A large file into a workspace and out of it, beside a copy of it by the machine itself.

use std::{
    fs::File,
    io::{Read, Write},
    path::Path,
    time::{Duration, Instant},
};

use anyhow::ensure;

use super::Bench;
use crate::{
    machine,
    report::Bound::{AtLeast, AtMost},
    samples::Samples,
};

const MIB: u64 = 1024 * 1024;
/// How often the server's memory is looked at.
const LOOK: Duration = Duration::from_millis(5);

impl Bench<'_> {
    pub(super) async fn files(&mut self, environment: &str) -> anyhow::Result<()> {
        let size = if self.is_quick { 8 * MIB } else { 1024 * MIB };
        let (mut up, mut down, mut copy, mut read) =
            (Samples::default(), Samples::default(), Samples::default(), Samples::default());
        let mut growth = Samples::default();
        let client = &self.system.client;
        // What a first use costs is not asked here either.
        client.upload(environment, "bench.bin", MIB).await?;
        let rate = |took: Duration| size as f64 / 1e6 / took.as_secs_f64();
        for _ in 0..self.count(3) {
            let place = self.system.data().join("bench-copy");
            let took = write(&place, size)?;
            copy.push(rate(took));
            read.push(rate(read_all(&place, size)?));
            std::fs::remove_file(&place)?;

            let before = machine::resident(self.system.pid());
            let watched = watch(self.system.pid(), async {
                up.push(rate(client.upload(environment, "bench.bin", size).await?));
                down.push(rate(client.download(environment, "bench.bin", size).await?));
                anyhow::Ok(())
            });
            let (moved, most) = watched.await;
            moved?;
            growth.push(most.saturating_sub(before) as f64 / MIB as f64);
        }
        let aim = || Some(("400 MB/s", AtLeast(400.0)));
        self.report.add("upload of 1 GB", "MB/s", &up, Some(("write and sync it", copy.median())), aim());
        self.report.add("download of 1 GB", "MB/s", &down, Some(("read it", read.median())), aim());
        self.report.add("memory for both", "MiB", &growth, None, Some(("16 MiB", AtMost(16.0))));
        Ok(())
    }
}

/// Does `work` and gives the most memory the process had meanwhile.
async fn watch<T>(pid: u32, work: impl Future<Output = T>) -> (T, u64) {
    let mut most = 0;
    let mut looks = tokio::time::interval(LOOK);
    tokio::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return (done, most),
            _ = looks.tick() => most = most.max(machine::resident(pid)),
        }
    }
}

fn write(path: &Path, size: u64) -> anyhow::Result<Duration> {
    let chunk = vec![7; MIB as usize];
    let began_at = Instant::now();
    let mut file = File::create(path)?;
    for _ in 0..size / MIB {
        file.write_all(&chunk)?;
    }
    file.sync_all()?;
    Ok(began_at.elapsed())
}

fn read_all(path: &Path, size: u64) -> anyhow::Result<Duration> {
    let mut chunk = vec![0; MIB as usize];
    let began_at = Instant::now();
    let mut file = File::open(path)?;
    let mut left = size;
    while left > 0 {
        let count = file.read(&mut chunk)?;
        ensure!(count > 0, "the file ended early");
        left -= count as u64;
    }
    Ok(began_at.elapsed())
}
