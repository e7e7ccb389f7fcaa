//! `atelier`: the server, and the commands around it.
//!
//! Only this crate reads the environment, catches signals and chooses exit codes. `serve` is the way through it: settings,
//! data directory, database, engine, API, executor, and back.

mod backup;
mod build;
mod cli;
mod config;
mod data_dir;
mod database;
mod disks;
mod doctor;
mod down;
mod http;
mod images;
mod keys;
mod lifecycle;
mod log;
mod models;
mod pdf;
mod previews;
mod reconcile;
mod recording;
mod run;
mod serve;
mod sweep;
mod telemetry;
mod titles;
mod wiring;

fn main() -> std::process::ExitCode {
    cli::main()
}
