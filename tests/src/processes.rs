//! The processes of an installation, found by where they work and how they were called.

use std::{
    fs,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

/// Lists the processes that work in `directory` or were called with it, as `pid command line`.
///
/// The test's own process is not among them.
pub(crate) fn of(directory: &Path) -> Vec<String> {
    let needle = directory.as_os_str().as_bytes();
    let processes = fs::read_dir("/proc").expect("there is /proc").flatten().filter_map(|entry| {
        let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
        let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let works_in = fs::read_link(entry.path().join("cwd")).unwrap_or_else(|_| PathBuf::new());
        let is_ours = works_in.starts_with(directory) || command.windows(needle.len()).any(|part| part == needle);
        (is_ours && pid != std::process::id())
            .then(|| format!("{pid} {}", String::from_utf8_lossy(&command).replace('\0', " ")))
    });
    processes.collect()
}

/// Lists the processes of this machine, those in containers included, that were called with `word`.
pub fn holding(word: &str) -> Vec<String> {
    let processes = fs::read_dir("/proc").expect("there is /proc").flatten().filter_map(|entry| {
        let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
        let command = fs::read(entry.path().join("cmdline")).ok()?;
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        command.contains(word).then(|| format!("{pid} {command}"))
    });
    processes.collect()
}
