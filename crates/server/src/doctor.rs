//! `atelier doctor`: one line for everything the server needs, and how to mend what is wrong.

mod check;

use std::{io::IsTerminal, process::ExitCode, time::Duration};

use chrono::{DateTime, Utc};
use sandbox::{DiskEnforcement, Egress, Report, Sandboxes};
use store::postgres::{Socket, find_installations, probe};

use self::check::{Check, show};
use crate::{
    cli::say,
    config::{Config, Loaded, absolute, database_options, show_bytes},
    data_dir::DataDir,
    wiring,
};

const LIMIT: Duration = Duration::from_secs(15);
const LITTLE_DISK_BYTES: u64 = 5 << 30;
const NO_DISK_BYTES: u64 = 512 << 20;
/// Certificates and tokens begin to fail somewhere beyond.
const CLOCK_TOLERANCE_SECONDS: i64 = 60;

pub(crate) async fn run(loaded: Loaded) -> anyhow::Result<ExitCode> {
    let config = &loaded.config;
    let mut checks = Vec::new();
    checks.extend(check_engine(config).await);
    checks.push(check_guestd(config));
    checks.push(check_database(config).await);
    checks.extend(check_model(config).await);
    checks.push(check_disk(config));
    let is_terminal = std::io::stdout().is_terminal();
    say(&show(&checks, is_terminal));
    Ok(if checks.iter().any(Check::is_failure) { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

async fn check_engine(config: &Config) -> Vec<Check> {
    // Looking must not make a data directory; what the report tells does not depend on it.
    let data_dir = DataDir::find(&config.server.data_dir);
    let data_dir = data_dir.or_else(|| DataDir::find(std::path::Path::new("/")));
    let mut options = match data_dir.as_ref().map(|data_dir| wiring::sandbox_options(&named(config), data_dir)) {
        Some(Ok(options)) => options,
        Some(Err(err)) => return vec![Check::fail("engine", format!("{err:#}"), "mend the settings")],
        None => sandbox::Options::default(),
    };
    options.data_dir = absolute(&config.server.data_dir);
    let image = options.image.clone();
    let no_engine = |err: &dyn std::fmt::Display| {
        let mend = "install Docker and start it (make setup does both), or set sandbox.docker_socket";
        vec![Check::fail("engine", format!("no container engine answers: {err}"), mend)]
    };
    let asked = async { Ok::<_, sandbox::Error>(Sandboxes::connect(options).await?.report().await) };
    match tokio::time::timeout(LIMIT, asked).await {
        Ok(Ok(report)) => read_report(&report, &image, config.sandbox.allow_unfiltered_egress),
        Ok(Err(err)) => no_engine(&format!("{:#}", anyhow::Error::from(err))),
        Err(_) => no_engine(&format!("nothing came within {} s", LIMIT.as_secs())),
    }
}

fn read_report(report: &Report, image: &str, allows_unfiltered: bool) -> Vec<Check> {
    let Some(engine) = &report.engine else {
        return vec![Check::fail("engine", "the container engine does not answer", "start it: make setup")];
    };
    let mut checks = vec![
        Check::ok("engine", format!("Docker {}, kernel {}", engine.version, engine.kernel)),
        match report.warnings.iter().find(|warning| warning.starts_with("runc ") || warning.contains("runtime")) {
            Some(warning) => split_warning("runtime", warning),
            None => Check::ok(
                "runtime",
                format!("{} {}", engine.runtime, engine.runtime_version.as_deref().unwrap_or("(version unknown)")),
            ),
        },
        Check::ok("cgroup", format!("version {}", engine.cgroup_version)),
    ];
    let limits = [(report.memory, "memory"), (report.cpus, "cpus"), (report.pids, "pids"), (report.seccomp, "seccomp")];
    let names = |wanted: bool| -> Vec<&str> {
        limits.iter().filter(|(holds, _)| *holds == wanted).map(|(_, name)| *name).collect()
    };
    let missing = names(false);
    checks.push(if missing.is_empty() {
        Check::ok("limits", format!("{} hold", names(true).join(", ")))
    } else {
        let mend = "give the engine control groups and seccomp; until then agents can harm the host";
        Check::warn("limits", format!("{} do not hold here", missing.join(", ")), mend)
    });
    checks.push(match report.disk {
        DiskEnforcement::Watchdog => Check::ok("disk limit", "watched, not held by the kernel"),
    });
    checks.push(match &report.egress {
        Egress::Enforced => {
            Check::ok("egress", "containers with internet reach neither this host nor private networks")
        }
        Egress::NotEnforced(reason) if allows_unfiltered => Check::warn(
            "egress",
            format!("not filtered ({reason}), and sandbox.allow_unfiltered_egress allows that"),
            "run the server as root with iptables installed",
        ),
        Egress::NotEnforced(reason) => Check::fail(
            "egress",
            format!("cannot be filtered ({reason}), so environments with internet are refused"),
            "run the server as root with iptables installed, or set sandbox.allow_unfiltered_egress",
        ),
    });
    checks.push(if report.default_image {
        Check::ok("image", image.to_owned())
    } else {
        Check::fail("image", format!("there is no image {image}"), "make image")
    });
    checks
}

/// The report's warnings are "what; how to mend it".
fn split_warning(name: &'static str, warning: &str) -> Check {
    let (what, mend) = warning.rsplit_once("; ").unwrap_or((warning, ""));
    Check::warn(name, what.to_owned(), mend.to_owned())
}

/// Without a name for the installation one would be made and kept; looking must not.
fn named(config: &Config) -> Config {
    let mut config = config.clone();
    config.sandbox.installation.get_or_insert_with(|| "doctor".to_owned());
    config
}

fn check_guestd(config: &Config) -> Check {
    match wiring::find_guestd(config) {
        Ok(path) => Check::ok("guestd", path.display().to_string()),
        Err(_) => {
            let places: Vec<String> =
                wiring::guestd_places(config).iter().map(|place| place.display().to_string()).collect();
            Check::fail("guestd", format!("is not at {}", places.join(" or ")), "scripts/guestd.sh, or sandbox.guestd")
        }
    }
}

async fn check_database(config: &Config) -> Check {
    let (options, kind) = match &config.database.url {
        Some(url) => (database_options(url), "database.url"),
        None => match Socket::find(&config.server.data_dir) {
            Ok(Some(socket)) => {
                let options = socket.connect_options(store::postgres::DATABASE);
                return answer(tokio::time::timeout(LIMIT, probe(&options)).await, "private, running");
            }
            Ok(None) => (None, "private"),
            Err(err) => return Check::fail("postgres", err.to_string(), "mend the data directory"),
        },
    };
    if let Some(options) = options {
        return answer(tokio::time::timeout(LIMIT, probe(&options)).await, kind);
    }
    match find_installations().first() {
        Some(newest) => Check::ok(
            "postgres",
            format!("PostgreSQL {} in {}, starts with the server", newest.version, newest.bin.display()),
        ),
        None => {
            let mend = "apt-get install postgresql (make setup does), or set database.url";
            Check::fail("postgres", "no PostgreSQL is installed", mend)
        }
    }
}

fn answer(asked: Result<store::Result<String>, tokio::time::error::Elapsed>, kind: &str) -> Check {
    let mend = "start it, and check user, password and name in database.url";
    match asked {
        Ok(Ok(version)) => Check::ok("postgres", format!("PostgreSQL {version} ({kind})")),
        Ok(Err(err)) => Check::fail("postgres", format!("{:#} ({kind})", anyhow::Error::from(err)), mend),
        Err(_) => Check::fail("postgres", format!("does not answer within {} s ({kind})", LIMIT.as_secs()), mend),
    }
}

/// The model's end of the line; and, since its answers carry the time, our clock.
async fn check_model(config: &Config) -> Vec<Check> {
    let host = config.model.base_url.host_str().unwrap_or_default().to_owned();
    let client = match wiring::claude_options(config).map(|options| claude::Options { max_retries: 0, ..options }) {
        Ok(options) => claude::Client::new(options),
        Err(err) => return vec![Check::fail("model", format!("{err:#}"), "mend the settings of [model]")],
    };
    let client = match client {
        Ok(client) => client,
        Err(err) => return vec![Check::fail("model", err.to_string(), "mend the settings of [model]")],
    };
    let (asked, clock) = tokio::join!(tokio::time::timeout(LIMIT, client.list_models()), check_clock(config));
    let model = match asked {
        _ if config.model.api_key.is_none() && host == "api.anthropic.com" => {
            let mend = "export ANTHROPIC_API_KEY=…; without one 'make up' uses the stand-in scripted-claude (offline)";
            Check::warn("model", format!("there is no key for {host}"), mend)
        }
        _ if config.model.api_key.is_none() => {
            let mend = "export ANTHROPIC_API_KEY=…, or set model.api_key";
            Check::fail("model", format!("there is no key for {host}"), mend)
        }
        Ok(Ok(models)) => Check::ok("model", format!("{host} accepts the key and has {} models", models.len())),
        Ok(Err(claude::Error::Status { status: 401 | 403, message, .. })) => {
            Check::fail("model", format!("{host} refuses the key: {message}"), "check ANTHROPIC_API_KEY")
        }
        Ok(Err(claude::Error::Status { status: 404 | 405 | 501, .. })) => {
            Check::ok("model", format!("{host} answers; it lists no models, so the key is not checked"))
        }
        Ok(Err(err)) => {
            let mend = "check ANTHROPIC_BASE_URL, the network and the proxy";
            Check::fail("model", format!("{host}: {:#}", anyhow::Error::from(err)), mend)
        }
        Err(_) => {
            let what = format!("{host} does not answer within {} s", LIMIT.as_secs());
            Check::fail("model", what, "check ANTHROPIC_BASE_URL, the network and the proxy")
        }
    };
    vec![model, clock]
}

async fn check_clock(config: &Config) -> Check {
    let Some(theirs) = ask_time(config).await else {
        return Check::warn("clock", "not compared: the model's end gives no time", "look at it yourself: date");
    };
    let off = (Utc::now() - theirs).num_seconds();
    if off.abs() <= CLOCK_TOLERANCE_SECONDS {
        return Check::ok("clock", "agrees with the model's end");
    }
    Check::warn("clock", format!("{} s off", off), "set the clock, for example with chrony or systemd-timesyncd")
}

async fn ask_time(config: &Config) -> Option<DateTime<Utc>> {
    let client = reqwest::Client::builder().timeout(LIMIT).redirect(reqwest::redirect::Policy::none()).build().ok()?;
    let response = client.head(config.model.base_url.clone()).send().await.ok()?;
    let date = response.headers().get(reqwest::header::DATE)?.to_str().ok()?;
    DateTime::parse_from_rfc2822(date).ok().map(|date| date.to_utc())
}

fn check_disk(config: &Config) -> Check {
    let mut path = absolute(&config.server.data_dir);
    // Before the first start the directory is not there yet.
    while !path.exists() && path.pop() {}
    match rustix::fs::statvfs(&path) {
        Ok(stat) => {
            let free = stat.f_bavail * stat.f_frsize;
            let what = format!("{} free at {}", show_bytes(free), path.display());
            match free {
                free if free < NO_DISK_BYTES => Check::fail("disk", what, "free some, or move the data directory"),
                free if free < LITTLE_DISK_BYTES => Check::warn("disk", what, "images and workspaces need some GiB"),
                _ => Check::ok("disk", what),
            }
        }
        Err(err) => Check::fail("disk", format!("cannot look at {}: {err}", path.display()), "check --data-dir"),
    }
}

#[cfg(test)]
mod tests {
    use sandbox::Engine;

    use super::*;

    #[test]
    fn a_report_becomes_lines_that_say_how_to_mend_what_is_wrong() {
        let report = Report {
            engine: Some(Engine {
                version: "20.10.24".into(),
                runtime: "runc".into(),
                runtime_version: Some("1.1.5".into()),
                cgroup_version: 1,
                kernel: "6.18".into(),
            }),
            memory: true,
            pids: true,
            cpus: false,
            disk: DiskEnforcement::Watchdog,
            egress: Egress::NotEnforced("not root".into()),
            seccomp: true,
            user_namespace: false,
            default_image: false,
            warnings: vec!["runc 1.1.5 is old; use 1.2.8".into()],
        };
        insta::assert_snapshot!(show(&read_report(&report, "atelier-workspace:latest", false), false));
    }
}
