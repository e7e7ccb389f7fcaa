//! HTTP with server-sent events, as the revision 2024-11-05 has it: one stream for what the server says, a POST for each
//! thing that is said to it. `rmcp` has left it behind; many servers have not.

use std::{
    future::Future,
    sync::{Arc, OnceLock},
    time::Duration,
};

use bytes::Bytes;
use eventsource_stream::Eventsource;
use futures::{Stream, StreamExt, stream::BoxStream};
use reqwest::{
    Client,
    header::{ACCEPT, HeaderMap},
};
use rmcp::{
    RoleClient,
    service::{RxJsonRpcMessage, TxJsonRpcMessage},
    transport::Transport,
};
use url::Url;

use crate::Error;

/// How long the server may take to take a message.
const POST_LIMIT: Duration = Duration::from_secs(30);

/// A stream from a server, and where messages to it go.
pub(crate) struct SseTransport {
    http: Client,
    endpoint: Url,
    headers: HeaderMap,
    events: BoxStream<'static, String>,
}

/// A message could not be sent.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SendError {
    #[error(transparent)]
    Http(#[from] reqwest::Error),
    #[error("the server took too long to take a message")]
    TimedOut,
}

impl SseTransport {
    /// Opens the stream and waits until the server says where messages go. `why` is set if the stream ends for its size.
    pub(crate) async fn connect(
        http: Client,
        url: Url,
        headers: HeaderMap,
        max_bytes: usize,
        why: Arc<OnceLock<String>>,
    ) -> Result<Self, Error> {
        let request = http.get(url.clone()).headers(headers.clone()).header(ACCEPT, "text/event-stream");
        let response = request.send().await.map_err(|err| Error::Unreachable(cause(&err)))?;
        let status = response.status();
        if status.as_u16() == 401 {
            return Err(Error::Unauthorized { challenge: String::new() });
        }
        if !status.is_success() {
            return Err(Error::Refused(status.to_string()));
        }
        let bytes = bounded(response.bytes_stream(), max_bytes, why);
        let mut events = bytes.eventsource();
        let endpoint = loop {
            match events.next().await {
                Some(Ok(event)) if event.event == "endpoint" => break event.data,
                Some(Ok(_)) => {}
                Some(Err(err)) => return Err(Error::Nonsense(err.to_string())),
                None => return Err(Error::Nonsense("its stream ended before it said where messages go".into())),
            }
        };
        let endpoint = url
            .join(endpoint.trim())
            .ok()
            // Else it could have what we send, tokens among it, sent to anybody.
            .filter(|endpoint| endpoint.origin() == url.origin())
            .ok_or_else(|| Error::Nonsense("it wants messages sent to another place".into()))?;
        let events = events
            .take_while(|event| std::future::ready(event.is_ok()))
            .filter_map(|event| std::future::ready(event.ok()))
            .filter(|event| std::future::ready(event.event == "message"))
            .map(|event| event.data)
            .boxed();
        Ok(Self { http, endpoint, headers, events })
    }
}

impl Transport<RoleClient> for SseTransport {
    type Error = SendError;

    fn send(
        &mut self,
        item: TxJsonRpcMessage<RoleClient>,
    ) -> impl Future<Output = Result<(), SendError>> + Send + 'static {
        let request = self.http.post(self.endpoint.clone()).headers(self.headers.clone()).json(&item);
        async move {
            let response =
                tokio::time::timeout(POST_LIMIT, request.send()).await.map_err(|_| SendError::TimedOut)??;
            response.error_for_status()?;
            Ok(())
        }
    }

    async fn receive(&mut self) -> Option<RxJsonRpcMessage<RoleClient>> {
        loop {
            let data = self.events.next().await?;
            match serde_json::from_str(&data) {
                Ok(message) => return Some(message),
                Err(err) => tracing::debug!(error = &err as &dyn std::error::Error, "an MCP server makes no sense"),
            }
        }
    }

    async fn close(&mut self) -> Result<(), SendError> {
        self.events = futures::stream::empty().boxed();
        Ok(())
    }
}

/// Ends a stream in which one event grows too long.
fn bounded<E: Send + 'static>(
    bytes: impl Stream<Item = Result<Bytes, E>> + Send + 'static,
    max: usize,
    why: Arc<OnceLock<String>>,
) -> impl Stream<Item = Result<Bytes, E>> + Send + Unpin + 'static {
    let mut open = 0;
    bytes
        .take_while(move |piece| {
            if let Ok(piece) = piece {
                // An event ends with an empty line; a piece that holds an end of any line is near enough to one.
                open = match piece.iter().rposition(|&byte| byte == b'\n') {
                    Some(at) => piece.len() - at,
                    None => open + piece.len(),
                };
            }
            let is_within = open <= max;
            if !is_within {
                let _ = why.set(format!("it sent a message of more than {max} bytes"));
            }
            std::future::ready(is_within)
        })
        .boxed()
}

fn cause(err: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = err;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
