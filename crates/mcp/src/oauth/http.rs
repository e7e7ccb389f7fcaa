//! How everything is reached that a server names for signing in. The addresses come from strangers, so each is looked at,
//! no redirect is followed that was not, and no answer may be large or late.

use std::{sync::Arc, time::Duration};

use futures::StreamExt;
use oauth2::http::{self, header::CONTENT_TYPE};
use rmcp::transport::auth::{OAuthHttpClient, OAuthHttpClientError, OAuthHttpClientFuture, OAuthHttpRequest};
use url::{Url, form_urlencoded};

/// One request, from its beginning to the end of its answer.
const TIME_LIMIT: Duration = Duration::from_secs(20);

const MAX_ANSWER_BYTES: usize = 1024 * 1024;

/// Says why an address may not be reached.
pub type Check = Arc<dyn Fn(&Url) -> Result<(), String> + Send + Sync>;

/// What requests are made with.
#[derive(Clone)]
pub struct Http {
    /// Decides which addresses names may stand for, and follows no redirects.
    pub client: reqwest::Client,
    /// Decides about addresses that are written in a URL.
    pub check: Check,
}

/// The requests of signing in to one server.
pub(super) struct Guarded {
    pub http: Http,
    /// Whether the server is reached by TLS: then so is all that it names.
    pub is_https: bool,
    /// What requests for tokens say, once that is known.
    pub form: Option<Form>,
}

/// What `rmcp` leaves out of requests for tokens, or writes in another way.
pub(super) struct Form {
    /// What the server calls itself, to the letter. `rmcp` knows that only while it looks for it, and writes it as a URL
    /// later, which may have a slash more.
    pub resource: String,
    /// Also where a secret tells who asks: the official SDK's authorization server looks here first.
    pub client_id: String,
}

impl Guarded {
    pub(super) fn new(http: Http, server: &Url, form: Option<Form>) -> Arc<Self> {
        Arc::new(Self { http, is_https: server.scheme() == "https", form })
    }

    /// Checks an address that tokens, or people, are sent to.
    pub(super) fn check_scheme(&self, url: &Url) -> Result<(), String> {
        match url.scheme() {
            "https" => Ok(()),
            "http" if !self.is_https => Ok(()),
            other => Err(format!("an address begins with {other}:, not with https:")),
        }
    }

    async fn ask(&self, mut request: http::Request<Vec<u8>>) -> Result<http::Response<Vec<u8>>, OAuthHttpClientError> {
        if let Some(form) = &self.form {
            form.complete(&mut request);
        }
        let mut request = reqwest::Request::try_from(request)?;
        self.check_scheme(request.url())?;
        (self.http.check)(request.url())?;
        *request.timeout_mut() = Some(TIME_LIMIT);
        let response = self.http.client.execute(request).await.map_err(reqwest::Error::without_url)?;
        let (status, headers) = (response.status(), response.headers().clone());
        let mut body = Vec::new();
        let mut pieces = response.bytes_stream();
        while let Some(piece) = pieces.next().await {
            let piece = piece.map_err(reqwest::Error::without_url)?;
            if body.len() + piece.len() > MAX_ANSWER_BYTES {
                return Err("the answer is too large".into());
            }
            body.extend_from_slice(&piece);
        }
        let mut answer = http::Response::new(body);
        (*answer.status_mut(), *answer.headers_mut()) = (status, headers);
        Ok(answer)
    }
}

impl OAuthHttpClient for Guarded {
    fn execute(&self, request: OAuthHttpRequest) -> OAuthHttpClientFuture<'_> {
        // Its wish to follow redirects is not granted: `rmcp` itself follows those that it may, each as a request of its own.
        Box::pin(self.ask(request.request))
    }
}

impl Form {
    fn complete(&self, request: &mut http::Request<Vec<u8>>) {
        let is_form =
            request.headers().get(CONTENT_TYPE).is_some_and(|kind| kind == "application/x-www-form-urlencoded");
        if !is_form {
            return;
        }
        let mut form = form_urlencoded::Serializer::new(String::new());
        let ours = [("client_id", self.client_id.as_str()), ("resource", self.resource.as_str())];
        let theirs = form_urlencoded::parse(request.body());
        form.extend_pairs(theirs.filter(|(name, _)| ours.iter().all(|(own, _)| own != name))).extend_pairs(ours);
        *request.body_mut() = form.finish().into_bytes();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_names_the_client_and_the_resource_to_the_letter() {
        let form = Form { resource: "https://mcp.example.com".into(), client_id: "me".into() };
        let given = "grant_type=refresh_token&refresh_token=a%2Bb&resource=https%3A%2F%2Fmcp.example.com%2F";
        let complete = |kind: &str| {
            let request = http::Request::post("https://as.example.com/token").header(CONTENT_TYPE, kind);
            let mut request = request.body(given.into()).unwrap();
            form.complete(&mut request);
            String::from_utf8(request.into_body()).unwrap()
        };
        assert_eq!(
            complete("application/x-www-form-urlencoded"),
            "grant_type=refresh_token&refresh_token=a%2Bb&client_id=me&resource=https%3A%2F%2Fmcp.example.com"
        );
        assert_eq!(complete("application/json"), given);
    }

    #[test]
    fn what_a_server_with_tls_names_has_tls_too() {
        let http = Http { client: reqwest::Client::builder().build().unwrap(), check: Arc::new(|_| Ok(())) };
        let allows = |server: &str, url: &str| {
            let guarded = Guarded::new(http.clone(), &server.parse().unwrap(), None);
            guarded.check_scheme(&url.parse().unwrap()).is_ok()
        };
        assert!(allows("https://a.example", "https://b.example") && allows("http://a.example", "http://b.example"));
        assert!(allows("http://a.example", "https://b.example") && !allows("https://a.example", "http://b.example"));
        assert!(
            !allows("http://a.example", "javascript:alert(1)") && !allows("http://a.example", "file:///etc/passwd")
        );
    }
}
