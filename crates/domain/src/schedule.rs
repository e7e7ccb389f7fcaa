//! Schedules: work that starts by itself, at the moments of a calendar.
//!
//! The calendar is `croner`'s and the time zones are `chrono-tz`'s. Where a clock is set forward or back, cron's rule since
//! Vixie holds: a fixed time that a day skips comes at the first moment after the gap, one that a day has twice comes
//! once, and what repeats by the minute or hour goes by the time that really passes. The library keeps it for single
//! times, not for lists and ranges of them; so fixed times are found on the clock on the wall, which knows no gaps, and
//! brought into the zone here.

use std::{fmt, str::FromStr};

use chrono::{DateTime, NaiveDateTime, TimeDelta, TimeZone, Utc};
pub use chrono_tz::Tz;
use croner::{
    Cron,
    parser::{CronParser, Seconds, Year},
};
use serde_json::{Map, Value};

use crate::{AgentId, EnvironmentId, ExecutionId, ProjectId, RunId, ScheduleId, ThreadId, run::RunStatus, word::words};

/// What fires later than this after its moment was missed.
pub const GRACE: TimeDelta = TimeDelta::minutes(1);

/// This many executions that failed one after another switch a schedule off.
pub const MAX_FAILURES: usize = 5;

/// A cron expression of five fields, checked.
#[derive(Debug, Clone)]
pub struct CronExpression(Box<Cron>, String);

/// Why a text is no cron expression.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidCron(String);

impl FromStr for CronExpression {
    type Err = InvalidCron;

    fn from_str(text: &str) -> Result<Self, InvalidCron> {
        let parser =
            CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).dom_and_dow(false).build();
        match parser.parse(text) {
            Ok(cron) => Ok(Self(Box::new(cron), text.split_whitespace().collect::<Vec<_>>().join(" "))),
            Err(err) => Err(InvalidCron(format!("not a cron expression of five fields: {err}"))),
        }
    }
}

impl CronExpression {
    /// Tells whether it names times of the day. What begins with a star repeats with the time that passes.
    fn is_fixed(&self) -> bool {
        self.1 != "@hourly" && !self.1.split(' ').take(2).any(|field| field.starts_with('*'))
    }

    /// Gives the first moment after `after`. An expression whose day never comes (30 February) has none.
    fn next(&self, zone: Tz, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        if !self.is_fixed() {
            return self.0.find_next_occurrence(&after.with_timezone(&zone), false).ok().map(|next| next.to_utc());
        }
        let next = |wall: &NaiveDateTime| self.0.find_next_occurrence(&wall.and_utc(), false).ok();
        let mut wall = after.with_timezone(&zone).naive_local();
        loop {
            wall = next(&wall)?.naive_utc();
            // What a day has twice was there already, and what it skips comes together.
            if let Some(moment) = moment_of(zone, wall).filter(|moment| *moment > after) {
                return Some(moment);
            }
        }
    }

    /// Gives the last moment that is not after `until`.
    fn previous(&self, zone: Tz, until: DateTime<Utc>) -> Option<DateTime<Utc>> {
        if !self.is_fixed() {
            let found = self.0.find_previous_occurrence(&until.with_timezone(&zone), true);
            return found.ok().map(|previous| previous.to_utc());
        }
        let previous = |wall: &NaiveDateTime| self.0.find_previous_occurrence(&wall.and_utc(), false).ok();
        // The second time that a clock shows 02:10, 02:50 has been.
        let mut wall = until.with_timezone(&zone).naive_local() + TimeDelta::days(1);
        loop {
            wall = previous(&wall)?.naive_utc();
            if let Some(moment) = moment_of(zone, wall).filter(|moment| *moment <= until) {
                return Some(moment);
            }
        }
    }
}

/// Gives the first moment at which a clock on the wall shows this, or no longer a time before it.
fn moment_of(zone: Tz, wall: NaiveDateTime) -> Option<DateTime<Utc>> {
    // A zone that changed sides of the date line has skipped a whole day.
    let shown = |later| zone.from_local_datetime(&(wall + TimeDelta::minutes(later))).earliest();
    (0..=24 * 60).find_map(shown).map(|moment| moment.to_utc())
}

