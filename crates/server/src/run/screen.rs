//! Where the pieces go: a terminal with a spinner under them, or plain lines.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::render::Piece;
use crate::cli::say;

/// What has been put out, and what spins under it.
pub(super) struct Screen {
    is_terminal: bool,
    spinner: Option<ProgressBar>,
    status: String,
    began: Instant,
    is_at_line_start: bool,
}

impl Screen {
    pub(super) fn new(is_terminal: bool) -> Self {
        Self { is_terminal, spinner: None, status: String::new(), began: Instant::now(), is_at_line_start: true }
    }

    pub(super) fn show(&mut self, piece: Piece) {
        match piece {
            Piece::Status(status) => {
                self.status = status;
                self.spin();
            }
            Piece::Text(text) if text.is_empty() => {}
            Piece::Text(text) => {
                // A spinner would overwrite the line that is being written.
                self.hide();
                say(&text);
                self.is_at_line_start = text.ends_with('\n');
            }
            Piece::LineEnd => self.end_line(),
            Piece::Line(line) => {
                self.end_line();
                let text = format!("{line}\n");
                match &self.spinner {
                    Some(spinner) => spinner.suspend(|| say(&text)),
                    None => say(&text),
                }
            }
        }
    }

    /// Shows a line that is not from the run.
    pub(super) fn note(&mut self, text: &str) {
        self.hide();
        self.end_line();
        eprintln!("{text}");
        self.spin();
    }

    pub(super) fn end(&mut self) {
        self.hide();
        self.end_line();
    }

    fn end_line(&mut self) {
        if !self.is_at_line_start {
            say("\n");
            self.is_at_line_start = true;
        }
    }

    fn hide(&mut self) {
        if let Some(spinner) = self.spinner.take() {
            spinner.finish_and_clear();
        }
    }

    fn spin(&mut self) {
        if !self.is_terminal || !self.is_at_line_start || self.status.is_empty() {
            return;
        }
        // Draws to standard error, and nothing where that is no terminal.
        let spinner = self.spinner.get_or_insert_with(|| {
            let style = ProgressStyle::with_template("{spinner:.cyan} {wide_msg:.dim} {elapsed:.dim}");
            let spinner = ProgressBar::new_spinner().with_elapsed(self.began.elapsed());
            spinner.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
            spinner.enable_steady_tick(Duration::from_millis(100));
            spinner
        });
        spinner.set_message(self.status.clone());
    }
}
