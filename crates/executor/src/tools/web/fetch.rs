//! Fetching one page: redirects by hand, limits on time and size.

use std::{error::Error as StdError, time::Duration};

use futures::StreamExt;
use reqwest::{
    Response,
    header::{ACCEPT, CONTENT_TYPE, LOCATION},
};
use tokio::time::timeout;
use url::Url;

use super::{
    guard::{self, Client, Refused},
    page::{self, Page},
};
use crate::tools::text;

pub(super) const TIME_LIMIT: Duration = Duration::from_secs(30);
const MAX_BYTES: usize = 10 * 1024 * 1024;
const MAX_REDIRECTS: u32 = 10;

#[derive(Debug)]
pub(super) enum Fetched {
    Page(Page),
    /// The redirect leads to another host.
    Elsewhere {
        from: Url,
        to: Url,
        status: u16,
    },
}

/// Fetches `url`, or says in a sentence why not.
pub(super) async fn fetch(client: &Client, url: Url) -> Result<Fetched, String> {
    let late = || format!("{url} did not answer in full within {} seconds.", TIME_LIMIT.as_secs());
    timeout(TIME_LIMIT, follow(client, url.clone())).await.unwrap_or_else(|_| Err(late()))
}

async fn follow(client: &Client, first: Url) -> Result<Fetched, String> {
    let mut url = first.clone();
    for _ in 0..=MAX_REDIRECTS {
        client.check(&url)?;
        let request = client.http.get(url.clone()).header(ACCEPT, "text/markdown, text/html, text/*;q=0.9, */*;q=0.5");
        let response = request.send().await.map_err(|err| explain(&url, &err))?;
        let status = response.status();
        let location = response.headers().get(LOCATION).and_then(|location| location.to_str().ok());
        let Some(location) = location.filter(|_| status.is_redirection()) else {
            return read(client, url, response).await.map(Fetched::Page);
        };
        let to = url.join(location).map_err(|_| format!("{url} redirects to something that is no address."))?;
        guard::check_form(&to).map_err(|why| format!("{url} redirects to an address that is refused: {why}"))?;
        client.check(&to).map_err(|why| format!("{url} redirects to an address that is refused: {why}"))?;
        if !is_same_host(&url, &to) {
            return Ok(Fetched::Elsewhere { from: first, to, status: status.as_u16() });
        }
        url = to;
    }
    Err(format!("{first} redirects more than {MAX_REDIRECTS} times."))
}

/// The same host and port, but for a `www.` and the step to https.
fn is_same_host(from: &Url, to: &Url) -> bool {
    let host = |url: &Url| url.host_str().map(|host| host.strip_prefix("www.").unwrap_or(host).to_owned());
    let is_upgrade = from.scheme() == "http" && to.scheme() == "https";
    host(from) == host(to) && from.port() == to.port() && (from.scheme() == to.scheme() || is_upgrade)
}

async fn read(client: &Client, url: Url, response: Response) -> Result<Page, String> {
    let status = response.status();
    if !status.is_success() {
        let reason = status.canonical_reason().unwrap_or_default();
        return Err(format!("{url} answered {} {reason}", status.as_u16()).trim_end().to_owned() + ".");
    }
    let content_type = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let content_type = content_type.unwrap_or("text/html").trim().to_owned();
    let pdf = client.pdf.as_ref().filter(|_| page::is_pdf(&content_type, &url));
    if !page::is_text(&content_type) && pdf.is_none() {
        return Err(format!(
            "{url} is not text but {}. Fetch it with curl in Bash.",
            text::shorten(&content_type, 100)
        ));
    }
    let too_large = || format!("{url} is larger than {}. Fetch it with curl in Bash.", text::size(MAX_BYTES as u64));
    if response.content_length().is_some_and(|len| len > MAX_BYTES as u64) {
        return Err(too_large());
    }
    let mut bytes = Vec::new();
    let mut pieces = response.bytes_stream();
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|err| explain(&url, &err))?;
        if bytes.len() + piece.len() > MAX_BYTES {
            return Err(too_large());
        }
        bytes.extend_from_slice(&piece);
    }
    let size = bytes.len() as u64;
    if let Some(pdf) = pdf {
        let text = pdf.read(&bytes).await;
        let text =
            text.map_err(|why| format!("{url} {why}. Fetch it with curl in Bash, then look at it with Read."))?;
        return Ok(Page::new(url, status.as_u16(), content_type, size, None, page::cap(text)));
    }
    let text = {
        let content_type = content_type.clone();
        tokio::task::spawn_blocking(move || page::to_text(&bytes, &content_type)).await
    };
    let (title, text) = text.map_err(|_| format!("{url} cannot be turned into text."))?;
    Ok(Page::new(url, status.as_u16(), content_type, size, title, text))
}

/// Says what went wrong without the URL's repetition in each layer of the HTTP client.
fn explain(url: &Url, err: &reqwest::Error) -> String {
    let mut cause: Option<&(dyn StdError + 'static)> = Some(err);
    let mut innermost = String::new();
    while let Some(err) = cause {
        if let Some(refused) = err.downcast_ref::<Refused>() {
            return refused.to_string();
        }
        innermost = err.to_string();
        cause = err.source();
    }
    if err.is_timeout() {
        return format!("{url} does not answer in time.");
    }
    format!("{url} cannot be fetched: {innermost}.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_host_is_followed() {
        for (from, to, expected) in [
            ("https://a.com/x", "https://a.com/y", true),
            ("https://a.com/", "https://www.a.com/", true),
            ("http://a.com/", "https://a.com/", true),
            ("https://a.com/", "http://a.com/", false),
            ("https://a.com/", "https://a.com:8443/", false),
            ("https://a.com/", "https://b.a.com/", false),
            ("https://a.com/", "https://a.com.evil.com/", false),
        ] {
            let [from, to] = [from, to].map(|url| Url::parse(url).unwrap());
            assert_eq!(is_same_host(&from, &to), expected, "{from} {to}");
        }
    }
}