impl fmt::Display for CronExpression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.1)
    }
}

impl PartialEq for CronExpression {
    fn eq(&self, other: &Self) -> bool {
        self.1 == other.1
    }
}

/// When a schedule fires.
#[derive(Debug, Clone, PartialEq)]
pub enum Timing {
    Once(DateTime<Utc>),
    Recurring(CronExpression),
}

impl Timing {
    /// Gives the first moment after `after`; `None` if there is none. Times of day are those of `zone`.
    pub fn next(&self, zone: Tz, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        match self {
            Self::Once(at) => Some(*at).filter(|at| *at > after),
            Self::Recurring(cron) => cron.next(zone, after),
        }
    }

    /// Gives the next moments, `count` at most.
    pub fn upcoming(&self, zone: Tz, after: DateTime<Utc>, count: usize) -> Vec<DateTime<Utc>> {
        std::iter::successors(self.next(zone, after), |last| self.next(zone, *last)).take(count).collect()
    }

    /// Gives the newest moment that is not after `until`, of those from `first` on, which is one of them.
    pub fn latest(&self, zone: Tz, first: DateTime<Utc>, until: DateTime<Utc>) -> DateTime<Utc> {
        let Self::Recurring(cron) = self else { return first };
        cron.previous(zone, until).filter(|latest| *latest > first).unwrap_or(first)
    }
}

words! {
    /// What becomes of a moment at which no server was there.
    #[derive(Default)]
    Missed {
        /// Nothing runs; the execution says so.
        Skip = "skip",
        /// It runs once, however many moments there were.
        #[default]
        RunOnce = "run_once",
    }
}

words! {
    /// What becomes of a moment at which the run of the moment before is still under way.
    #[derive(Default)]
    Overlap {
        #[default]
        Skip = "skip",
        /// It runs when the one before is over.
        Queue = "queue",
        Parallel = "parallel",
    }
}

/// A stored schedule.
#[derive(Debug, Clone)]
pub struct Schedule {
    pub id: ScheduleId,
    pub project_id: ProjectId,
    pub name: String,
    pub description: Option<String>,
    /// `None`: no instructions but the task, and the default model.
    pub agent_id: Option<AgentId>,
    pub agent_name: Option<String>,
    /// `None`: the project's default environment when it fires.
    pub environment_id: Option<EnvironmentId>,
    pub environment_name: Option<String>,
    pub task: String,
    pub timing: Timing,
    pub timezone: Tz,
    pub enabled: bool,
    /// Why it was switched off by itself.
    pub paused_reason: Option<String>,
    pub missed: Missed,
    pub overlap: Overlap,
    pub next_run_at: Option<DateTime<Utc>>,
    /// What clients keep with it and nobody here reads.
    pub stored: Map<String, Value>,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

/// What became of a schedule's executions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    pub runs: i64,
    pub successes: i64,
    pub failures: i64,
    pub last_run_at: Option<DateTime<Utc>>,
}

words! {
    /// What the scheduler did with a moment.
    ExecutionState {
        /// It waits for the run before it.
        Waiting = "waiting",
        /// Its run was made; how that goes is told by the run.
        Started = "started",
        Skipped = "skipped",
        /// It could not start.
        Failed = "failed",
    }
}

/// A moment of a schedule that has come.
#[derive(Debug, Clone)]
pub struct Execution {
    pub id: ExecutionId,
    pub schedule_id: ScheduleId,
    pub schedule_name: String,
    pub project_id: ProjectId,
    pub is_manual: bool,
    pub scheduled_for: DateTime<Utc>,
    pub state: ExecutionState,
    pub thread_id: Option<ThreadId>,
    pub run_id: Option<RunId>,
    pub run_status: Option<RunStatus>,
    /// The server that fired it.
    pub claimed_by: String,
    /// Why it did not start, or how its run failed.
    pub error: Option<String>,
    pub thread: Option<ExecutionThread>,
    pub created_at: DateTime<Utc>,
    pub started_at: Option<DateTime<Utc>>,
    pub completed_at: Option<DateTime<Utc>>,
}

