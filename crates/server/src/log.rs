//! Where the log goes: standard error, as text for people or as JSON for machines.
//!
//! A log that cannot be written, most often for a full disk, is lost and nothing else happens: the server must answer
//! also then, and what complains of standard error on standard error panics.

use std::{
    backtrace::{Backtrace, BacktraceStatus},
    io::{self, IsTerminal, Write},
};

use tracing_subscriber::{
    EnvFilter, Layer, filter, layer::SubscriberExt, registry::LookupSpan, util::SubscriberInitExt,
};

use crate::config::{Log, LogFormat};

/// What is said less of, unless the setting names it: Postgres's notices tell of what is there already.
const QUIETER: &str = "sqlx::postgres::notice=warn";

/// Sets the log up for the process, and beside it what takes the spans for a tracing system. Called once.
pub(crate) fn init<T>(log: &Log, spans: Option<T>)
where
    T: Layer<tracing_subscriber::Registry> + Send + Sync,
{
    tracing_subscriber::registry().with(spans).with(lines(log)).init();
    std::panic::set_hook(Box::new(|panic| {
        let backtrace = Backtrace::capture();
        let mut text = format!("{panic}\n");
        if backtrace.status() == BacktraceStatus::Captured {
            text += &format!("{backtrace}\n");
        }
        say(&text);
    }));
}

/// What writes lines. Spans for a tracing system are not in them.
fn lines<S>(log: &Log) -> Box<dyn Layer<S> + Send + Sync>
where
    S: tracing::Subscriber + for<'a> LookupSpan<'a>,
{
    // The setting was checked when it was read.
    let wanted = EnvFilter::new(format!("{QUIETER},{}", log.level));
    let ours = filter::filter_fn(|metadata| metadata.target() != executor::spans::TARGET);
    let lines = tracing_subscriber::fmt::layer().with_writer(|| Lossy(io::stderr())).log_internal_errors(false);
    match log.format {
        LogFormat::Text => lines.with_ansi(io::stderr().is_terminal()).with_filter(ours).with_filter(wanted).boxed(),
        LogFormat::Json => {
            let lines = lines.json().flatten_event(true).with_current_span(true).with_span_list(false);
            lines.with_filter(ours).with_filter(wanted).boxed()
        }
    }
}

/// Writes to standard error if that can be written to.
pub(crate) fn say(text: &str) {
    let written = Lossy(io::stderr()).write_all(text.as_bytes());
    written.expect("a lossy writer takes everything");
}

/// Takes everything, and loses what cannot be written.
struct Lossy<W>(W);

impl<W: Write> Write for Lossy<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // Not what was written: half a line is as lost as a whole one.
        match self.0.write_all(bytes) {
            Ok(()) | Err(_) => Ok(bytes.len()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self.0.flush() {
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;

    use super::*;

    #[test]
    fn a_full_disk_is_nothing_to_fail_of() {
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        assert!((&full).write_all(b"lost").is_err());
        Lossy(full).write_all(b"lost").unwrap();
    }
}
