//! `scripted-claude`: the server as a program. It prints one JSON line with its address and runs until a signal.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use scripted_claude::{Checks, Options, Script, ScriptedClaude};
use serde_json::json;

/// A stand-in for the Claude Messages API that follows a script.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Where to listen; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// first-task, echo, bench, or a TOML or JSON file of rules.
    #[arg(long, default_value = "first-task")]
    script: String,
    /// Where the agent's files are, as the tools see it.
    #[arg(long, default_value = "/workspace")]
    workspace: String,
    /// Milliseconds to wait before each frame of a stream.
    #[arg(long, default_value_t = 0)]
    delta_delay_ms: u64,
    /// Do not check requests; for measuring.
    #[arg(long)]
    lenient: bool,
    /// Append each request to this file as a JSON line, without keys.
    #[arg(long)]
    log: Option<PathBuf>,
}

#[tokio::main(worker_threads = 2)]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let script = match Script::builtin(&arguments.script, &arguments.workspace) {
        Some(script) => script,
        None => {
            Script::load(Path::new(&arguments.script)).context("it is neither a built-in script nor a file of rules")?
        }
    };
    let name = script.name().to_owned();
    let options = Options {
        listen: arguments.listen,
        checks: if arguments.lenient { Checks::Lenient } else { Checks::Strict },
        delta_delay: Duration::from_millis(arguments.delta_delay_ms),
        keeps_requests: false,
        log: arguments.log,
        ..Options::default()
    };
    let server = ScriptedClaude::start(script, options).await?;
    println!("{}", json!({ "url": server.url(), "script": name }));

    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}
