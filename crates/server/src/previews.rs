//! The listener of the previews, apart from the API's: pages that agents made must not be of the API's origin.

use std::{
    io::ErrorKind,
    net::{IpAddr, SocketAddr},
};

use anyhow::Context;
use hyper::{Request, body::Incoming};
use preview::{Previews, Site};
use tokio::net::TcpListener;

use crate::{config::Loaded, http, lifecycle::Lifecycle};

/// Listens where the settings say, or beside the API.
pub(crate) async fn listen(loaded: &Loaded, api: SocketAddr) -> anyhow::Result<TcpListener> {
    if let Some(address) = loaded.config.preview.listen {
        return TcpListener::bind(address).await.with_context(|| {
            format!("cannot listen on {address} (preview.listen, from {})", loaded.source("preview.listen"))
        });
    }
    beside(api.ip(), api.port().checked_add(1)).await.context("cannot listen for previews")
}

async fn beside(ip: IpAddr, port: Option<u16>) -> std::io::Result<TcpListener> {
    if let Some(port) = port {
        match TcpListener::bind((ip, port)).await {
            Err(err) if err.kind() == ErrorKind::AddrInUse => {}
            bound => return bound,
        }
    }
    TcpListener::bind((ip, 0)).await
}

/// Tells where clients reach the previews.
pub(crate) fn site(loaded: &Loaded, address: SocketAddr) -> anyhow::Result<Site> {
    match &loaded.config.preview.url {
        Some(url) => {
            Site::new(url).with_context(|| format!("preview.url (from {}) is {url}", loaded.source("preview.url")))
        }
        None => Ok(Site::local(address.port())),
    }
}

/// Serves the previews until the server stops.
pub(crate) fn start(loaded: &Loaded, lifecycle: &Lifecycle, previews: Previews, listener: TcpListener) {
    let limits = http::Limits {
        header_timeout: loaded.config.limits.header_timeout,
        write_timeout: loaded.config.limits.write_timeout,
        max_connections: loaded.config.limits.max_connections as usize,
        // A WebSocket begins in HTTP/1.1, and what listens speaks nothing else.
        has_http2: false,
    };
    if let Ok(address) = listener.local_addr() {
        tracing::info!("previews are opened at {address}");
    }
    lifecycle.spawn_vital("previews", previews.clone().watch());
    let handle = move |client: SocketAddr, request: Request<Incoming>| {
        let previews = previews.clone();
        async move { previews.handle(client, request).await }
    };
    lifecycle.spawn_vital("preview http", http::serve(listener, handle, limits, lifecycle.clone()));
}
