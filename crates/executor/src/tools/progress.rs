//! Live output: what comes, in few pieces.
//!
//! Each piece is an event for everybody who watches, so there is a first one at once, then at most 20 a second, and
//! ever fewer: a call of ten minutes stays below 200. What comes too fast to be shown is left out here; the result has
//! it.

use std::time::Duration;

use tokio::time::Instant;

use super::text;

const INTERVAL: Duration = Duration::from_millis(50);

/// Pieces at the shortest interval; each one after that waits 5 % longer than the one before it.
const AT_FULL_SPEED: u32 = 40;

const MAX_PIECES: u32 = 200;
const MAX_PIECE_BYTES: usize = 8 * 1024;

/// Gathers output until it is time to show it.
pub(super) struct Progress<'a> {
    show: &'a (dyn Fn(String) + Send + Sync),
    waiting: String,
    has_gap: bool,
    next_at: Instant,
    interval: Duration,
    pieces: u32,
}

impl<'a> Progress<'a> {
    pub(super) fn new(show: &'a (dyn Fn(String) + Send + Sync)) -> Self {
        Self { show, waiting: String::new(), has_gap: false, next_at: Instant::now(), interval: INTERVAL, pieces: 0 }
    }

    /// Takes output.
    pub(super) fn push(&mut self, new: &str) {
        self.waiting.push_str(new);
        if self.waiting.len() > 2 * MAX_PIECE_BYTES {
            self.has_gap = true;
            let from = text::floor(&self.waiting, self.waiting.len() - MAX_PIECE_BYTES + 64);
            // From the start of a line, if one starts nearby.
            let from = self.waiting[from..].find('\n').map_or(from, |at| from + at + 1);
            self.waiting.drain(..from);
        }
    }

    /// Gives when to call [`flush`](Self::flush), `None` while there is nothing to show.
    pub(super) fn due_at(&self) -> Option<Instant> {
        (!self.waiting.is_empty() && self.pieces < MAX_PIECES).then_some(self.next_at)
    }

    /// Shows what has gathered, if it is time.
    pub(super) fn flush(&mut self, now: Instant) {
        if self.due_at().is_none_or(|due_at| due_at > now) {
            return;
        }
        let mut piece = std::mem::take(&mut self.waiting);
        if piece.len() > MAX_PIECE_BYTES - 8 {
            piece.drain(..text::floor(&piece, piece.len() - (MAX_PIECE_BYTES - 16)));
            self.has_gap = true;
        }
        if std::mem::take(&mut self.has_gap) {
            piece.insert_str(0, "[…]\n");
        }
        (self.show)(piece);
        self.pieces += 1;
        if self.pieces > AT_FULL_SPEED {
            self.interval = self.interval.mul_f64(1.05);
        }
        self.next_at = now + self.interval;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[test]
    fn ten_minutes_of_output_are_less_than_200_pieces() {
        let pieces = Mutex::new(Vec::new());
        let show = |piece: String| pieces.lock().unwrap().push(piece.len());
        let mut progress = Progress::new(&show);
        let began_at = Instant::now();
        for ms in (0..600_000).step_by(5) {
            progress.push(&"x".repeat(1000));
            progress.flush(began_at + Duration::from_millis(ms));
        }
        let pieces = pieces.into_inner().unwrap();
        assert!((100..200).contains(&pieces.len()), "{}", pieces.len());
        assert!(pieces.iter().all(|len| *len <= MAX_PIECE_BYTES));
    }
}
