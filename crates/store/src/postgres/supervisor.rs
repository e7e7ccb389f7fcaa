//! Keeps the postmaster alive: starts it, waits for its end, starts it again.
//!
//! A thread and not a task: the kernel's "tell me when my parent dies" means the parent **thread**, so whoever starts
//! the child must live as long as the server does.

use std::{
    fs,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use nix::{
    sys::{
        signal::{Signal, kill},
        wait::{Id, WaitPidFlag, waitid},
    },
    unistd::Pid,
};

use super::{Installation, child, directory::Directory};
use crate::{Error, Result};

const FIRST_DELAY: Duration = Duration::from_millis(50);
const LONGEST_DELAY: Duration = Duration::from_secs(10);
/// A child that lived this long was well; its death is a new story.
const WELL_AFTER: Duration = Duration::from_secs(60);
/// How long "fast" may take before it is made faster, and then killed.
const STOP_PATIENCE: Duration = Duration::from_secs(15);
const LOG_LINES_SHOWN: usize = 5;

#[derive(Debug)]
pub(super) struct Supervisor {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Set while the child is not reaped, so the number cannot belong to anybody else.
    pid: Option<Pid>,
    is_stopping: bool,
    is_over: bool,
    /// How the newest child ended, for the operator.
    ended: Option<String>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change is a single assignment, so a poisoned state is still a true one.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Supervisor {
    pub(super) fn start(directory: Directory, installation: Installation) -> Result<Self> {
        let shared = Arc::new(Shared::default());
        let thread = thread::Builder::new()
            .name("postgres".into())
            .spawn({
                let shared = shared.clone();
                move || {
                    supervise(&shared, &directory, &installation);
                    // Before anybody is told: who sees the end may open the directory at once.
                    drop(directory);
                    shared.lock().is_over = true;
                    shared.changed.notify_all();
                }
            })
            .map_err(|err| Error::Setup(format!("cannot start a thread: {err}")))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    pub(super) fn pid(&self) -> Option<i32> {
        self.shared.lock().pid.map(Pid::as_raw)
    }

    /// Gives how a child ended, if one has ended.
    pub(super) fn ended(&self) -> Option<String> {
        self.shared.lock().ended.clone()
    }

    /// Stops the child and waits until it is gone.
    pub(super) fn stop(mut self) {
        self.stop_and_wait();
    }

    fn stop_and_wait(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        self.shared.lock().is_stopping = true;
        self.shared.changed.notify_all();
        for signal in [Signal::SIGINT, Signal::SIGQUIT, Signal::SIGKILL] {
            let deadline = Instant::now() + STOP_PATIENCE;
            let mut state = self.shared.lock();
            if let Some(pid) = state.pid {
                let _gone_already = kill(pid, signal);
            }
            while !state.is_over && Instant::now() < deadline {
                let left = deadline.saturating_duration_since(Instant::now());
                state = self.shared.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
            }
            if state.is_over {
                break;
            }
        }
        if thread.join().is_err() {
            tracing::error!("the thread that watches Postgres panicked");
        }
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        self.stop_and_wait();
    }
}

fn supervise(shared: &Shared, directory: &Directory, installation: &Installation) {
    let mut delay = FIRST_DELAY;
    loop {
        let started = Instant::now();
        let ended = match run_once(shared, directory, installation) {
            Ok(how) => format!("Postgres ended ({how}){}", last_lines(directory)),
            Err(err) => err.to_string(),
        };
        let mut state = shared.lock();
        state.ended = Some(ended.clone());
        if state.is_stopping {
            return;
        }
        delay = if started.elapsed() > WELL_AFTER { FIRST_DELAY } else { (delay * 2).min(LONGEST_DELAY) };
        tracing::error!(delay_ms = delay.as_millis() as u64, "{ended}; starting it again");
        let next = Instant::now() + delay;
        while !state.is_stopping && Instant::now() < next {
            let left = next.saturating_duration_since(Instant::now());
            state = shared.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        if state.is_stopping {
            return;
        }
        drop(state);
        if let Err(err) = directory.stop_leftover() {
            tracing::error!("{err}");
        }
    }
}

/// Starts the child and waits for its end, which it describes.
fn run_once(shared: &Shared, directory: &Directory, installation: &Installation) -> Result<String> {
    let mut child = {
        // Under the lock, so that `stop` either sees the child or keeps it from starting.
        let mut state = shared.lock();
        if state.is_stopping {
            return Ok("not started".into());
        }
        let child = child::spawn(directory, installation)?;
        state.pid = Some(Pid::from_raw(child.id() as i32));
        child
    };
    let pid = Pid::from_raw(child.id() as i32);
    // Waits without reaping: only once nobody can signal the number any more may the kernel give it away.
    while let Err(nix::errno::Errno::EINTR) = waitid(Id::Pid(pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT) {}
    shared.lock().pid = None;
    let status = child.wait().map_err(|err| Error::Setup(format!("cannot wait for Postgres: {err}")))?;
    Ok(status.to_string())
}

fn last_lines(directory: &Directory) -> String {
    let path = directory.log_path();
    let bytes = fs::read(&path).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().rev().take(LOG_LINES_SHOWN).collect();
    if lines.is_empty() {
        return String::new();
    }
    let shown: Vec<&str> = lines.into_iter().rev().map(str::trim).collect();
    format!("; the end of {} says: {}", path.display(), shown.join(" | "))
}
