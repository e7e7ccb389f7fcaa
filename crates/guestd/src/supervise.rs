//! `guestd supervise`: the parent of one command and, through `PR_SET_CHILD_SUBREAPER`, of all it leaves behind.
//!
//! Whatever a command does (`setsid`, double fork, `nohup … &`), its orphans come back to their supervisor instead of to
//! pid 1, so the tree below a supervisor *is* the command. It waits until that tree is empty, tells the daemon what
//! happened, and does nothing else: killing is the daemon's work. One supervisor is started ahead of time, so its own start
//! is not part of a command's.

use std::{
    env, fs,
    io::{self, IoSliceMut, Read, Write},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, OwnedFd},
        unix::{net::UnixStream, process::CommandExt},
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use bytes::BytesMut;
use guest_protocol::{Kind, Spawn, decode};
use nix::sys::signal::SigSet;
use rustix::{
    cmsg_space,
    io::Errno,
    net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg},
    process::{WaitOptions, getpid, set_child_subreaper, wait},
};

use crate::report::Report;

/// Commands are the first to go when the container's memory is used up; the daemon and the supervisors stay.
const COMMAND_OOM_SCORE: &str = "900";
const OWN_OOM_SCORE: &str = "0";

/// Waits for an order on standard input (a socket), runs it, and returns when the command's tree is empty.
pub(crate) fn run() -> io::Result<()> {
    set_child_subreaper(Some(getpid()))?;
    let mut control = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    // The end before an order: the daemon is gone, and with it the container.
    let Some((order, stdio)) = receive(&mut control)? else { return Ok(()) };
    control.write_all(&Report::Taken.to_bytes())?;
    let child = match start(&order, stdio) {
        Ok(child) => child,
        Err(report) => return control.write_all(&report.to_bytes()),
    };
    // A command may try to end its parent, or everything of its session; only SIGKILL does, and that is noticed.
    SigSet::all().thread_block()?;
    control.write_all(&Report::Started(child).to_bytes())?;
    loop {
        match wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if pid.as_raw_nonzero().get() == child => {
                let report = match (status.exit_status(), status.terminating_signal()) {
                    (Some(code), _) => Report::Exited(code),
                    (None, Some(signal)) => Report::Signalled(signal),
                    (None, None) => continue,
                };
                control.write_all(&report.to_bytes())?;
            }
            Ok(_) | Err(Errno::INTR) => {}
            Err(_) => return control.write_all(&Report::Empty.to_bytes()),
        }
    }
}

/// Receives the order and the command's standard input, output and error.
fn receive(control: &mut UnixStream) -> io::Result<Option<(Spawn, [OwnedFd; 3])>> {
    let (mut buffer, mut chunk) = (BytesMut::new(), vec![0; 16 * 1024]);
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(3))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let first = recvmsg(&*control, &mut [IoSliceMut::new(&mut chunk)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)?.bytes;
    buffer.extend_from_slice(&chunk[..first]);
    let fds: Vec<OwnedFd> = ancillary
        .drain()
        .filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(fds) => Some(fds),
            _ => None,
        })
        .flatten()
        .collect();
    let Ok(stdio) = <[OwnedFd; 3]>::try_from(fds) else { return Ok(None) };
    loop {
        if let Some(frame) = decode(&mut buffer).map_err(io::Error::other)? {
            return Ok(Some((frame.json(Kind::Request).map_err(io::Error::other)?, stdio)));
        }
        match control.read(&mut chunk)? {
            0 => return Ok(None),
            n => buffer.extend_from_slice(&chunk[..n]),
        }
    }
}

/// Starts the command in a process group of its own and gives its pid.
fn start(order: &Spawn, [stdin, stdout, stderr]: [OwnedFd; 3]) -> Result<i32, Report> {
    let errno = |err: io::Error| err.raw_os_error().unwrap_or(Errno::IO.raw_os_error());
    env::set_current_dir(&order.cwd).map_err(|err| Report::NoDirectory(errno(err)))?;
    let (program, args) = order.argv.split_first().ok_or(Report::NotRun(Errno::INVAL.raw_os_error()))?;
    let mut command = Command::new(find_program(program, &order.env));
    command.arg0(program).args(args).envs(order.env.iter().map(|(name, value)| (name, value))).process_group(0);
    command.stdin(Stdio::from(stdin)).stdout(Stdio::from(stdout)).stderr(Stdio::from(stderr));
    // The score is inherited; there is no place between fork and exec to set it without unsafe code. Where it cannot be
    // set, the command runs all the same.
    let _ = fs::write("/proc/self/oom_score_adj", COMMAND_OOM_SCORE);
    let child = command.spawn();
    let _ = fs::write("/proc/self/oom_score_adj", OWN_OOM_SCORE);
    child.map(|child| child.id() as i32).map_err(|err| Report::NotRun(errno(err)))
}

/// Looks the program up in the command's own `PATH`: given a path, the standard library can use `posix_spawn`.
fn find_program(program: &str, env: &[(String, String)]) -> PathBuf {
    if program.contains('/') {
        return PathBuf::from(program);
    }
    let path = env.iter().rev().find(|(name, _)| name == "PATH").map(|(_, value)| value.into());
    let path = path.or_else(|| env::var_os("PATH")).unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into());
    let is_program =
        |candidate: &Path| rustix::fs::access(candidate, rustix::fs::Access::EXEC_OK).is_ok() && candidate.is_file();
    env::split_paths(&path)
        .map(|directory| directory.join(program))
        .find(|candidate| is_program(candidate))
        // Not found: a path that cannot exist, so that exec says so; the bare name could find a file in the cwd.
        .unwrap_or_else(|| Path::new("/nonexistent").join(program))
}
