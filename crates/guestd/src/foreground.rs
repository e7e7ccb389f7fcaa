//! A command that a host connection waits for: its output flows out, input flows in, and the connection's end is its end.

use std::{io, os::fd::AsFd, rc::Rc, time::Duration};

use guest_protocol::{Exit, Failure, Frame, Kind, MAX_DATA, Reply, Spawn};
use rustix::{io::ioctl_fionread, pipe::fcntl_setpipe_size};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::unix::pipe,
    task::spawn_local,
    time::{Instant, sleep, timeout},
};

use crate::{
    command::{Command, Commands},
    connection::{Block, Incoming, Outgoing},
    failure::failure,
};

/// How long the command's pipes are read on after its own end, when others still hold them (`server &`).
const LINGER: Duration = Duration::from_millis(200);

/// How long a host that does not read may keep a killed command's last output from its end.
const LAST_WORDS: Duration = Duration::from_secs(600);

/// Asked of the kernel for each output pipe: fewer switches between the writer and us. Beyond a user's share the kernel
/// refuses, and the default stays.
const PIPE_BYTES: usize = 256 * 1024;

/// Runs `spawn` and tells the host everything about it.
pub(crate) async fn run(
    commands: &Rc<Commands>,
    spawn: &Spawn,
    mut host: Incoming,
    mut out: Outgoing,
) -> io::Result<()> {
    let (command, stdin, output) = match start(commands, spawn).await {
        Ok(started) => started,
        Err(failed) => return out.reply(&Reply::Failed(failed)).await,
    };
    // A host that is gone already is noticed below.
    let _ = out.reply(&Reply::Started { pid: command.child.get().unsigned_abs() }).await;
    commands.make_ready();

    let mut output = Output { pipes: output, out: &mut out };
    let stop = async {
        tokio::select! {
            () = feed(&mut host, stdin) => Exit::Killed,
            () = sleep_for(spawn.timeout_ms) => Exit::TimedOut,
        }
    };
    // One future from the first byte to the last: dropped in the middle it would leave half a frame.
    let mut forward = Box::pin(output.forward(&command));
    let stopped = tokio::select! {
        biased;
        sent = &mut forward => sent.is_err().then_some((Exit::Killed, Some(sent))),
        why = stop => Some((why, None)),
    };
    let (exit, sent) = match stopped {
        None => (command.ended().await, Ok(())),
        Some((why, sent)) => {
            let targets = [Rc::clone(&command)];
            // What it says while it is being ended is still passed on, to a host that reads.
            let rest = async {
                match sent {
                    Some(sent) => sent,
                    None => timeout(LAST_WORDS, forward.as_mut()).await.unwrap_or(Err(io::ErrorKind::TimedOut.into())),
                }
            };
            let (is_gone, sent) = tokio::join!(commands.kill(&targets), rest);
            if !is_gone {
                eprintln!("guestd: command {} does not end", command.id);
            }
            (why, sent)
        }
    };
    drop(forward);
    // Those who stay behind may write on: a closed pipe would kill a server with its next log line.
    output.pipes.into_iter().flatten().for_each(|pipe| drop(spawn_local(discard(pipe))));
    // After a failure the host is gone, or half a frame stands where the reply would begin.
    sent?;
    out.reply(&Reply::Exited { exit }).await
}

type Started = (Rc<Command>, Option<pipe::Sender>, [Option<pipe::Receiver>; 2]);

async fn start(commands: &Rc<Commands>, spawn: &Spawn) -> Result<Started, Failure> {
    let pipes = || -> io::Result<_> {
        let (stdout, stdout_end) = io::pipe()?;
        let (stderr, stderr_end) = io::pipe()?;
        let _ = fcntl_setpipe_size(&stdout, PIPE_BYTES);
        let (stdin_end, stdin) = match spawn.stdin {
            true => {
                let (reader, writer) = io::pipe()?;
                (reader.into(), Some(pipe::Sender::from_owned_fd(writer.into())?))
            }
            false => (std::fs::File::open("/dev/null")?.into(), None),
        };
        let ours = [stdout, stderr].map(|pipe| pipe::Receiver::from_owned_fd(pipe.into()));
        let [stdout, stderr] = ours;
        Ok(([stdin_end, stdout_end.into(), stderr_end.into()], stdin, [Some(stdout?), Some(stderr?)]))
    };
    let (theirs, stdin, output) = pipes().map_err(|err| failure("cannot make a pipe", &err))?;
    Ok((commands.start(spawn, theirs).await?, stdin, output))
}

