//! How single values are written: durations, sizes, addresses, secrets. Each error says what is allowed.

use std::{fmt, net::SocketAddr, ops::Deref, path::PathBuf, time::Duration};

use figment::value::Value;
use secrecy::SecretString;
use serde::{
    Deserialize, Deserializer,
    de::{Error, Visitor},
};
use url::Url;

use super::{ImageProvider, LogFormat, SearchProvider};

/// A text that is not empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Text(String);

impl Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match text(deserializer)? {
            text if text.is_empty() => Err(Error::custom("must not be empty")),
            text => Ok(Self(text)),
        }
    }
}

/// Reads a text. In the environment everything is text, but `12345` is read as a number before it comes here.
fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    struct Scalar;
    impl Visitor<'_> for Scalar {
        type Value = String;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a text")
        }
        fn visit_str<E: Error>(self, text: &str) -> Result<String, E> {
            Ok(text.trim().to_owned())
        }
        fn visit_bool<E: Error>(self, value: bool) -> Result<String, E> {
            Ok(value.to_string())
        }
        fn visit_i64<E: Error>(self, value: i64) -> Result<String, E> {
            Ok(value.to_string())
        }
        fn visit_u64<E: Error>(self, value: u64) -> Result<String, E> {
            Ok(value.to_string())
        }
        fn visit_f64<E: Error>(self, value: f64) -> Result<String, E> {
            Ok(value.to_string())
        }
    }
    deserializer.deserialize_any(Scalar)
}

pub(super) fn optional_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Ok(Some(text(deserializer)?).filter(|text| !text.is_empty()))
}

pub(super) fn optional_secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SecretString>, D::Error> {
    // Whatever is wrong with it must not be shown.
    let text = optional_text(deserializer).map_err(|_| Error::custom("must be a text (its value is not shown)"))?;
    Ok(text.map(SecretString::from))
}

pub(super) fn path<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
    Text::deserialize(deserializer).map(|text| PathBuf::from(text.0))
}

pub(super) fn optional_path<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<PathBuf>, D::Error> {
    Ok(optional_text(deserializer)?.map(PathBuf::from))
}

pub(super) fn address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SocketAddr, D::Error> {
    parse_address(&text(deserializer)?).map_err(Error::custom)
}

pub(super) fn optional_address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SocketAddr>, D::Error> {
    optional_text(deserializer)?.map(|text| parse_address(&text).map_err(Error::custom)).transpose()
}

fn parse_address(text: &str) -> Result<SocketAddr, String> {
    let address = text.strip_prefix("localhost:").map_or(text.to_owned(), |port| format!("127.0.0.1:{port}"));
    address
        .parse()
        .map_err(|_| format!("must be an address with a port, like 127.0.0.1:8080 or [::1]:8080, not {text:?}"))
}

fn parse_url(text: &str) -> Result<Url, String> {
    match Url::parse(text) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => Ok(url),
        Ok(_) | Err(_) => Err(format!("must be a URL that begins with http:// or https://, not {text:?}")),
    }
}

pub(super) fn url<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Url, D::Error> {
    parse_url(&text(deserializer)?).map_err(Error::custom)
}

pub(super) fn optional_url<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Url>, D::Error> {
    optional_text(deserializer)?.map(|text| parse_url(&text).map_err(Error::custom)).transpose()
}

pub(super) fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    checked_duration(&text(deserializer)?).map_err(Error::custom)
}

fn checked_duration(text: &str) -> Result<Duration, String> {
    match parse_duration(text) {
        Some(duration) if !duration.is_zero() => Ok(duration),
        Some(_) | None => Err(format!("must be a duration like \"500ms\", \"10s\", \"15m\" or \"2h\", not {text:?}")),
    }
}

pub(super) fn optional_duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    optional_text(deserializer)?.map(|text| checked_duration(&text).map_err(Error::custom)).transpose()
}

/// How often; 0 is never.
pub(super) fn interval<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    match text(deserializer)?.as_str() {
        "0" | "0s" => Ok(None),
        text => checked_duration(text).map(Some).map_err(Error::custom),
    }
}

/// US dollars; 0 is no limit.
pub(super) fn dollars<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    let text = text(deserializer)?;
    match text.parse::<f64>() {
        Ok(dollars) if dollars >= 0.0 && dollars.is_finite() => Ok(dollars),
        Ok(_) | Err(_) => Err(Error::custom(format!("must be a number of US dollars, 0 or more, not {text:?}"))),
    }
}

/// Reads `500ms`, `10s`, `15m`, `2h` or `30d`.
pub(crate) fn parse_duration(text: &str) -> Option<Duration> {
    let (number, unit) = split_unit(text)?;
    let unit_ms = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    number.checked_mul(unit_ms).map(Duration::from_millis)
}

fn split_unit(text: &str) -> Option<(u64, &str)> {
    let text = text.trim();
    let digits = text.find(|digit: char| !digit.is_ascii_digit()).unwrap_or(text.len());
    Some((text[..digits].parse().ok()?, text[digits..].trim()))
}

pub(super) fn bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let text = text(deserializer)?;
    match parse_bytes(&text) {
        Some(bytes) if bytes > 0 => Ok(bytes),
        Some(_) | None => {
            Err(Error::custom(format!("must be a number of bytes or a size like \"10MiB\" or \"4GiB\", not {text:?}")))
        }
    }
}

fn parse_bytes(text: &str) -> Option<u64> {
    let (number, unit) = split_unit(text)?;
    let shift = match unit {
        "" | "B" => 0,
        "KiB" | "K" => 10,
        "MiB" | "M" => 20,
        "GiB" | "G" => 30,
        "TiB" | "T" => 40,
        _ => return None,
    };
    number.checked_mul(1 << shift)
}

