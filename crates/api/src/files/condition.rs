//! What a client has already, and which part it wants: conditions and ranges of a download (RFC 9110, 13 and 14).
//!
//! Several ranges at once are answered with the whole, as a server may; so is what cannot be read.

use axum::http::{HeaderMap, HeaderName, header};
use chrono::{DateTime, Utc};

/// What to answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    Whole,
    /// From the first byte, that many.
    Part(u64, u64),
    /// The client has it.
    NotModified,
    /// 412: it is not what the client thinks it is.
    Changed,
    /// 416: no part of it lies where the client wants one.
    Nothing,
}

/// A file as its reader sees it.
pub(super) struct Version<'a> {
    /// In quotes.
    pub(super) etag: &'a str,
    pub(super) modified: DateTime<Utc>,
    pub(super) size: u64,
}

/// Decides by the headers of a request, in the order the standard gives.
pub(super) fn wanted(headers: &HeaderMap, version: &Version<'_>) -> Wanted {
    if let Some(tags) = text(headers, header::IF_MATCH) {
        if !names(tags, version.etag, Compare::Strong) {
            return Wanted::Changed;
        }
    } else if time(headers, header::IF_UNMODIFIED_SINCE).is_some_and(|time| version.modified.timestamp() > time) {
        return Wanted::Changed;
    }
    if let Some(tags) = text(headers, header::IF_NONE_MATCH) {
        if names(tags, version.etag, Compare::Weak) {
            return Wanted::NotModified;
        }
    } else if time(headers, header::IF_MODIFIED_SINCE).is_some_and(|time| version.modified.timestamp() <= time) {
        return Wanted::NotModified;
    }
    // A part of another version would not fit what the client has.
    let is_of_this = match text(headers, header::IF_RANGE) {
        None => true,
        Some(tag) if tag.starts_with('"') => tag == version.etag,
        // A date says nothing about changes within its second.
        Some(_) => false,
    };
    match text(headers, header::RANGE).filter(|_| is_of_this) {
        Some(range) => part(range, version.size),
        None => Wanted::Whole,
    }
}

fn part(range: &str, size: u64) -> Wanted {
    let Some((unit, range)) = range.split_once('=') else { return Wanted::Whole };
    let Some((first, last)) = range.trim().split_once('-') else { return Wanted::Whole };
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return Wanted::Whole;
    }
    match (number(first), number(last)) {
        // The last so many bytes.
        (None, Some(count)) if first.is_empty() => match count.min(size) {
            0 => Wanted::Nothing,
            count => Wanted::Part(size - count, count),
        },
        (Some(first), last_number) if last.is_empty() || last_number.is_some() => {
            let last = last_number.unwrap_or(u64::MAX);
            if last < first {
                Wanted::Whole
            } else if first >= size {
                Wanted::Nothing
            } else {
                Wanted::Part(first, last.min(size - 1) - first + 1)
            }
        }
        _ => Wanted::Whole,
    }
}

/// Reads digits only; one that is too large for us is beyond the end of any file.
fn number(text: &str) -> Option<u64> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().unwrap_or(u64::MAX))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Compare {
    Strong,
    Weak,
}

/// Tells whether a list of tags names this one.
fn names(tags: &str, etag: &str, compare: Compare) -> bool {
    tags.trim() == "*"
        || tags.split(',').map(str::trim).any(|tag| match tag.strip_prefix("W/") {
            Some(tag) => compare == Compare::Weak && tag == etag,
            None => tag == etag,
        })
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

/// Reads a date as seconds since 1970.
fn time(headers: &HeaderMap, name: HeaderName) -> Option<i64> {
    let time = httpdate::parse_http_date(text(headers, name)?).ok()?;
    i64::try_from(time.duration_since(std::time::UNIX_EPOCH).ok()?.as_secs()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(headers: &[(&'static str, &str)], size: u64) -> Wanted {
        let modified = DateTime::from_timestamp(1_000_000_000, 500).expect("a time");
        let headers =
            headers.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().expect("a value")));
        wanted(&headers.collect(), &Version { etag: "\"v1\"", modified, size })
    }

    #[test]
    fn ranges_are_read_as_the_standard_says() {
        use Wanted::{Nothing, Part, Whole};
        for (range, wanted) in [
            ("bytes=0-0", Part(0, 1)),
            ("bytes=0-", Part(0, 10)),
            ("bytes=3-5", Part(3, 3)),
            ("bytes=9-100", Part(9, 1)),
            ("bytes=-4", Part(6, 4)),
            ("bytes=-100", Part(0, 10)),
            ("BYTES = 2-2", Part(2, 1)),
            ("bytes=0-99999999999999999999999", Part(0, 10)),
            ("bytes=10-", Nothing),
            ("bytes=99999999999999999999999-", Nothing),
            ("bytes=-0", Nothing),
            ("bytes=5-3", Whole),
            ("bytes=0-1,3-4", Whole),
            ("bytes=-", Whole),
            ("bytes=a-b", Whole),
            ("bytes=+1-2", Whole),
            ("lines=0-1", Whole),
            ("", Whole),
        ] {
            assert_eq!(asked(&[("range", range)], 10), wanted, "{range}");
        }
        assert_eq!(asked(&[("range", "bytes=0-")], 0), Nothing);
        assert_eq!(asked(&[("range", "bytes=-5")], 0), Nothing);
    }

    #[test]
    fn conditions_are_looked_at_in_order() {
        use Wanted::{Changed, NotModified, Part, Whole};
        let (before, same, after) =
            ("Sun, 09 Sep 2001 01:46:39 GMT", "Sun, 09 Sep 2001 01:46:40 GMT", "Sun, 09 Sep 2001 01:46:41 GMT");
        for (headers, wanted) in [
            (&[("if-none-match", "\"v1\"")][..], NotModified),
            (&[("if-none-match", "\"v0\", W/\"v1\"")], NotModified),
            (&[("if-none-match", "*")], NotModified),
            (&[("if-none-match", "\"v0\""), ("if-modified-since", after)], Whole),
            (&[("if-modified-since", same)], NotModified),
            (&[("if-modified-since", before)], Whole),
            (&[("if-modified-since", "no date")], Whole),
            (&[("if-match", "\"v0\"")], Changed),
            (&[("if-match", "W/\"v1\"")], Changed),
            (&[("if-match", "\"v1\""), ("range", "bytes=1-2")], Part(1, 2)),
            (&[("if-unmodified-since", before)], Changed),
            (&[("if-unmodified-since", same)], Whole),
            (&[("if-range", "\"v1\""), ("range", "bytes=1-2")], Part(1, 2)),
            (&[("if-range", "\"v0\""), ("range", "bytes=1-2")], Whole),
            (&[("if-range", "W/\"v1\""), ("range", "bytes=1-2")], Whole),
            (&[("if-range", same), ("range", "bytes=1-2")], Whole),
        ] {
            assert_eq!(asked(headers, 10), wanted, "{headers:?}");
        }
    }
}