/// The command's two output pipes on their way to the host.
struct Output<'a> {
    pipes: [Option<pipe::Receiver>; 2],
    out: &'a mut Outgoing,
}

impl Output<'_> {
    /// Sends output until the command has ended and its pipes are drained, or [`LINGER`] later when others hold them.
    ///
    /// What was in a pipe when the command ended is sent however slowly the host reads: its size is noted at that moment.
    async fn forward(&mut self, command: &Command) -> io::Result<()> {
        let mut blocks = [Block::new(), Block::new()];
        let mut outstanding: Option<[u64; 2]> = None;
        let ended = command.ended();
        let linger = sleep(Duration::MAX);
        tokio::pin!(ended, linger);
        loop {
            let [stdout, stderr] = &mut self.pipes;
            let [first, second] = &mut blocks;
            if outstanding.is_some() && stdout.is_none() && stderr.is_none() {
                return Ok(());
            }
            let (which, read) = tokio::select! {
                read = read(stdout, first) => (0, read),
                read = read(stderr, second) => (1, read),
                _ = &mut ended, if outstanding.is_none() => {
                    let size = |pipe: &Option<pipe::Receiver>| pipe.as_ref().map_or(0, |pipe| ioctl_fionread(pipe.as_fd()).unwrap_or(0));
                    outstanding = Some([size(stdout), size(stderr)]);
                    linger.as_mut().reset(Instant::now() + LINGER);
                    continue;
                }
                () = &mut linger, if outstanding == Some([0, 0]) => return Ok(()),
            };
            match read {
                Ok(0) | Err(_) => {
                    self.pipes[which] = None;
                    if let Some(outstanding) = &mut outstanding {
                        outstanding[which] = 0;
                    }
                }
                Ok(len) => {
                    let kind = if which == 0 { Kind::Stdout } else { Kind::Stderr };
                    self.out.send(kind, &mut blocks[which], len).await?;
                    if let Some(outstanding) = &mut outstanding {
                        outstanding[which] = outstanding[which].saturating_sub(len as u64);
                    }
                }
            }
        }
    }
}

async fn read(pipe: &mut Option<pipe::Receiver>, block: &mut Block) -> io::Result<usize> {
    match pipe {
        Some(pipe) => pipe.read(&mut block.body()[..MAX_DATA]).await,
        None => std::future::pending().await,
    }
}

/// Takes the host's frames until its sending side ends; that, or nonsense, is the order to stop.
async fn feed(host: &mut Incoming, mut stdin: Option<pipe::Sender>) {
    while let Ok(Some(Frame { kind, body })) = host.next().await {
        match (kind, &mut stdin) {
            (Kind::Stdin, Some(pipe)) => {
                let written = tokio::select! {
                    written = pipe.write_all(&body) => written,
                    () = host.closed() => return,
                };
                // It does not want any more.
                if written.is_err() {
                    stdin = None;
                }
            }
            (Kind::Stdin, None) => {}
            (Kind::StdinEnd, _) => stdin = None,
            _ => return,
        }
    }
}

async fn sleep_for(timeout_ms: Option<u64>) {
    match timeout_ms {
        Some(ms) => sleep(Duration::from_millis(ms)).await,
        None => std::future::pending().await,
    }
}

async fn discard(mut pipe: pipe::Receiver) {
    let mut block = vec![0; 16 * 1024];
    while let Ok(1..) = pipe.read(&mut block).await {}
}