/// What an execution tells of its thread.
#[derive(Debug, Clone)]
pub struct ExecutionThread {
    pub title: Option<String>,
    pub status: String,
    pub created_at: DateTime<Utc>,
    pub completed_at: Option<DateTime<Utc>>,
    pub last_message_preview: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moments(cron: &str, zone: &str, after: &str, count: usize) -> Vec<String> {
        let timing = Timing::Recurring(cron.parse().expect(cron));
        let zone: Tz = zone.parse().expect("a zone");
        let after = after.parse().expect("a time");
        let show = |moment: DateTime<Utc>| moment.with_timezone(&zone).format("%m-%d %H:%M %z").to_string();
        timing.upcoming(zone, after, count).into_iter().map(show).collect()
    }

    #[test]
    fn a_time_that_a_day_skips_comes_once_after_the_gap() {
        // Berlin, 30 March 2025: 02:00 is followed by 03:00.
        let found = moments("30 2 * * *", "Europe/Berlin", "2025-03-29T00:00:00Z", 3);
        assert_eq!(found, ["03-29 02:30 +0100", "03-30 03:00 +0200", "03-31 02:30 +0200"]);
        // New York, 9 March 2025.
        let found = moments("15 2 * * *", "America/New_York", "2025-03-08T12:00:00Z", 2);
        assert_eq!(found, ["03-09 03:00 -0400", "03-10 02:15 -0400"]);
    }

    #[test]
    fn a_time_that_a_day_has_twice_comes_once() {
        // Berlin, 26 October 2025: 03:00 is followed by 02:00.
        let found = moments("30 2 * * *", "Europe/Berlin", "2025-10-25T12:00:00Z", 2);
        assert_eq!(found, ["10-26 02:30 +0200", "10-27 02:30 +0100"]);
    }

    #[test]
    fn what_repeats_goes_by_the_time_that_passes() {
        let found = moments("0 * * * *", "Europe/Berlin", "2025-10-25T23:30:00Z", 3);
        assert_eq!(found, ["10-26 02:00 +0200", "10-26 02:00 +0100", "10-26 03:00 +0100"]);
        let found = moments("*/30 * * * *", "Europe/Berlin", "2025-03-30T00:15:00Z", 3);
        assert_eq!(found, ["03-30 01:30 +0100", "03-30 03:00 +0200", "03-30 03:30 +0200"]);
    }

    #[test]
    fn a_day_of_month_and_a_day_of_week_are_an_or_as_in_cron() {
        let found = moments("0 0 13 * 5", "UTC", "2025-06-01T00:00:00Z", 3);
        assert_eq!(found, ["06-06 00:00 +0000", "06-13 00:00 +0000", "06-20 00:00 +0000"]);
    }

    #[test]
    fn what_is_no_cron_expression_is_refused() {
        for wrong in ["", "* * * *", "* * * * * *", "60 * * * *", "* 24 * * *", "hello", "* * 32 * *", "*/0 * * * *"] {
            assert!(wrong.parse::<CronExpression>().is_err(), "{wrong:?}");
        }
        for right in ["0 9 * * MON-FRI", "@daily", "*/15 0-6,22 1 jan *"] {
            assert!(right.parse::<CronExpression>().is_ok(), "{right:?}");
        }
    }

    #[test]
    fn a_day_that_never_comes_has_no_moment() {
        assert_eq!(moments("0 0 30 2 *", "UTC", "2025-01-01T00:00:00Z", 1), Vec::<String>::new());
    }

    #[test]
    fn the_newest_of_the_missed_moments_is_found() {
        let timing = Timing::Recurring("0 * * * *".parse().expect("valid"));
        let (first, until) = ("2025-01-01T05:00:00Z", "2025-01-01T09:59:59Z");
        let latest = timing.latest(Tz::UTC, first.parse().expect("valid"), until.parse().expect("valid"));
        assert_eq!(latest.to_rfc3339(), "2025-01-01T09:00:00+00:00");
    }
}
