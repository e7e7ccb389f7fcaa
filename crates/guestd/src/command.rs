//! The commands that run: what the daemon knows of each, from its order until nothing of it is left.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, HashSet},
    io,
    os::fd::OwnedFd,
    rc::Rc,
    time::Duration,
};

use guest_protocol::{Exit, Failure, Spawn};
use rustix::process::{Signal, WaitStatus};
use tokio::{
    sync::watch,
    task::spawn_local,
    time::{sleep, timeout},
};

use crate::{
    failure::{failure, other},
    memory::oom_kills,
    processes::{Processes, signal},
    reaper::Reaper,
    report::Report,
    supervisor::Supervisor,
};

/// The variable that names the command in its environment, for the case that its supervisor is killed.
pub(crate) const MARKER: &str = "ATELIER_COMMAND";

/// How long a supervisor may take to start its command: an exec from a cold disk, not more.
const START_LIMIT: Duration = Duration::from_secs(20);

/// How many supervisors are tried, when they are killed before they take the order.
const MAX_SUPERVISORS: usize = 5;

/// A command and everything it started.
pub(crate) struct Command {
    pub(crate) id: u64,
    pub(crate) group: String,
    pub(crate) supervisor: i32,
    /// The command's own pid; 0 until it runs.
    pub(crate) child: Cell<i32>,
    ended: watch::Sender<Option<Exit>>,
    is_lost: Cell<bool>,
    /// Why we kill it, where that is more than a kill.
    reason: Cell<Option<Exit>>,
    oom_kills_before: u64,
}

impl Command {
    /// Waits until the command itself has ended. Its descendants may live on.
    pub(crate) async fn ended(&self) -> Exit {
        let mut ended = self.ended.subscribe();
        match ended.wait_for(Option::is_some).await {
            Ok(exit) => exit.unwrap_or(Exit::Killed),
            Err(_) => Exit::Killed,
        }
    }

    /// Tells how the command itself ended, if it has.
    pub(crate) fn exit(&self) -> Option<Exit> {
        *self.ended.borrow()
    }

    /// Tells whether its supervisor was killed, so that its processes are now ours.
    pub(crate) fn is_lost(&self) -> bool {
        self.is_lost.get()
    }

    /// Says why it is about to be killed.
    pub(crate) fn blame(&self, reason: Exit) {
        self.reason.set(Some(reason));
    }

    fn end(&self, exit: Exit) {
        // A shell reports the SIGKILL of what it ran as 128 + 9.
        let by_sigkill = matches!(exit, Exit::Signal(9) | Exit::Code(137));
        let exit = if by_sigkill && oom_kills() > self.oom_kills_before { Exit::OutOfMemory } else { exit };
        let exit = self.reason.get().unwrap_or(exit);
        self.ended.send_if_modified(|ended| {
            let is_first = ended.is_none();
            ended.get_or_insert(exit);
            is_first
        });
    }
}

/// All commands, a supervisor kept ready, and the reaper.
#[derive(Default)]
pub(crate) struct Commands {
    running: RefCell<BTreeMap<u64, Rc<Command>>>,
    next_id: Cell<u64>,
    ready: RefCell<Option<Supervisor>>,
    pub(crate) reaper: Reaper,
}

