//! Background commands: owned by the daemon, their output in a file, their end remembered.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Write},
    path::Path,
    rc::Rc,
    time::Duration,
};

use guest_protocol::{Exit, Failure, Spawn, TaskState};
use tokio::{io::AsyncReadExt, net::unix::pipe, task::spawn_local, time::sleep};

use crate::{
    command::{Command, Commands},
    failure::failure,
};

/// How many ended tasks are remembered.
const REMEMBERED: usize = 1000;

/// All background commands of this container's life.
#[derive(Default)]
pub(crate) struct Tasks {
    by_number: RefCell<BTreeMap<u64, Rc<Task>>>,
    started: Cell<u64>,
}

struct Task {
    command: Rc<Command>,
    /// Set when we stopped it.
    stopped: Cell<Option<Exit>>,
    output_bytes: Cell<u64>,
}

impl Task {
    fn exit(&self) -> Option<Exit> {
        let exit = self.command.exit()?;
        Some(self.stopped.get().unwrap_or(exit))
    }
}

impl Tasks {
    /// Starts `spawn` with its output appended to the file `output`, and gives the task's id.
    pub(crate) async fn start(
        &self,
        commands: &Rc<Commands>,
        spawn: &Spawn,
        output: &str,
        output_limit: u64,
    ) -> Result<String, Failure> {
        let mut file = open(output).map_err(|err| failure(output, &err))?;
        let pipes = || -> io::Result<_> {
            let (reader, writer) = io::pipe()?;
            let stdio = [File::open("/dev/null")?.into(), writer.try_clone()?.into(), writer.into()];
            Ok((stdio, pipe::Receiver::from_owned_fd(reader.into())?))
        };
        let (stdio, mut pipe) = pipes().map_err(|err| failure("cannot make a pipe", &err))?;
        let command = commands.start(spawn, stdio).await?;
        commands.make_ready();

        let task = Rc::new(Task { command, stopped: Cell::new(None), output_bytes: Cell::new(0) });
        self.started.set(self.started.get() + 1);
        let number = self.started.get();
        self.by_number.borrow_mut().insert(number, Rc::clone(&task));
        self.trim();

        if let Some(ms) = spawn.timeout_ms {
            let (task, commands) = (Rc::clone(&task), Rc::clone(commands));
            spawn_local(async move {
                tokio::select! {
                    _ = task.command.ended() => {}
                    () = sleep(Duration::from_millis(ms)) => stop(&commands, &task, Exit::TimedOut).await,
                }
            });
        }
        let commands = Rc::clone(commands);
        spawn_local(async move {
            let (mut block, mut is_over) = (vec![0; 64 * 1024], false);
            while let Ok(len @ 1..) = pipe.read(&mut block).await {
                let room = output_limit.saturating_sub(task.output_bytes.get());
                let fits = room.min(len as u64) as usize;
                // A full disk loses output, not the command: it may be the one that makes room again.
                if file.write_all(&block[..fits]).is_ok() {
                    task.output_bytes.set(task.output_bytes.get() + fits as u64);
                }
                if fits < len && !std::mem::replace(&mut is_over, true) {
                    let _ = writeln!(file, "\n[killed: the output is over its limit of {output_limit} bytes]");
                    let (commands, task) = (Rc::clone(&commands), Rc::clone(&task));
                    spawn_local(async move { stop(&commands, &task, Exit::Killed).await });
                }
            }
        });
        Ok(format!("task_{number}"))
    }

    /// Tells how a task is; `None` if there is none of this id.
    pub(crate) fn state(&self, id: &str) -> Option<TaskState> {
        let task = self.find(id)?;
        Some(TaskState { exit: task.exit(), output_bytes: task.output_bytes.get() })
    }

    /// Kills a task's tree; false when nothing of it was left.
    pub(crate) async fn stop(&self, commands: &Commands, id: &str) -> bool {
        let Some(task) = self.find(id).filter(|task| commands.is_running(&task.command)) else { return false };
        stop(commands, &task, Exit::Killed).await;
        true
    }

    /// Counts the tasks that have not ended.
    pub(crate) fn running(&self) -> usize {
        self.by_number.borrow().values().filter(|task| task.exit().is_none()).count()
    }

    fn find(&self, id: &str) -> Option<Rc<Task>> {
        self.by_number.borrow().get(&id.strip_prefix("task_")?.parse().ok()?).cloned()
    }

    fn trim(&self) {
        let mut tasks = self.by_number.borrow_mut();
        let ended: Vec<u64> =
            tasks.iter().filter(|(_, task)| task.exit().is_some()).map(|(&number, _)| number).collect();
        for number in ended.iter().take(ended.len().saturating_sub(REMEMBERED)) {
            tasks.remove(number);
        }
    }
}

async fn stop(commands: &Commands, task: &Rc<Task>, why: Exit) {
    if task.command.exit().is_none() && task.stopped.get().is_none() {
        task.stopped.set(Some(why));
    }
    commands.kill(&[Rc::clone(&task.command)]).await;
}

fn open(path: &str) -> io::Result<File> {
    if let Some(parent) = Path::new(path).parent() {
        fs::create_dir_all(parent)?;
    }
    File::options().create(true).append(true).open(path)
}
