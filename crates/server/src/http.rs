//! Serves a router on a listener.
//!
//! By hand and not with `axum::serve`, which has no limit for how long a client may take to send its headers.

use std::{net::SocketAddr, time::Duration};

use axum::{Router, body::Body, extract::ConnectInfo, http::Request};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto, graceful::GracefulShutdown},
};
use tokio::net::{TcpListener, TcpStream};
use tower::ServiceExt;

use crate::lifecycle::Lifecycle;

/// Far above what clients send; each costs memory before anything is known of who sends it.
const MAX_HEADERS: usize = 100;
const MAX_HEADER_BYTES: usize = 64 * 1024;
/// Connections that never answer a ping of ours are dead.
const HTTP2_PING: Duration = Duration::from_secs(30);

/// Serves until the soft token, then lets responses that are under way end until the hard token.
pub(crate) async fn serve(listener: TcpListener, router: Router, header_timeout: Duration, lifecycle: Lifecycle) {
    let mut server = auto::Builder::new(TokioExecutor::new());
    server
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(header_timeout)
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_HEADER_BYTES);
    server
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(HTTP2_PING)
        .max_header_list_size(MAX_HEADER_BYTES as u32);
    let graceful = GracefulShutdown::new();
    while let Some(accepted) = lifecycle.soft.run_until_cancelled(listener.accept()).await {
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(err) => {
                // Out of file descriptors, mostly: the next try must not be at once.
                tracing::warn!(error = &err as &dyn std::error::Error, "cannot accept a connection");
                lifecycle.soft.run_until_cancelled(tokio::time::sleep(Duration::from_millis(100))).await;
                continue;
            }
        };
        let connection = connection(&server, stream, address, router.clone());
        let (watched, hard) = (graceful.watch(connection), lifecycle.hard.clone());
        lifecycle.tracker.spawn(async move {
            // A client that goes away or talks nonsense is its own affair.
            if let Some(Err(err)) = hard.run_until_cancelled(watched).await {
                tracing::debug!(%address, "a connection ended badly: {err}");
            }
        });
    }
    // Nobody new is taken in; whoever tries is refused instead of left waiting.
    drop(listener);
    lifecycle.hard.run_until_cancelled(graceful.shutdown()).await;
}

fn connection(
    server: &auto::Builder<TokioExecutor>,
    stream: TcpStream,
    address: SocketAddr,
    router: Router,
) -> impl hyper_util::server::graceful::GracefulConnection<Error = Box<dyn std::error::Error + Send + Sync>> + use<> {
    // Events are small, and each is to leave at once.
    if let Err(err) = stream.set_nodelay(true) {
        tracing::debug!("cannot set TCP_NODELAY: {err}");
    }
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(ConnectInfo(address));
        router.clone().oneshot(request.map(Body::new))
    });
    server.serve_connection(TokioIo::new(stream), service).into_owned()
}
