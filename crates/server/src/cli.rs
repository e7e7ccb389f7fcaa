//! The command line: what there is, and which exit code each outcome has.

use std::{future::Future, io::Write, process::ExitCode};

use clap::{Parser, Subcommand};

use crate::{
    backup, build,
    config::{Environment, Flags, Loaded, Wrong},
    doctor, down, keys, log, pdf, run, serve,
};

/// Something went wrong.
const FAILED: u8 = 1;
/// What was asked cannot be understood.
const USAGE: u8 = 2;

/// A server for the Computer Agents API, and its tools.
#[derive(Debug, Parser)]
#[command(name = "atelier", version = build::VERSION.as_str(), max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the server
    Serve(Flags),
    /// Stop the server of a data directory and remove its containers
    Down(Flags),
    /// Make, list and revoke API keys
    Keys(keys::Arguments),
    /// Write everything of an installation into one file, also while its server runs
    Backup(backup::Arguments),
    /// Fill an empty data directory from a backup
    Restore(backup::Arguments),
    /// Tell what works here, what does not, and how to mend it
    Doctor(Flags),
    /// Show the settings that hold and where they come from
    Config(Flags),
    /// Give a task to a running server and show how it is done
    Run(run::Arguments),
    /// Print the OpenAPI document of the API
    Openapi,
    /// Turn a PDF file on standard input into text; the server calls it for pages that agents fetch
    #[command(hide = true)]
    PdfText,
}

/// Runs the command and says how it went.
pub(crate) fn main() -> ExitCode {
    let environment = Environment::of_process();
    let result = match Cli::parse().command {
        Command::Serve(flags) => load(&flags, &environment).and_then(|loaded| many(serve::run(loaded))),
        Command::Down(flags) => load(&flags, &environment).and_then(|loaded| one(down::run(loaded))),
        Command::Keys(arguments) => {
            load(&arguments.flags, &environment).and_then(|loaded| one(keys::run(loaded, arguments.command)))
        }
        Command::Backup(arguments) => {
            load(&arguments.flags, &environment).and_then(|loaded| one(backup::backup(loaded, arguments)))
        }
        Command::Restore(arguments) => {
            load(&arguments.flags, &environment).and_then(|loaded| one(backup::restore(loaded, arguments)))
        }
        Command::Doctor(flags) => load(&flags, &environment).and_then(|loaded| one(doctor::run(loaded))),
        Command::Config(flags) => load(&flags, &environment).map(|loaded| {
            say(&loaded.show());
            ExitCode::SUCCESS
        }),
        Command::Run(arguments) => one(run::run(arguments, environment)),
        Command::Openapi => print_openapi(),
        Command::PdfText => pdf::run(),
    };
    result.unwrap_or_else(|err| {
        // With alternate formatting, the whole chain of causes in one line.
        log::say(&format!("atelier: {err:#}\n"));
        ExitCode::from(if err.is::<Wrong>() { USAGE } else { FAILED })
    })
}

/// Writes to standard output. Whoever read it may be gone, as `head` is after its lines; that is no failure.
pub(crate) fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

fn load(flags: &Flags, environment: &Environment) -> anyhow::Result<Loaded> {
    Ok(Loaded::load(flags, environment)?)
}

fn print_openapi() -> anyhow::Result<ExitCode> {
    say(&format!("{}\n", api::openapi().to_pretty_json()?));
    Ok(ExitCode::SUCCESS)
}

/// Runs on all cores.
fn many(command: impl Future<Output = anyhow::Result<ExitCode>>) -> anyhow::Result<ExitCode> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(command)
}

/// Runs on this thread.
fn one(command: impl Future<Output = anyhow::Result<ExitCode>>) -> anyhow::Result<ExitCode> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(command)
}
