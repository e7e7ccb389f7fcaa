//! `atelier down`: stops the server of a data directory and removes its containers. Files and data stay.

use std::{
    fs,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use nix::{
    errno::Errno,
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use sandbox::Sandboxes;

use crate::{config::Loaded, data_dir::DataDir, wiring};

/// The server itself gives its runs less; then it is ended at once, then killed.
const PATIENCE: [(Signal, Duration); 3] = [
    (Signal::SIGTERM, Duration::from_secs(30)),
    (Signal::SIGTERM, Duration::from_secs(10)),
    (Signal::SIGKILL, Duration::from_secs(10)),
];
const ENGINE_LIMIT: Duration = Duration::from_secs(120);

pub(crate) async fn run(loaded: Loaded) -> anyhow::Result<ExitCode> {
    let path = &loaded.config.server.data_dir;
    let Some(data_dir) = DataDir::find(path) else {
        println!("nothing runs: there is no data directory {}", path.display());
        return Ok(ExitCode::SUCCESS);
    };
    match stop_server(&data_dir).await? {
        Some(pid) => println!("stopped the server (process {pid})"),
        None => println!("no server runs on {}", data_dir.path().display()),
    }
    remove_containers(&loaded, &data_dir).await?;
    Ok(ExitCode::SUCCESS)
}

/// Gives the process that was stopped; `None` if none ran.
///
/// Whether one runs is what the lock says. The number in the pid file may be that of a zombie or of a stranger by now.
async fn stop_server(data_dir: &DataDir) -> anyhow::Result<Option<i32>> {
    if !data_dir.is_served()? {
        return Ok(None);
    }
    let Some(pid) = data_dir.pid().filter(|pid| is_server(*pid)) else {
        // It holds the lock before it writes the file, or is on another machine that shares the directory.
        bail!(
            "a server uses {} but {} does not name it: stop it where it runs",
            data_dir.path().display(),
            data_dir.pid_file().display()
        );
    };
    for (signal, patience) in PATIENCE {
        match kill(Pid::from_raw(pid), signal) {
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(err) => return Err(err).with_context(|| format!("cannot send {signal} to the server (process {pid})")),
        }
        let deadline = Instant::now() + patience;
        while Instant::now() < deadline {
            if !data_dir.is_served()? {
                return Ok(Some(pid));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    bail!("the server (process {pid}) does not end")
}

fn is_server(pid: i32) -> bool {
    // A program that was replaced by a newer build is called "atelier (deleted)".
    let executable = fs::read_link(format!("/proc/{pid}/exe")).ok();
    executable.and_then(|path| Some(path.file_name()?.to_str()?.starts_with("atelier"))).unwrap_or(false)
}

async fn remove_containers(loaded: &Loaded, data_dir: &DataDir) -> anyhow::Result<()> {
    let options = wiring::sandbox_options(&loaded.config, data_dir)?;
    let work = async {
        let sandboxes = Sandboxes::connect(options).await?;
        sandboxes.stop_all().await
    };
    match tokio::time::timeout(ENGINE_LIMIT, work).await {
        Ok(Ok(0)) => println!("no containers were left"),
        Ok(Ok(count)) => println!("removed {count} container{}", if count == 1 { "" } else { "s" }),
        Ok(Err(sandbox::Error::NoEngine(_))) => {
            println!("no container engine answers, so no containers were looked for")
        }
        Ok(Err(err)) => return Err(err).context("cannot remove the containers"),
        Err(_) => bail!("the container engine did not remove the containers within {} s", ENGINE_LIMIT.as_secs()),
    }
    Ok(())
}
