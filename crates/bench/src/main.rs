//! `atelier-bench`: what Atelier costs on this machine, beside what the machine itself costs.
//!
//! A figure alone says more about the disk and the neighbours than about us, so each is measured beside a baseline in the
//! same call, the two taking turns: read the ratios. The server is the real program with a data directory of its own, its
//! private Postgres and real containers. The model follows a script inside this process, so that both ends of what is
//! between a reply's last byte and the next request are read from one clock.

mod baseline;
mod client;
mod database;
mod figures;
mod machine;
mod report;
mod samples;
mod system;

use std::path::PathBuf;

use anyhow::Context;
use clap::Parser;

use crate::{baseline::Baselines, figures::Bench, report::Report, system::System};

/// Measures an installation of its own and prints a table.
#[derive(Debug, Parser)]
#[command(max_term_width = 100)]
struct Arguments {
    /// Few samples: shows that everything works, says nothing about speed
    #[arg(long)]
    quick: bool,
    /// Writes the figures to this file as JSON, too
    #[arg(long)]
    json: Option<PathBuf>,
    /// Only these parts, separated by commas: job, submit, delta, mcp, preview, cold, memory, threads, events, files, long
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Keeps the server's log and its data in this directory
    #[arg(long)]
    keep: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let before = machine::Machine::look();
    let system = System::start(arguments.keep.as_deref()).await?;
    let mut report = Report::new(before, arguments.quick);
    let measured = tokio::select! {
        measured = measure(&arguments, &system, &mut report) => measured,
        _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
    };
    let stopped = system.stop().await;
    measured?;
    stopped?;
    report.print();
    if let Some(path) = &arguments.json {
        std::fs::write(path, report.to_json()).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

async fn measure(arguments: &Arguments, system: &System, report: &mut Report) -> anyhow::Result<()> {
    let baselines = Baselines::prepare(system).await?;
    let mut bench = Bench { system, baselines, report, is_quick: arguments.quick };
    bench.run(&arguments.only).await
}
