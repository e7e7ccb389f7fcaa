//! `/threads/search`: finding threads by the words that were said in them.

use std::time::Instant;

use axum::{Json, extract::State};
use domain::thread::ThreadStatus;
use serde::{Deserialize, Serialize};
use store::{
    Paged,
    search::{Found, FoundMessage, MARKS, Search},
};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    Api, Error, Result, auth::Caller, body::Body, error::ErrorBody, query, threads::ThreadView, timestamp::Timestamp,
};

const MAX_QUERY_CHARS: usize = 1000;

/// Messages shown of each thread.
const MESSAGES_PER_THREAD: i64 = 5;

pub(crate) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(search_threads))
}

/// What to look for.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct SearchThreads {
    /// Words, `"phrases"`, `or`, `-not`; at most 1000 characters.
    #[schema(example = "flask \"unit tests\" -docker")]
    query: String,
    environment_id: Option<String>,
    /// One of a thread's statuses, or `all`.
    status: Option<String>,
    /// How many at most: 0 to 100, 20 if absent.
    limit: Option<i64>,
    /// How many to leave out.
    offset: Option<i64>,
    /// Adds up to five matching messages of each thread.
    include_messages: Option<bool>,
}

/// What was found, best first.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct SearchResults {
    /// Always `list`.
    object: &'static str,
    results: Vec<SearchResult>,
    /// How many threads match, whatever part was asked for.
    total: i64,
    /// There is more after this part.
    has_more: bool,
    search_metadata: SearchMetadata,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct SearchMetadata {
    query: String,
    /// Always `fulltext`.
    query_type: &'static str,
    processing_time_ms: u64,
}

/// A thread that was found.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct SearchResult {
    thread: ThreadView,
    /// Higher is better; comparable only within one search.
    score: f64,
    /// Where the words are, as HTML: text with `<mark>` around the words and nothing else in it.
    #[schema(example = json!(["Create a <mark>Flask</mark> API"]))]
    highlights: Vec<String>,
    /// With `includeMessages`: the best of its messages that match.
    #[serde(skip_serializing_if = "Option::is_none")]
    matching_messages: Option<Vec<MatchingMessage>>,
}

/// A message that was found.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct MatchingMessage {
    id: String,
    #[schema(example = "user")]
    role: &'static str,
    score: f64,
    /// Where the words are, as HTML with `<mark>`.
    highlight: String,
    /// The same piece as plain text.
    content: String,
    created_at: Timestamp,
}

/// Search threads
///
/// Looks into titles, tasks and messages, for the words as they stand and for other forms of English ones.
#[utoipa::path(post, path = "/threads/search", tag = "threads", request_body = SearchThreads,
    responses(
        (status = 200, description = "A part of what was found", body = SearchResults),
        (status = 400, description = "The query is missing or too long", body = ErrorBody),
    ))]
async fn search_threads(
    State(api): State<Api>,
    caller: Caller,
    Body(body): Body<SearchThreads>,
) -> Result<Json<SearchResults>> {
    let began_at = Instant::now();
    if body.query.chars().count() > MAX_QUERY_CHARS {
        return Err(Error::invalid_field("query", format!("must have at most {MAX_QUERY_CHARS} characters")));
    }
    let page = query::page(body.limit, body.offset, 20, 100)?;
    let with_messages = body.include_messages.unwrap_or(false);
    let status = match body.status.as_deref().filter(|status| !status.is_empty() && *status != "all") {
        // Deleted threads are not found.
        Some("deleted") => None,
        word => {
            let status = word.map(str::parse::<ThreadStatus>).transpose();
            Some(status.map_err(|err| Error::invalid_field("status", err.to_string()))?)
        }
    };
    let found = match status {
        None => Paged { items: Vec::new(), total: 0 },
        Some(status) => {
            let search = Search {
                words: body.query.clone(),
                environment_id: body.environment_id.filter(|id| !id.is_empty()),
                status,
                messages: if with_messages { MESSAGES_PER_THREAD } else { 1 },
            };
            api.store.search_threads(&caller.project, &search, page).await?
        }
    };
    let end = page.offset.saturating_add(found.items.len() as i64);
    Ok(Json(SearchResults {
        object: "list",
        has_more: end < found.total,
        total: found.total,
        results: found.items.into_iter().map(|found| view(found, with_messages)).collect(),
        search_metadata: SearchMetadata {
            query: body.query,
            query_type: "fulltext",
            processing_time_ms: u64::try_from(began_at.elapsed().as_millis()).unwrap_or(u64::MAX),
        },
    }))
}

fn view(found: Found, with_messages: bool) -> SearchResult {
    let mut highlights: Vec<String> = found.excerpts.iter().map(|excerpt| to_html(excerpt)).collect();
    for message in &found.messages {
        let highlight = to_html(&message.excerpt);
        if !highlights.contains(&highlight) {
            highlights.push(highlight);
        }
    }
    let messages = found.messages.into_iter().map(message_view).collect();
    SearchResult {
        thread: found.thread.into(),
        score: found.score,
        highlights,
        matching_messages: with_messages.then_some(messages),
    }
}

fn message_view(message: FoundMessage) -> MatchingMessage {
    MatchingMessage {
        id: message.id.into(),
        role: message.role.as_str(),
        score: message.score,
        highlight: to_html(&message.excerpt),
        content: message.excerpt.replace([MARKS.0, MARKS.1], ""),
        created_at: message.created_at.into(),
    }
}

/// Turns the marks into elements. The text was written by anybody, so what looks like markup in it stays text.
fn to_html(excerpt: &str) -> String {
    let mut html = String::with_capacity(excerpt.len());
    for c in excerpt.chars() {
        match c {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            c if c == MARKS.0 => html.push_str("<mark>"),
            c if c == MARKS.1 => html.push_str("</mark>"),
            c => html.push(c),
        }
    }
    html
}
