//! How much memory a process holds.

use std::fs;

/// In bytes; what is shared with other processes included.
#[derive(Debug, Clone, Copy)]
pub struct Memory {
    pub now: u64,
    pub peak: u64,
}

impl Memory {
    pub(crate) fn of(pid: u32) -> Self {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process runs");
        let kilobytes = |field: &str| -> u64 {
            let line = status.lines().find_map(|line| line.strip_prefix(field)).expect("a process has memory");
            line.trim_start_matches(':').trim().trim_end_matches(" kB").parse().expect("a number")
        };
        Self { now: kilobytes("VmRSS") * 1024, peak: kilobytes("VmHWM") * 1024 }
    }
}