impl Commands {
    /// Starts a command with the given standard input, output and error.
    pub(crate) async fn start(self: &Rc<Self>, spawn: &Spawn, stdio: [OwnedFd; 3]) -> Result<Rc<Command>, Failure> {
        let program = spawn.argv.first().map_or("", String::as_str);
        let mut ready = self.ready.borrow_mut().take();
        // A `kill -9 -1` ends supervisors too, and one that is about to die of it still seems to wait for an order. While
        // none has taken it, nothing has run and another one may be given it.
        for _ in 0..MAX_SUPERVISORS {
            let mut supervisor = match ready.take() {
                Some(supervisor) => supervisor,
                None => Supervisor::spawn().map_err(|err| failure("cannot start a process", &err))?,
            };
            // Known before it runs: a `KillGroup` that comes meanwhile must find it.
            let command = self.register(&spawn.group, supervisor.pid);
            let mut order = spawn.clone();
            order.env.push((MARKER.to_owned(), command.id.to_string()));
            let report = async {
                supervisor.order(&order, &stdio).await.ok()?;
                match supervisor.report().await? {
                    // `None` from here on: most likely killed by what it started. To start that again would be to run
                    // it twice.
                    Report::Taken => Some(supervisor.report().await),
                    refusal => Some(Some(refusal)),
                }
            };
            let errno = io::Error::from_raw_os_error;
            match timeout(START_LIMIT, report).await {
                Ok(None) => self.forget(&command),
                Ok(Some(report @ (Some(Report::Started(_)) | None))) => {
                    if let Some(Report::Started(pid)) = report {
                        command.child.set(pid);
                    }
                    spawn_local(Rc::clone(self).follow(Rc::clone(&command), supervisor));
                    return Ok(command);
                }
                Ok(Some(Some(Report::NoDirectory(code)))) => {
                    self.forget(&command);
                    return Err(failure(&spawn.cwd, &errno(code)));
                }
                Ok(Some(Some(Report::NotRun(code)))) => {
                    self.forget(&command);
                    return Err(failure(program, &errno(code)));
                }
                Ok(Some(Some(_))) | Err(_) => {
                    signal(command.supervisor, Signal::KILL);
                    command.is_lost.set(true);
                    self.kill(&[Rc::clone(&command)]).await;
                    return Err(other(format!("{program}: its supervisor does not start it")));
                }
            }
        }
        Err(other(format!("{program}: its supervisors are killed before they can start it")))
    }

    /// Starts the next supervisor, unless one is ready. Called when nobody waits for us.
    pub(crate) fn make_ready(&self) {
        if self.ready.borrow().is_none() {
            // Without it the next command starts its own, and says why that fails.
            *self.ready.borrow_mut() = Supervisor::spawn().ok();
        }
    }

    pub(crate) fn is_running(&self, command: &Command) -> bool {
        self.running.borrow().contains_key(&command.id)
    }

    /// Lists commands of which something lives.
    pub(crate) fn list(&self) -> Vec<Rc<Command>> {
        self.running.borrow().values().cloned().collect()
    }

    /// The pids that are ours and not a command's.
    pub(crate) fn supervisors(&self) -> HashSet<i32> {
        let running = self.running.borrow();
        let busy = running.values().filter(|command| !command.is_lost()).map(|command| command.supervisor);
        busy.chain(self.ready.borrow().as_ref().map(|supervisor| supervisor.pid)).collect()
    }

    /// Drops a command of which nothing is left.
    pub(crate) fn forget(&self, command: &Command) {
        self.reaper.forget(command.child.get());
        command.end(Exit::Signal(9));
        self.running.borrow_mut().remove(&command.id);
    }

    fn register(&self, group: &str, supervisor: i32) -> Rc<Command> {
        self.next_id.set(self.next_id.get() + 1);
        let command = Rc::new(Command {
            id: self.next_id.get(),
            group: group.to_owned(),
            supervisor,
            child: Cell::new(0),
            ended: watch::Sender::new(None),
            is_lost: Cell::new(false),
            reason: Cell::new(None),
            oom_kills_before: oom_kills(),
        });
        self.running.borrow_mut().insert(command.id, Rc::clone(&command));
        command
    }

    /// Listens to a supervisor until nothing of its command is left.
    async fn follow(self: Rc<Self>, command: Rc<Command>, mut supervisor: Supervisor) {
        let mut reaped = self.reaper.ask(command.child.get());
        while let Some(report) = supervisor.report().await {
            match report {
                Report::Exited(code) => command.end(Exit::Code(code)),
                Report::Signalled(signal) => command.end(Exit::Signal(signal)),
                Report::Empty => return self.forget(&command),
                Report::Taken | Report::Started(_) | Report::NoDirectory(_) | Report::NotRun(_) => {}
            }
        }
        // Somebody killed the supervisor. What it looked after is our own child now; look for it until it is gone.
        command.is_lost.set(true);
        while self.is_running(&command) {
            if Processes::read().of(&command, &self.supervisors()).is_empty() {
                return self.forget(&command);
            }
            if command.exit().is_some() {
                sleep(Duration::from_millis(200)).await;
            } else if let Ok(Ok(status)) = timeout(Duration::from_millis(200), &mut reaped).await {
                command.end(exit_of(status));
            }
        }
    }
}

fn exit_of(status: WaitStatus) -> Exit {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => Exit::Code(code),
        (None, by) => Exit::Signal(by.unwrap_or(9)),
    }
}
