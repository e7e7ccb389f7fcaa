//! Tells an end by the container's memory limit from an ordinary SIGKILL.

use std::fs;

/// Gives how many processes of this container the kernel has killed for memory; 0 where the counter cannot be read.
pub(crate) fn oom_kills() -> u64 {
    // cgroup v2 with a private namespace, then v1 as engines mount it.
    ["/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control"]
        .iter()
        .find_map(|path| parse(&fs::read_to_string(path).ok()?))
        .unwrap_or(0)
}

fn parse(counters: &str) -> Option<u64> {
    counters.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn both_versions_of_the_counter_are_read() {
        assert_eq!(parse("low 0\nhigh 0\nmax 12\noom 3\noom_kill 2\noom_group_kill 0\n"), Some(2));
        assert_eq!(parse("oom_kill_disable 0\nunder_oom 0\noom_kill 5\n"), Some(5));
        assert_eq!(parse("oom_kill_disable 0\nunder_oom 0\n"), None);
    }
}
