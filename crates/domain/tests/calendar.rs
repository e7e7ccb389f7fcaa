//! R17: what the calendar says, held against an oracle that knows no calendar. It looks at each minute that really
//! passes around each moment at which a zone sets its clocks, and asks what the clock on the wall shows.

use std::collections::BTreeSet;

use chrono::{DateTime, Datelike, NaiveDateTime, Offset, TimeDelta, TimeZone, Timelike, Utc};
use domain::schedule::{Timing, Tz};
use rand::{RngExt, SeedableRng, rngs::SmallRng};

/// Fixed times, steps, lists and ranges; days of months and weeks, and both.
const EXPRESSIONS: [&str; 50] = [
    "* * * * *",
    "*/5 * * * *",
    "*/7 * * * *",
    "*/30 * * * *",
    "0 * * * *",
    "15 * * * *",
    "59 * * * *",
    "0,30 * * * *",
    "10-20 * * * *",
    "10-50/10 * * * *",
    "0 */2 * * *",
    "30 */3 * * *",
    "*/15 2 * * *",
    "*/10 1-3 * * *",
    "* 2 * * *",
    "0 0 * * *",
    "30 0 * * *",
    "0 1 * * *",
    "15 1 * * *",
    "30 1 * * *",
    "59 1 * * *",
    "0 2 * * *",
    "1 2 * * *",
    "15 2 * * *",
    "30 2 * * *",
    "45 2 * * *",
    "59 2 * * *",
    "0 3 * * *",
    "30 3 * * *",
    "0,15,45 2 * * *",
    "0 1,2,3 * * *",
    "30 1-3 * * *",
    "0-59/20 2-3 * * *",
    "0 12 * * *",
    "59 23 * * *",
    "30 23 * * *",
    "0 9 * * MON-FRI",
    "30 2 * * SUN",
    "30 2 * * 0",
    "30 2 * * 7",
    "0 0 * * SAT,SUN",
    "30 1 1 * *",
    "0 2 28-31 * *",
    "30 2 */2 * *",
    "30 2 * 3 *",
    "30 1 * 10,11 *",
    "0 0 1 1 *",
    "30 2 13 * 5",
    "0 0 29 2 *",
    "0 3 * MAR-NOV 1-5",
];

/// An expression as sets of numbers, read here and not by the library.
struct Oracle {
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    /// Either of both days is enough where both are told.
    either_day: bool,
    /// It names times of the day; what begins with a star repeats with the time that passes.
    is_fixed: bool,
}

impl Oracle {
    fn new(expression: &str) -> Self {
        let fields: Vec<_> = expression.split(' ').collect();
        let [minute, hour, day, month, weekday] = fields[..] else { panic!("five fields: {expression}") };
        let months = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];
        let weekdays = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];
        let week = set(weekday, 0, 7, &weekdays, 0);
        Self {
            minutes: set(minute, 0, 59, &[], 0),
            hours: set(hour, 0, 23, &[], 0),
            days: set(day, 1, 31, &[], 0),
            months: set(month, 1, 12, &months, 1),
            weekdays: week | week >> 7,
            either_day: !day.starts_with('*') && !weekday.starts_with('*'),
            is_fixed: !minute.starts_with('*') && !hour.starts_with('*'),
        }
    }

    /// Tells whether a clock on the wall that shows this is meant.
    fn shows(&self, wall: NaiveDateTime) -> bool {
        let has = |set: u64, number: u32| set >> number & 1 == 1;
        let (day, weekday) = (has(self.days, wall.day()), has(self.weekdays, wall.weekday().num_days_from_sunday()));
        has(self.minutes, wall.minute())
            && has(self.hours, wall.hour())
            && has(self.months, wall.month())
            && if self.either_day { day || weekday } else { day && weekday }
    }

    /// Gives the moments of a stretch of time.
    fn moments(&self, minutes: &[(DateTime<Utc>, NaiveDateTime)]) -> Vec<DateTime<Utc>> {
        let mut shown = BTreeSet::new();
        let mut moments = Vec::new();
        for pair in minutes.windows(2) {
            let ((_, before), (at, wall)) = (pair[0], pair[1]);
            let is_first = shown.insert(wall);
            let skipped = self.is_fixed && {
                let mut missing = before + TimeDelta::minutes(1);
                let mut skipped = false;
                while missing < wall {
                    skipped |= self.shows(missing);
                    missing += TimeDelta::minutes(1);
                }
                skipped
            };
            if skipped || self.shows(wall) && (is_first || !self.is_fixed) {
                moments.push(at);
            }
        }
        moments
    }
}

