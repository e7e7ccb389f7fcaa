//! What this binary was built from.

use std::sync::LazyLock;

use chrono::{DateTime, SecondsFormat};

/// For `--version`.
pub(crate) static VERSION: LazyLock<String> = LazyLock::new(|| {
    let mut text = env!("CARGO_PKG_VERSION").to_owned();
    let details: Vec<String> =
        [git_commit(), built_at().map(|time| format!("built {time}"))].into_iter().flatten().collect();
    if !details.is_empty() {
        text = format!("{text} ({})", details.join(", "));
    }
    text
});

/// For the API.
pub(crate) fn version() -> api::Version {
    api::Version { version: env!("CARGO_PKG_VERSION").to_owned(), built_at: built_at(), git_commit: git_commit() }
}

fn git_commit() -> Option<String> {
    Some(env!("ATELIER_GIT_COMMIT").to_owned()).filter(|commit| !commit.is_empty())
}

fn built_at() -> Option<String> {
    let seconds: i64 = env!("ATELIER_BUILT_AT").parse().ok()?;
    Some(DateTime::from_timestamp(seconds, 0)?.to_rfc3339_opts(SecondsFormat::Secs, true))
}
