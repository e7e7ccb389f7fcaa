//! Brave's search API. Source: its documentation, "Web Search".

use domain::event::SearchHit;
use reqwest::{Client, RequestBuilder, header::ACCEPT};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use url::Url;

use super::{Found, Query, plain};

/// What it gives at most.
const COUNT: &str = "20";

#[derive(Deserialize)]
struct Answer {
    /// Not there when nothing was found.
    web: Option<Web>,
}

#[derive(Deserialize)]
struct Web {
    results: Vec<Hit>,
}

#[derive(Deserialize)]
struct Hit {
    url: String,
    #[serde(default)]
    title: String,
    description: Option<String>,
    page_age: Option<String>,
    age: Option<String>,
}

pub(super) fn request(http: &Client, url: &Url, key: &SecretString, query: &Query<'_>) -> RequestBuilder {
    let mut url = url.clone();
    let mut text = query.text.to_owned();
    if let [only] = query.domains.allowed.as_slice() {
        text.push_str(&format!(" site:{only}"));
    }
    url.query_pairs_mut().append_pair("q", &text).append_pair("count", COUNT);
    http.get(url).header(ACCEPT, "application/json").header("X-Subscription-Token", key.expose_secret())
}

pub(super) fn read(body: &[u8]) -> Result<Vec<Found>, serde_json::Error> {
    let answer: Answer = serde_json::from_slice(body)?;
    let found = answer.web.map(|web| web.results).unwrap_or_default().into_iter().map(|hit| Found {
        snippet: plain(&hit.description.unwrap_or_default()),
        hit: SearchHit { title: plain(&hit.title), url: hit.url, date: hit.page_age.or(hit.age) },
    });
    Ok(found.collect())
}