/// Reads one field: numbers, names, ranges, steps and lists of those.
fn set(field: &str, first: u32, last: u32, names: &[&str], base: u32) -> u64 {
    let number = |text: &str| match names.iter().position(|name| *name == text) {
        Some(place) => place as u32 + base,
        None => text.parse().expect("a number"),
    };
    let mut all = 0;
    for part in field.split(',') {
        let (range, step) = part.split_once('/').unwrap_or((part, "1"));
        let (from, to) = match range.split_once('-') {
            _ if range == "*" => (first, last),
            Some((from, to)) => (number(from), number(to)),
            None => (number(range), number(range)),
        };
        for number in (from..=to).step_by(step.parse().expect("a number")) {
            all |= 1 << number;
        }
    }
    all
}

/// Gives the days within ten years at whose ends a zone's clock differs by another amount from UTC.
fn changes(zone: Tz) -> Vec<DateTime<Utc>> {
    let begin = Utc.with_ymd_and_hms(2020, 1, 1, 0, 0, 0).single().expect("a time");
    let offset = |day: i64| zone.offset_from_utc_datetime(&(begin + TimeDelta::days(day)).naive_utc()).fix();
    (0..3650).filter(|&day| offset(day) != offset(day + 1)).map(|day| begin + TimeDelta::days(day)).collect()
}

/// `ATELIER_TEST_ZONES` sets how many zones, of which a random one each is taken; all are some 600.
#[test]
fn around_each_change_of_the_clocks_everything_fires_when_a_clock_on_the_wall_says_so() {
    let wanted = std::env::var("ATELIER_TEST_ZONES").ok().and_then(|text| text.parse().ok()).unwrap_or(6);
    let seed: u64 = rand::random();
    let mut random = SmallRng::seed_from_u64(seed);
    let mut zones: Vec<Tz> = chrono_tz::TZ_VARIANTS.to_vec();
    let oracles: Vec<_> = EXPRESSIONS.iter().map(|text| (text, Oracle::new(text))).collect();
    let timings: Vec<_> = EXPRESSIONS.iter().map(|text| Timing::Recurring(text.parse().expect(text))).collect();
    let (mut tried, mut compared, mut with_changes) = (0, 0, 0);
    // More of them where none of these ever sets its clocks.
    while (tried < wanted || with_changes == 0) && !zones.is_empty() {
        let zone = zones.swap_remove(random.random_range(0..zones.len()));
        tried += 1;
        let changes = changes(zone);
        with_changes += usize::from(!changes.is_empty());
        // Where there is none, a year of its own choice is looked at.
        let quiet = Utc.with_ymd_and_hms(random.random_range(2020..2030), 2, 28, 0, 0, 0).single().expect("a time");
        for day in changes.into_iter().chain([quiet]) {
            let begin = day - TimeDelta::hours(12);
            let minutes: Vec<_> = (0..2 * 24 * 60)
                .map(|minute| begin + TimeDelta::minutes(minute))
                .map(|at| (at, at.with_timezone(&zone).naive_local()))
                .collect();
            let end = minutes.last().expect("some").0;
            for ((text, oracle), timing) in oracles.iter().zip(&timings) {
                let expected = oracle.moments(&minutes);
                let moments = std::iter::successors(timing.next(zone, begin), |last| timing.next(zone, *last));
                let found: Vec<_> = moments.take_while(|moment| *moment <= end).collect();
                assert_eq!(found, expected, "{text} in {zone} from {begin} (seed {seed})");
                for until in minutes[1..].iter().step_by(241) {
                    let newest = expected.iter().rev().find(|moment| **moment <= until.0);
                    if let (Some(newest), Some(first)) = (newest, expected.first()) {
                        let found = timing.latest(zone, *first, until.0);
                        assert_eq!(found, *newest, "{text} in {zone} until {} (seed {seed})", until.0);
                    }
                }
                compared += expected.len();
            }
        }
    }
    assert!(with_changes > 0 && compared > 1000, "{with_changes} zones, {compared} moments");
    println!(
        r#"{{"test":"R17","zones":{tried},"with_changes":{with_changes},"moments":{compared},"wrong":0,"pass":true}}"#
    );
}
