//! What the figures were measured on.

use std::fs;

use serde::Serialize;

/// A machine, as far as figures depend on it.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Machine {
    pub cores: usize,
    pub cpu: String,
    pub kernel: String,
    /// The load averages of one, five and fifteen minutes before anything was started.
    pub load_before: String,
}

impl Machine {
    pub(crate) fn look() -> Self {
        let cpus = read("/proc/cpuinfo");
        let model = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
        Self {
            cores: std::thread::available_parallelism().map_or(1, Into::into),
            cpu: model.map_or("unknown", |(_, model)| model.trim()).to_owned(),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            load_before: read("/proc/loadavg").split(' ').take(3).collect::<Vec<_>>().join(" "),
        }
    }
}

/// Gives the resident memory of a process in bytes.
pub(crate) fn resident(pid: u32) -> u64 {
    let status = read(&format!("/proc/{pid}/status"));
    let kilobytes = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().split(' ').next()?.parse().ok());
    kilobytes.unwrap_or(0) * 1024
}

/// Gives the memory of a process and its children in bytes, what they share counted once where the kernel tells.
pub(crate) fn resident_with_children(pid: u32) -> u64 {
    let children = fs::read_dir("/proc").into_iter().flatten().flatten().filter_map(|entry| {
        let child: u32 = entry.file_name().to_str()?.parse().ok()?;
        let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
        // The second field is the name in parentheses and may hold anything; the fourth is the parent.
        let parent: u32 = stat.rsplit(") ").next()?.split(' ').nth(1)?.parse().ok()?;
        (parent == pid).then_some(child)
    });
    children.chain([pid]).map(shared_once).sum()
}

fn shared_once(pid: u32) -> u64 {
    let rollup = read(&format!("/proc/{pid}/smaps_rollup"));
    let kilobytes: Option<u64> =
        rollup.lines().find_map(|line| line.strip_prefix("Pss:")?.trim().split(' ').next()?.parse().ok());
    kilobytes.map_or_else(|| resident(pid), |kilobytes| kilobytes * 1024)
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}
