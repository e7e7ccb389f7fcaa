//! Reads the process table and finds what belongs to a command.

use std::{
    collections::{HashMap, HashSet},
    fs,
};

use rustix::process::{Pid, Signal, getpid, kill_process};

use crate::command::{Command, MARKER};

/// Every process of the container, as `/proc` showed it during one reading.
pub(crate) struct Processes {
    /// Parent by pid; zombies are left out, they are gone but for their parent's asking.
    parents: HashMap<i32, i32>,
}

impl Processes {
    pub(crate) fn read() -> Self {
        let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let parent = |pid: i32| parent_of_living(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?);
        Self { parents: pids.filter_map(|pid| Some((pid, parent(pid)?))).collect() }
    }

    /// Gives the living processes of `command`, its supervisor not among them.
    ///
    /// That is everything below the supervisor. If somebody killed the supervisor, its descendants are ours now, mixed
    /// with those of other commands it happened to: then the marker in their environment tells, and what has none (or
    /// hides it) counts as the command's.
    pub(crate) fn of(&self, command: &Command, supervisors: &HashSet<i32>) -> Vec<i32> {
        let mut children: HashMap<i32, Vec<i32>> = HashMap::new();
        for (&pid, &parent) in &self.parents {
            children.entry(parent).or_default().push(pid);
        }
        let below = |root: i32, skip: &HashSet<i32>| {
            let (mut found, mut todo) = (Vec::new(), vec![root]);
            while let Some(parent) = todo.pop() {
                let kin = children.get(&parent).into_iter().flatten().filter(|pid| !skip.contains(*pid));
                let start = found.len();
                found.extend(kin);
                todo.extend_from_slice(&found[start..]);
            }
            found
        };
        if !command.is_lost() {
            return below(command.supervisor, &HashSet::new());
        }
        let mut orphans = below(getpid().as_raw_nonzero().get(), supervisors);
        orphans.retain(|&pid| marker(pid).is_none_or(|id| id == command.id));
        orphans
    }
}

/// Parses `/proc/PID/stat` for the parent; the name in parentheses may itself hold parentheses and spaces.
fn parent_of_living(stat: &str) -> Option<i32> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    match fields.next()? {
        "Z" | "X" => None,
        _ => fields.next()?.parse().ok(),
    }
}

/// Gives the id of the command that a process was started under, as its environment at exec says.
fn marker(pid: i32) -> Option<u64> {
    let environ = fs::read(format!("/proc/{pid}/environ")).ok()?;
    environ.split(|&byte| byte == 0).find_map(|entry| {
        let entry = std::str::from_utf8(entry).ok()?;
        entry.strip_prefix(MARKER)?.strip_prefix('=')?.parse().ok()
    })
}

/// Sends a signal; that the process has just ended is no news.
pub(crate) fn signal(pid: i32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid) {
        let _ = kill_process(pid, signal);
    }
}

#[cfg(test)]
mod tests {
    use super::parent_of_living;

    #[test]
    fn the_parent_is_found_behind_any_name() {
        assert_eq!(parent_of_living("12 (bash) S 7 12 12 0"), Some(7));
        assert_eq!(parent_of_living("12 (a) b) (c) R 7 12 12 0"), Some(7));
        assert_eq!(parent_of_living("12 (bash) Z 7 12 12 0"), None);
        assert_eq!(parent_of_living("nonsense"), None);
    }
}
