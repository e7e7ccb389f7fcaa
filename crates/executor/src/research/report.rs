//! The report as a file, and the list of its sources beside it.
//!
//! Both are made of what is in the rows and nothing else, so whoever makes them again makes the same.

use chrono::{DateTime, Utc};
use domain::research::{Report, Session, Source};
use serde_json::json;

use super::citations::{Checked, escape};

/// Where reports are, in the workspace.
pub(crate) const DIRECTORY: &str = "research";

/// The longest name of a report, in characters, without what tells it from others of its name.
const MAX_SLUG_CHARS: usize = 48;

/// A report and its sources as they are written.
pub(crate) struct Files {
    pub report: Report,
    pub text: String,
    pub manifest: String,
}

/// Puts the files together.
pub(crate) fn files(session: &Session, checked: &Checked, sources: &[Source], unfinished: Vec<String>) -> Files {
    let (path, manifest_path) = paths(session);
    let text = text(checked, sources, &unfinished);
    let report = Report {
        path,
        manifest_path,
        characters: i64::try_from(text.chars().count()).unwrap_or(i64::MAX),
        dropped: checked.dropped.clone(),
        unfinished,
    };
    let manifest = manifest(session, &report, checked, sources);
    Files { report, text, manifest }
}

/// Gives where a report and the list of its sources are written.
fn paths(session: &Session) -> (String, String) {
    let mut slug = String::new();
    for c in session.query.chars().flat_map(char::to_lowercase) {
        match c {
            c if c.is_ascii_alphanumeric() => slug.push(c),
            _ if slug.ends_with('-') || slug.is_empty() => {}
            _ => slug.push('-'),
        }
        if slug.len() >= MAX_SLUG_CHARS {
            break;
        }
    }
    let slug = slug.trim_matches('-');
    let slug = if slug.is_empty() { "report" } else { slug };
    let id = session.id.as_str();
    let name = format!("{DIRECTORY}/{slug}-{}", &id[id.len().saturating_sub(8)..]);
    (format!("{name}.md"), format!("{name}.sources.json"))
}

fn text(checked: &Checked, sources: &[Source], unfinished: &[String]) -> String {
    let mut text = checked.text.trim().to_owned();
    if !unfinished.is_empty() {
        text.push_str("\n\n## What was not finished\n\nThe reading was stopped at a limit before these were done:\n");
        unfinished.iter().for_each(|question| text.push_str(&format!("\n- {}", escape(question))));
    }
    let cited: Vec<_> = sources.iter().filter(|source| checked.cited.contains(&source.number)).collect();
    text.push_str("\n\n## Sources\n");
    if cited.is_empty() {
        text.push_str("\nNone of the pages that were read is cited.");
    }
    for source in cited {
        let title = escape(source.title.as_deref().unwrap_or(&source.url));
        let day = source.fetched_at.format("%Y-%m-%d");
        text.push_str(&format!("\n- [{}] [{title}](<{}>), read {day}", source.number, source.url));
    }
    if !checked.dropped.is_empty() {
        text.push_str("\n\n## Citations that were dropped\n\nThe draft cited these, which were not read:\n");
        for name in &checked.dropped {
            text.push_str(&format!("\n- `{}`", name.replace(['`', '\n', '\r'], " ")));
        }
    }
    text.push('\n');
    text
}

fn manifest(session: &Session, report: &Report, checked: &Checked, sources: &[Source]) -> String {
    let time = |time: DateTime<Utc>| time.to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
    let sources: Vec<_> = sources
        .iter()
        .map(|source| {
            json!({
                "number": source.number,
                "url": source.url,
                "requested": source.requested,
                "title": source.title,
                "fetchedAt": time(source.fetched_at),
                "blake3": source.hash,
                "cited": checked.cited.contains(&source.number),
            })
        })
        .collect();
    let manifest = json!({
        "session": session.id.as_str(),
        "query": session.query,
        "report": report.path,
        "startedAt": time(session.created_at),
        "sources": sources,
        "dropped": report.dropped,
        "unfinished": report.unfinished,
    });
    format!("{manifest:#}\n")
}
