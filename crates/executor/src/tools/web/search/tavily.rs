//! Tavily's search API. Source: its documentation, "Search".

use domain::event::SearchHit;
use reqwest::{Client, RequestBuilder};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use url::Url;

use super::{Found, Query, plain};

#[derive(Serialize)]
struct Request<'a> {
    query: &'a str,
    max_results: u32,
    search_depth: &'static str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    include_domains: &'a [String],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    exclude_domains: &'a [String],
}

#[derive(Deserialize)]
struct Answer {
    results: Vec<Hit>,
}

#[derive(Deserialize)]
struct Hit {
    url: String,
    #[serde(default)]
    title: String,
    content: Option<String>,
    published_date: Option<String>,
}

pub(super) fn request(http: &Client, url: &Url, key: &SecretString, query: &Query<'_>) -> RequestBuilder {
    let body = Request {
        query: query.text,
        max_results: 20,
        search_depth: "basic",
        include_domains: &query.domains.allowed,
        exclude_domains: &query.domains.blocked,
    };
    http.post(url.clone()).bearer_auth(key.expose_secret()).json(&body)
}

pub(super) fn read(body: &[u8]) -> Result<Vec<Found>, serde_json::Error> {
    let answer: Answer = serde_json::from_slice(body)?;
    let found = answer.results.into_iter().map(|hit| Found {
        snippet: plain(&hit.content.unwrap_or_default()),
        hit: SearchHit { title: plain(&hit.title), url: hit.url, date: hit.published_date },
    });
    Ok(found.collect())
}
