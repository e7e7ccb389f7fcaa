//! One request and its answer, or what they become: a WebSocket.
//!
//! A connection inside for each. Keeping them would save some tenths of a millisecond, and bring the one failure that
//! cannot be told from a real one: a connection that was closed while a request was on its way.

use std::{io, net::IpAddr, sync::Arc, time::Duration};

use http_body_util::Either;
use hyper::{
    Request, Response, StatusCode, Version,
    body::{Body as _, Incoming},
    client::conn::http1,
    header::CONTENT_LENGTH,
    upgrade::{self, OnUpgrade},
};
use hyper_util::rt::TokioIo;
use tokio::io::copy_bidirectional;
use tokio_util::task::TaskTracker;

use crate::{
    Body,
    headers::{self, Names},
    knock::Knock,
    live::{Live, Opened},
    refusal::Refusal,
    site::Site,
    watch::{Answer, Cut, Watch, Watched},
};

/// What holds for every exchange.
pub(crate) struct Terms {
    pub(crate) site: Site,
    /// How long what listens may take to begin its answer, while nothing moves.
    pub(crate) response_timeout: Duration,
    /// How long nothing may move in an answer or a WebSocket.
    pub(crate) idle_timeout: Duration,
    /// Whether a proxy of the operator's is in front, which says who the client is.
    pub(crate) is_proxied: bool,
}

/// Passes a request on to what listens, and its answer back.
pub(crate) async fn exchange(
    live: &Live,
    terms: &Terms,
    tasks: &TaskTracker,
    opened: &Opened,
    knock: &Knock,
    client: IpAddr,
    mut request: Request<Incoming>,
) -> Result<Response<Body>, Refusal> {
    let port = opened.preview.port;
    let place = Arc::clone(&opened.places).try_acquire_owned().map_err(|_| Refusal::Busy)?;
    let forward = live.connect(opened).await.map_err(|err| refusal(&err, port))?;
    let watch = Watch::new(terms.response_timeout, opened.ended.clone());
    let stream = Watched::new(forward, Arc::clone(&watch), place);
    let client_side = http1::Builder::new().preserve_header_case(true).handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = client_side.map_err(|_| Refusal::Broken(port))?;
    let connection_watch = Arc::clone(&watch);
    tasks.spawn(async move {
        // Whoever waits for the answer is told; behind the answer's head there is nobody but the client, who notices.
        tokio::select! {
            ended = connection.with_upgrades() => {
                if let Err(err) = ended {
                    tracing::debug!("a preview's connection ended badly: {err}");
                }
            }
            () = connection_watch.over() => {}
        }
    });

    let outside = headers::asks_for_websocket(request.headers()).then(|| upgrade::on(&mut request));
    let names = Names::new(&terms.site, &opened.preview, knock);
    let (mut head, body) = request.into_parts();
    head.uri = knock.target.parse().map_err(|_| Refusal::Malformed)?;
    head.version = Version::HTTP_11;
    // What the client said of the length is believed only where the body is of that length.
    let length = body.size_hint().exact().filter(|_| head.headers.contains_key(CONTENT_LENGTH));
    headers::inward(&mut head.headers, &names, client, terms.is_proxied);
    if let Some(length) = length {
        head.headers.insert(CONTENT_LENGTH, length.into());
    }
    if outside.is_some() {
        headers::say_websocket(&mut head.headers);
    }
    let answered = sender.send_request(Request::from_parts(head, body)).await;
    let mut response = answered.map_err(|err| {
        tracing::debug!(port, "what listens gave no answer: {err}");
        cut(&watch, port)
    })?;
    watch.set_patience(terms.idle_timeout);

    headers::outward(response.headers_mut(), &names);
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        // Nobody asked for it.
        let Some(outside) = outside else { return Err(Refusal::Broken(port)) };
        tasks.spawn(tunnel(outside, upgrade::on(&mut response), Arc::clone(&watch)));
        headers::say_websocket(response.headers_mut());
    }
    Ok(response.map(|body| Either::Left(Answer::new(body, watch))))
}

/// Passes on what both sides of a WebSocket send, until one has ended.
async fn tunnel(outside: OnUpgrade, inside: OnUpgrade, watch: Arc<Watch>) {
    let passed = async {
        let (outside, inside) = tokio::try_join!(outside, inside).map_err(io::Error::other)?;
        copy_bidirectional(&mut TokioIo::new(outside), &mut TokioIo::new(inside)).await
    };
    tokio::select! {
        passed = passed => {
            if let Err(err) = passed {
                tracing::debug!("a WebSocket ended badly: {err}");
            }
        }
        () = watch.over() => {}
    }
}

fn cut(watch: &Watch, port: u16) -> Refusal {
    match watch.cut() {
        Some(Cut::Over) => Refusal::Unknown,
        Some(Cut::Silent) => Refusal::Silent(port),
        None => Refusal::Broken(port),
    }
}

fn refusal(err: &sandbox::Error, port: u16) -> Refusal {
    use sandbox::Error as E;
    match err {
        E::Gone => Refusal::NotRunning,
        E::NotListening => Refusal::NotListening(port),
        err => {
            tracing::warn!(error = err as &dyn std::error::Error, "cannot connect to a preview's port");
            Refusal::Unavailable
        }
    }
}
