//! Serves requests on a listener.
//!
//! By hand and not with `axum::serve`, which has no limit for how long a client may take to send its headers or to read
//! what it is sent, nor for how many there may be.

mod opening;
mod taking;

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{Router, extract::ConnectInfo};
use hyper::{
    Request, Response,
    body::{Body, Incoming},
    service::service_fn,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto, graceful::GracefulShutdown},
};
use rustix::net::sockopt;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tower::ServiceExt;

use self::{
    opening::Opening,
    taking::{Bodies, Writing},
};
use crate::lifecycle::Lifecycle;

/// Far above what clients send; each costs memory before anything is known of who sends it.
const MAX_HEADERS: usize = 100;
const MAX_HEADER_BYTES: usize = 64 * 1024;
/// Connections that never answer a ping of ours are dead.
const HTTP2_PING: Duration = Duration::from_secs(30);

/// A peer that vanished without a word is found after a silence, by a few questions of the kernel's.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
const KEEPALIVE_EVERY: Duration = Duration::from_secs(15);
const KEEPALIVE_TRIES: u32 = 4;
/// How often it is told that there are too many connections.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// What a client may take of the server before anything is known of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// How long a connection may take to send a request's headers.
    pub(crate) header_timeout: Duration,
    /// How long a client may take nothing of what there is for it.
    pub(crate) write_timeout: Duration,
    /// Connections at once; those above wait until one ends.
    pub(crate) max_connections: usize,
    /// Whether HTTP/2 is spoken beside HTTP/1.1.
    pub(crate) has_http2: bool,
}

/// Serves a router, as [`serve`] does. It is told who the client is.
pub(crate) async fn serve_router(listener: TcpListener, router: Router, limits: Limits, lifecycle: Lifecycle) {
    let handle = move |client: SocketAddr, mut request: Request<Incoming>| {
        request.extensions_mut().insert(ConnectInfo(client));
        let answer = router.clone().oneshot(request.map(axum::body::Body::new));
        async { answer.await.unwrap_or_else(|never| match never {}) }
    };
    serve(listener, handle, limits, lifecycle).await;
}

/// Serves until the soft token, then lets responses that are under way end until the hard token.
///
/// `handle` answers a request of the client at an address.
pub(crate) async fn serve<H, F, B>(listener: TcpListener, handle: H, limits: Limits, lifecycle: Lifecycle)
where
    H: Fn(SocketAddr, Request<Incoming>) -> F + Clone + Send + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
    B: Body<Data: Send, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + Unpin + 'static,
{
    let mut server = auto::Builder::new(TokioExecutor::new());
    if !limits.has_http2 {
        server = server.http1_only();
    }
    server
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_HEADER_BYTES);
    server
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(HTTP2_PING)
        .max_header_list_size(MAX_HEADER_BYTES as u32);
    let graceful = GracefulShutdown::new();
    let mut places = Places::new(limits.max_connections);
    while let Some(place) = lifecycle.soft.run_until_cancelled(places.take()).await
        && let Some(accepted) = lifecycle.soft.run_until_cancelled(listener.accept()).await
    {
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(err) => {
                // Out of file descriptors, mostly: the next try must not be at once.
                tracing::warn!(error = &err as &dyn std::error::Error, "cannot accept a connection");
                lifecycle.soft.run_until_cancelled(tokio::time::sleep(Duration::from_millis(100))).await;
                continue;
            }
        };
        let bodies = Bodies::new(limits.write_timeout);
        let (handle, watching) = (handle.clone(), Arc::clone(&bodies));
        let service = service_fn(move |request| {
            let (answer, bodies) = (handle(address, request), Arc::clone(&watching));
            async move { Ok::<_, Infallible>(answer.await.map(|body| bodies.watch(body))) }
        });
        set_options(&stream);
        let stream = Writing::new(Opening::new(stream, limits.header_timeout), limits.write_timeout);
        let connection = server.serve_connection_with_upgrades(TokioIo::new(stream), service).into_owned();
        let (watched, hard) = (graceful.watch(connection), lifecycle.hard.clone());
        lifecycle.tracker.spawn(async move {
            // A client that goes away or talks nonsense is its own affair.
            let ended = tokio::select! {
                ended = hard.run_until_cancelled(watched) => ended,
                () = bodies.stalled() => {
                    tracing::debug!(%address, "a client takes nothing (limits.write_timeout): its connection is cut");
                    None
                }
            };
            drop(place);
            if let Some(Err(err)) = ended {
                tracing::debug!(%address, "a connection ended badly: {err}");
            }
        });
    }
    // Nobody new is taken in; whoever tries is refused instead of left waiting.
    drop(listener);
    lifecycle.hard.run_until_cancelled(graceful.shutdown()).await;
}

fn set_options(stream: &TcpStream) {
    // Events are small, and each is to leave at once.
    if let Err(err) = stream.set_nodelay(true) {
        tracing::debug!("cannot set TCP_NODELAY: {err}");
    }
    if let Err(err) = keep_alive(stream) {
        tracing::debug!("cannot set TCP keep-alive: {err}");
    }
}

fn keep_alive(stream: &TcpStream) -> rustix::io::Result<()> {
    sockopt::set_tcp_keepidle(stream, KEEPALIVE_IDLE)?;
    sockopt::set_tcp_keepintvl(stream, KEEPALIVE_EVERY)?;
    sockopt::set_tcp_keepcnt(stream, KEEPALIVE_TRIES)?;
    sockopt::set_socket_keepalive(stream, true)
}

/// The places for connections. Who comes when all are taken waits in the kernel's queue.
struct Places {
    free: Arc<Semaphore>,
    max: usize,
    told_at: Option<Instant>,
}

impl Places {
    fn new(max: usize) -> Self {
        Self { free: Arc::new(Semaphore::new(max.min(Semaphore::MAX_PERMITS))), max, told_at: None }
    }

    async fn take(&mut self) -> OwnedSemaphorePermit {
        if self.free.available_permits() == 0 && self.told_at.is_none_or(|at| at.elapsed() >= TELL_EVERY) {
            self.told_at = Some(Instant::now());
            tracing::warn!(max = self.max, "too many connections (limits.max_connections): new ones must wait");
        }
        Arc::clone(&self.free).acquire_owned().await.expect("the semaphore is never closed")
    }
}