/// Writes `4.0 GiB`.
pub(crate) fn show_bytes(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if value < 1024.0 {
            return if unit == "B" { format!("{bytes} B") } else { format!("{value:.1} {unit}") };
        }
        value /= 1024.0;
    }
    format!("{value:.1} TiB")
}

pub(super) fn positive<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    let text = text(deserializer)?;
    match text.parse() {
        Ok(number) if number > 0 => Ok(number),
        Ok(_) | Err(_) => Err(Error::custom(format!("must be a whole number above 0, not {text:?}"))),
    }
}

pub(super) fn whole<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    let text = text(deserializer)?;
    text.parse().map_err(|_| Error::custom(format!("must be a whole number, 0 or above, not {text:?}")))
}

/// For what may be left out: not set is not 0.
pub(super) fn optional_whole<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    whole(deserializer).map(Some)
}

pub(super) fn boolean<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    let text = text(deserializer)?;
    text.parse().map_err(|_| Error::custom(format!("must be true or false, not {text:?}")))
}

pub(super) fn cpus<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    let text = text(deserializer)?;
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() && number >= 0.01 => Ok(number),
        Ok(_) | Err(_) => {
            Err(Error::custom(format!("must be a number of processor cores, like 2 or 0.5, not {text:?}")))
        }
    }
}

pub(super) fn user<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let Some(text) = optional_text(deserializer)? else { return Ok(None) };
    let is_ids =
        text.split_once(':').is_some_and(|(uid, gid)| uid.parse::<u32>().is_ok() && gid.parse::<u32>().is_ok());
    if is_ids { Ok(Some(text)) } else { Err(Error::custom(format!("must be \"uid:gid\" in numbers, not {text:?}"))) }
}

pub(super) fn auth<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<claude::Auth>, D::Error> {
    match text(deserializer)?.as_str() {
        "" => Ok(None),
        "api-key" => Ok(Some(claude::Auth::ApiKey)),
        "bearer" => Ok(Some(claude::Auth::Bearer)),
        "both" => Ok(Some(claude::Auth::Both)),
        other => Err(Error::custom(format!("must be \"api-key\", \"bearer\", \"both\" or empty, not {other:?}"))),
    }
}

pub(super) fn log_level<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = Text::deserialize(deserializer)?.0;
    // The filter takes a word that is no level for the name of a module, all of which it then shows.
    let is_level = |word: &str| word.parse::<tracing::Level>().is_ok() || word.eq_ignore_ascii_case("off");
    let mut bare = text.split(',').map(str::trim).filter(|directive| !directive.contains(['=', '[']));
    match text.parse::<tracing_subscriber::EnvFilter>() {
        Ok(_) if bare.all(is_level) => Ok(text),
        Ok(_) | Err(_) => Err(Error::custom(format!(
            "must be error, warn, info, debug or trace, also per module like \"info,executor=debug\", not {text:?}"
        ))),
    }
}

pub(super) fn log_format<'de, D: Deserializer<'de>>(deserializer: D) -> Result<LogFormat, D::Error> {
    match text(deserializer)?.as_str() {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        other => Err(Error::custom(format!("must be \"text\" or \"json\", not {other:?}"))),
    }
}

pub(super) fn search_provider<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SearchProvider, D::Error> {
    match text(deserializer)?.as_str() {
        "" => Ok(SearchProvider::Auto),
        "claude" => Ok(SearchProvider::Claude),
        "searxng" => Ok(SearchProvider::Searxng),
        "brave" => Ok(SearchProvider::Brave),
        "tavily" => Ok(SearchProvider::Tavily),
        "none" => Ok(SearchProvider::None),
        other => Err(Error::custom(format!(
            "must be \"claude\", \"searxng\", \"brave\", \"tavily\", \"none\" or empty, not {other:?}"
        ))),
    }
}

pub(super) fn image_provider<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ImageProvider, D::Error> {
    match text(deserializer)?.as_str() {
        "" => Ok(ImageProvider::Auto),
        "openai" => Ok(ImageProvider::OpenAi),
        "gemini" => Ok(ImageProvider::Gemini),
        "automatic1111" => Ok(ImageProvider::Automatic1111),
        "none" => Ok(ImageProvider::None),
        other => Err(Error::custom(format!(
            "must be \"openai\", \"gemini\", \"automatic1111\", \"none\" or empty, not {other:?}"
        ))),
    }
}

/// Reads a value of the environment: a list or a number where it looks like one, else a text.
pub(super) fn from_environment(text: &str) -> Value {
    text.parse().unwrap_or_else(|never: std::convert::Infallible| match never {})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_are_read_with_their_units() {
        assert_eq!(parse_duration("500ms"), Some(Duration::from_millis(500)));
        assert_eq!(parse_duration("15 min"), Some(Duration::from_secs(900)));
        assert_eq!(parse_duration("30d"), Some(Duration::from_secs(30 * 86_400)));
        for wrong in ["", "10", "s", "-1s", "1.5h", "1w", "99999999999999999999s", "18446744073709551615d"] {
            assert_eq!(parse_duration(wrong), None, "{wrong}");
        }
        assert_eq!(parse_bytes("1024"), Some(1024));
        assert_eq!(parse_bytes("10MiB"), Some(10 << 20));
        for wrong in ["", "MiB", "10MB", "1.5GiB", "18446744073709551615K"] {
            assert_eq!(parse_bytes(wrong), None, "{wrong}");
        }
        assert_eq!(show_bytes(900), "900 B");
        assert_eq!(show_bytes(4 << 30), "4.0 GiB");
    }
}
