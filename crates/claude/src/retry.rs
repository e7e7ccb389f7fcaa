//! When to try again, and after how long: the official clients' rule, with more attempts and a longer cap.
//!
//! A header decides where there is one; else the delay doubles from half a second, shortened by up to a quarter at random
//! so that many runs which failed together do not come back together.

use std::time::{Duration, SystemTime};

use reqwest::header::HeaderMap;

const FIRST_DELAY: Duration = Duration::from_millis(500);

/// The delay before attempt `attempt` (the first repetition is 1). `jitter` is between 0 and 1.
pub(crate) fn delay(attempt: u32, asked: Option<Duration>, cap: Duration, jitter: f64) -> Duration {
    if let Some(asked) = asked.filter(|asked| !asked.is_zero()) {
        return asked.min(cap);
    }
    let doubled = FIRST_DELAY.saturating_mul(1_u32.checked_shl(attempt.saturating_sub(1)).unwrap_or(u32::MAX));
    doubled.min(cap).mul_f64(1.0 - 0.25 * jitter.clamp(0.0, 1.0))
}

/// What the answer's headers ask for: `retry-after-ms`, else `retry-after` in seconds or as an HTTP date.
pub(crate) fn asked(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let header = |name| headers.get(name)?.to_str().ok().map(str::trim);
    let seconds = |number: f64| Duration::try_from_secs_f64(number).ok().filter(|delay| !delay.is_zero());
    if let Some(delay) = header("retry-after-ms").and_then(|text| seconds(text.parse::<f64>().ok()? / 1000.0)) {
        return Some(delay);
    }
    let text = header("retry-after")?;
    match text.parse::<f64>() {
        Ok(number) => seconds(number),
        Err(_) => httpdate::parse_http_date(text).ok()?.duration_since(now).ok(),
    }
}

/// `x-should-retry`, which overrules the status where it is sent.
pub(crate) fn should_retry(headers: &HeaderMap) -> Option<bool> {
    match headers.get("x-should-retry")?.to_str().ok()? {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAP: Duration = Duration::from_secs(60);

    #[test]
    fn the_delay_doubles_up_to_the_cap() {
        let delays: Vec<u64> = (1..=10).map(|attempt| delay(attempt, None, CAP, 0.0).as_millis() as u64).collect();
        assert_eq!(delays, [500, 1000, 2000, 4000, 8000, 16000, 32000, 60000, 60000, 60000]);
        assert_eq!(delay(1, None, CAP, 1.0), Duration::from_millis(375));
        assert_eq!(delay(400, None, CAP, 0.0), CAP);
        assert_eq!(delay(3, Some(Duration::from_millis(20)), CAP, 1.0), Duration::from_millis(20));
        assert_eq!(delay(3, Some(Duration::from_secs(600)), CAP, 0.0), CAP);
    }

    #[test]
    fn headers_say_how_long() {
        let now = httpdate::parse_http_date("Tue, 24 Nov 2026 10:00:00 GMT").unwrap();
        type Headers = &'static [(&'static str, &'static str)];
        let cases: &[(Headers, Option<u64>)] = &[
            (&[], None),
            (&[("retry-after", "2")], Some(2000)),
            (&[("retry-after", "0.25")], Some(250)),
            (&[("retry-after", "0")], None),
            (&[("retry-after", "-3")], None),
            (&[("retry-after", "soon")], None),
            (&[("retry-after", "Tue, 24 Nov 2026 10:00:07 GMT")], Some(7000)),
            (&[("retry-after", "Tue, 24 Nov 2026 09:00:00 GMT")], None),
            (&[("retry-after-ms", "120.5"), ("retry-after", "9")], Some(120)),
            (&[("retry-after-ms", "nonsense"), ("retry-after", "9")], Some(9000)),
        ];
        for (pairs, expected) in cases {
            let mut headers = HeaderMap::new();
            for (name, value) in *pairs {
                headers.insert(*name, value.parse().unwrap());
            }
            assert_eq!(asked(&headers, now).map(|delay| delay.as_millis() as u64), *expected, "{pairs:?}");
        }
    }
}
