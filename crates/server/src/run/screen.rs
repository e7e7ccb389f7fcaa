//! Where the pieces go: a terminal with a spinner under them, or plain lines.

use std::{
    io::{Write, stdout},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressStyle};

use super::render::Piece;

/// What has been put out, and what spins under it.
pub(super) struct Screen {
    spinner: Option<ProgressBar>,
    is_at_line_start: bool,
}

impl Screen {
    pub(super) fn new(is_terminal: bool) -> Self {
        // Hidden by itself where standard error is no terminal.
        let spinner = is_terminal.then(|| {
            let spinner = ProgressBar::new_spinner();
            let style = ProgressStyle::with_template("{spinner:.cyan} {wide_msg:.dim} {elapsed:.dim}");
            spinner.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
            spinner.enable_steady_tick(Duration::from_millis(100));
            spinner
        });
        Self { spinner, is_at_line_start: true }
    }

    /// Says what is being waited for.
    pub(super) fn wait_for(&self, what: &str) {
        if let Some(spinner) = &self.spinner {
            spinner.set_message(what.to_owned());
        }
    }

    pub(super) fn show(&mut self, piece: Piece) {
        match piece {
            Piece::Status(status) => {
                self.wait_for(&status);
                self.spin();
            }
            Piece::Text(text) if text.is_empty() => {}
            Piece::Text(text) => {
                // A spinner would overwrite the line that is being written.
                self.hide();
                self.write(&text);
                self.is_at_line_start = text.ends_with('\n');
            }
            Piece::Line(line) => self.line(&line),
        }
    }

    /// A line that is not from the run.
    pub(super) fn note(&mut self, text: &str) {
        self.hide();
        let gap = if self.is_at_line_start { "" } else { "\n" };
        eprintln!("{gap}{text}");
        self.is_at_line_start = true;
        self.spin();
    }

    pub(super) fn end(&mut self) {
        if let Some(spinner) = self.spinner.take() {
            spinner.finish_and_clear();
        }
        if !self.is_at_line_start {
            self.write("\n");
        }
    }

    fn line(&mut self, line: &str) {
        let gap = if self.is_at_line_start { "" } else { "\n" };
        let text = format!("{gap}{line}\n");
        match &self.spinner {
            Some(spinner) => spinner.suspend(|| write_out(&text)),
            None => write_out(&text),
        }
        self.is_at_line_start = true;
    }

    fn hide(&self) {
        if let Some(spinner) = &self.spinner {
            spinner.disable_steady_tick();
            spinner.set_draw_target(indicatif::ProgressDrawTarget::hidden());
        }
    }

    fn spin(&self) {
        if let Some(spinner) = self.spinner.as_ref().filter(|_| self.is_at_line_start) {
            spinner.set_draw_target(indicatif::ProgressDrawTarget::stderr());
            spinner.enable_steady_tick(Duration::from_millis(100));
        }
    }

    fn write(&self, text: &str) {
        write_out(text);
    }
}

fn write_out(text: &str) {
    let mut out = stdout().lock();
    // Whoever read us is gone; the run goes on without.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
