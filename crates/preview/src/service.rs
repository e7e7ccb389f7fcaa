//! The service that the previews' listener serves.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use chrono::Utc;
use http_body_util::{Either, Full};
use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
    header::{CACHE_CONTROL, HeaderValue, LOCATION, REFERRER_POLICY, SET_COOKIE},
};
use sandbox::Sandboxes;
use secrecy::ExposeSecret;
use store::Store;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    Answer, Site,
    exchange::{Terms, exchange},
    knock::{COOKIE_NAME, Knock, Way, is_of_a_browser, opens_a_page, wants_page},
    live::{Live, Opened},
    refusal::Refusal,
    site::TOKEN_PARAMETER,
};

/// What is answered: what listens inside says, as it comes, or a few words of ours.
pub type Body = Either<Answer, Full<Bytes>>;

/// Settings of the previews.
#[derive(Debug, Clone)]
pub struct Options {
    pub site: Site,
    /// Requests and WebSockets of one preview under way at once, on this server.
    pub connections: usize,
    /// How long what listens may take to begin its answer.
    pub response_timeout: Duration,
    /// How long nothing may move in an answer or a WebSocket.
    pub idle_timeout: Duration,
    /// Whether a proxy of the operator's is in front, so that its `X-Forwarded-For` is true.
    pub is_proxied: bool,
}

/// All previews of this server. Cheap to clone.
#[derive(Clone)]
pub struct Previews {
    inner: Arc<Inner>,
}

struct Inner {
    live: Live,
    terms: Terms,
    tasks: TaskTracker,
}

impl Previews {
    /// Puts the parts together. Everything open ends with `stopping`; what outlives a request is spawned on `tasks`.
    pub fn new(
        store: Store,
        sandboxes: Sandboxes,
        options: Options,
        stopping: CancellationToken,
        tasks: TaskTracker,
    ) -> Self {
        let Options { site, connections, response_timeout, idle_timeout, is_proxied } = options;
        let live = Live::new(store, sandboxes, connections, stopping);
        let terms = Terms { site, response_timeout, idle_timeout, is_proxied };
        Self { inner: Arc::new(Inner { live, terms, tasks }) }
    }

    /// Ends what has been revoked or has expired, until the server stops. Without this nothing is ever ended.
    pub async fn watch(self) {
        self.inner.live.watch().await;
    }

    /// Answers a request of a client at `client`.
    pub async fn handle(&self, client: SocketAddr, request: Request<Incoming>) -> Response<Body> {
        let wants_page = wants_page(request.headers());
        let answered = self.answer(client, request).await;
        answered.unwrap_or_else(|refusal| refusal.response(wants_page))
    }

    async fn answer(&self, client: SocketAddr, request: Request<Incoming>) -> Result<Response<Body>, Refusal> {
        let Inner { live, terms, tasks } = &*self.inner;
        if *request.method() == Method::CONNECT {
            return Err(Refusal::Malformed);
        }
        let knock = Knock::read(&request).ok_or(Refusal::Unknown)?;
        let opened = live.open(&knock.preview, &knock.token).await.map_err(|err| {
            tracing::warn!(error = &err as &dyn std::error::Error, "cannot look for a preview");
            Refusal::Unavailable
        })?;
        let opened = opened.ok_or(Refusal::Unknown)?;
        let (method, headers) = (request.method(), request.headers());
        match knock.way {
            Way::Link if opens_a_page(method, headers) => Ok(let_in(&terms.site, &opened, &knock)),
            // All previews have one origin there: none of it may become a page.
            Way::Path if opens_a_page(method, headers) => Ok(lead_to_its_origin(&terms.site, &knock)),
            Way::Path if is_of_a_browser(headers) => Err(Refusal::Unknown),
            Way::Link | Way::Cookie | Way::Path => {
                exchange(live, terms, tasks, &opened, &knock, client.ip(), request).await
            }
        }
    }
}

/// Changes the token of a link for a cookie.
fn let_in(site: &Site, opened: &Opened, knock: &Knock) -> Response<Body> {
    let seconds = (opened.preview.expires_at - Utc::now()).num_seconds().max(1);
    let secure = if site.is_secure() { "; Secure" } else { "" };
    let token = knock.token.expose_secret();
    let cookie = format!("{COOKIE_NAME}={token}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Lax{secure}");
    // A path that begins with two slashes would be another host.
    let dot = if knock.target.starts_with("//") { "/." } else { "" };
    let mut response = redirect(&format!("{dot}{}", knock.target));
    if let Ok(mut cookie) = HeaderValue::from_str(&cookie) {
        cookie.set_sensitive(true);
        response.headers_mut().insert(SET_COOKIE, cookie);
    }
    response
}

/// Sends a browser from a tool's address to the preview's own origin.
fn lead_to_its_origin(site: &Site, knock: &Knock) -> Response<Body> {
    let (target, token) = (&knock.target, knock.token.expose_secret());
    let mark = if target.contains('?') { '&' } else { '?' };
    redirect(&format!("{}{target}{mark}{TOKEN_PARAMETER}={token}", site.origin(&knock.preview)))
}

fn redirect(location: &str) -> Response<Body> {
    let mut response = Response::new(Either::Right(Full::default()));
    *response.status_mut() = StatusCode::SEE_OTHER;
    let headers = response.headers_mut();
    if let Ok(location) = HeaderValue::from_str(location) {
        headers.insert(LOCATION, location);
    }
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}
