//! SearXNG, the metasearch engine that anybody can run. Source: its documentation, "Search API".

use domain::event::SearchHit;
use reqwest::{Client, RequestBuilder};
use serde::Deserialize;
use url::Url;

use super::{Found, Query, plain};

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
    #[serde(rename = "publishedDate")]
    published_date: Option<String>,
}

pub(super) fn request(http: &Client, url: &Url, query: &Query<'_>) -> RequestBuilder {
    let mut url = url.clone();
    if !url.path().ends_with("/search") {
        let path = format!("{}/search", url.path().trim_end_matches('/'));
        url.set_path(&path);
    }
    // It takes no lists; the engines behind it know `site:`.
    let mut text = query.text.to_owned();
    if let [only] = query.domains.allowed.as_slice() {
        text.push_str(&format!(" site:{only}"));
    }
    url.query_pairs_mut().append_pair("q", &text).append_pair("format", "json");
    http.get(url)
}

pub(super) fn read(body: &[u8]) -> Result<Vec<Found>, serde_json::Error> {
    let answer: Answer = serde_json::from_slice(body)?;
    let found = answer.results.into_iter().map(|hit| Found {
        snippet: plain(&hit.content.unwrap_or_default()),
        hit: SearchHit { title: plain(&hit.title), url: hit.url, date: hit.published_date },
    });
    Ok(found.collect())
}
