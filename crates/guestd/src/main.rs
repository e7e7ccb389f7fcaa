//! `guestd`, the daemon inside a sandbox: pid 1 of the container, one static binary that runs in any image.
//!
//! It serves [`guest_protocol`] on a unix socket: starts commands, streams their output, kills their whole process tree,
//! tells what ended them, serves files, and reaps what others leave behind. It holds no secret and no state worth keeping;
//! killing the container is a clean stop. Everything runs on one thread: a fork bomb that takes every process slot of the
//! container can then not take away the thread that ends it.
//!
//! Built to be mounted, not installed:
//! `RUSTFLAGS="-C target-feature=+crt-static" cargo build --release --target "$(rustc -vV | sed -n 's/host: //p')"
//! --target-dir target/guestd-build -p guestd`. (Naming the target keeps the flag away from build scripts.)

mod serve;

mod command;
mod connection;
mod failure;
mod files;
mod foreground;
mod forward;
mod kill;
mod memory;
mod ports;
mod processes;
mod reaper;
mod report;
mod supervise;
mod supervisor;
mod tasks;

use std::{path::Path, process::ExitCode};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let result = match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["serve", socket] => serve::run(Path::new(socket)),
        ["supervise"] => supervise::run(),
        _ => {
            eprintln!("usage: guestd serve SOCKET");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => {
            eprintln!("guestd: {err}");
            ExitCode::FAILURE
        }
    }
}
