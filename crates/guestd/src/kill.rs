//! Ends whole process trees, whatever they do against it.
//!
//! A process that forks faster than we kill would win a race of single signals, so everything is stopped first: what is
//! stopped cannot fork, every round finds only what the last one missed, and the container's process limit bounds them
//! all. Nothing here needs a process, a thread or more than a little memory, so it works when the container has none left.

use std::{collections::HashSet, rc::Rc, time::Duration};

use guest_protocol::Exit;
use rustix::process::Signal;
use tokio::time::{Instant, sleep, sleep_until};

use crate::{
    command::{Command, Commands},
    processes::{Processes, signal},
};

/// How long a tree may take to end by itself after SIGTERM.
pub(crate) const GRACE: Duration = Duration::from_millis(150);

/// When to give up: only a process stuck in the kernel gets that far.
const LIMIT: Duration = Duration::from_secs(10);

impl Commands {
    /// Kills the trees of `targets`; true when nothing of them is left.
    pub(crate) async fn kill(&self, targets: &[Rc<Command>]) -> bool {
        let (start, mut pause) = (Instant::now(), Duration::from_millis(1));
        let mut was_empty = HashSet::new();
        let processes = Processes::read();
        for command in self.left(targets) {
            for pid in processes.of(&command, &self.supervisors()) {
                signal(pid, Signal::TERM);
                signal(pid, Signal::CONT);
            }
        }
        loop {
            // Before looking: lets the supervisors' reports come in.
            sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(20));
            let left = self.left(targets);
            match start.elapsed() {
                _ if left.is_empty() => return true,
                past if past > LIMIT => return false,
                past if past > GRACE => {}
                _ => continue,
            }
            self.stop(&left);
            let processes = Processes::read();
            for command in left {
                let members = processes.of(&command, &self.supervisors());
                for &pid in &members {
                    signal(pid, Signal::KILL);
                }
                if !members.is_empty() || was_empty.insert(command.id) {
                    continue;
                }
                // Nothing below it, twice: a supervisor that does not end has been stopped by its own command.
                match command.is_lost() {
                    true => self.forget(&command),
                    false => signal(command.supervisor, Signal::KILL),
                }
            }
        }
    }

    /// Kills all that was started under `group` and gives how many trees that were.
    pub(crate) async fn kill_group(&self, group: &str) -> usize {
        self.kill_all_that(|command| command.group == group, None).await
    }

    /// Kills all that was started, because of the disk, and gives how many trees that were.
    pub(crate) async fn kill_over_disk(&self) -> usize {
        self.kill_all_that(|_| true, Some(Exit::OverDisk)).await
    }

    async fn kill_all_that(&self, is_meant: impl Fn(&Command) -> bool, reason: Option<Exit>) -> usize {
        let mut killed = HashSet::new();
        // Again until there is none: a command may have been started while others were being killed.
        let until = Instant::now() + LIMIT;
        loop {
            let mut targets = self.list();
            targets.retain(|command| is_meant(command));
            if targets.is_empty() || Instant::now() > until {
                return killed.len();
            }
            // One that has just ended by itself is only waited for.
            let (processes, supervisors) = (Processes::read(), self.supervisors());
            let living = targets.iter().filter(|command| !processes.of(command, &supervisors).is_empty());
            for command in living {
                killed.insert(command.id);
                if let Some(reason) = reason {
                    command.blame(reason);
                }
            }
            self.kill(&targets).await;
        }
    }

    /// Ends everything, for the end of the container.
    pub(crate) async fn kill_all(&self) {
        let limit = sleep_until(Instant::now() + Duration::from_secs(1));
        let targets = self.list();
        tokio::select! {
            _ = self.kill(&targets) => {}
            () = limit => {}
        }
    }

    /// Stops every process of `commands`, until a look at the table shows none that was not told.
    fn stop(&self, commands: &[Rc<Command>]) {
        let mut stopped = HashSet::new();
        loop {
            let processes = Processes::read();
            let members = commands.iter().flat_map(|command| processes.of(command, &self.supervisors()));
            let fresh: Vec<i32> = members.filter(|pid| stopped.insert(*pid)).collect();
            if fresh.is_empty() {
                return;
            }
            for pid in fresh {
                signal(pid, Signal::STOP);
            }
        }
    }

    fn left(&self, targets: &[Rc<Command>]) -> Vec<Rc<Command>> {
        targets.iter().filter(|command| self.is_running(command)).cloned().collect()
    }
}
