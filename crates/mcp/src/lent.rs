//! A connection that may be greeted twice, and on which an answer may come too late.
//!
//! Which revision a server speaks is found out by asking in the newest one, and in the older way when it does not know that.
//! A process that starts slowly reads both questions at once and answers both: a newer server then speaks the newest
//! revision and refuses the older way, an older one answers the first question when nobody waits for it any more. `rmcp`
//! gives the first question ten seconds and takes a late answer for one to the question after it. So the time is ours here,
//! and what comes late is passed over.

use std::{
    borrow::Cow,
    sync::{Arc, Mutex, PoisonError},
};

use rmcp::{
    RoleClient,
    model::{JsonRpcMessage, ServerResult},
    service::{RxJsonRpcMessage, TxJsonRpcMessage},
    transport::Transport,
};

/// Where a transport is found again when whoever it was lent to is done with it.
pub(crate) struct Place<T>(Arc<Mutex<Option<T>>>);

impl<T> Place<T> {
    pub(crate) fn take(&self) -> Option<T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// A transport that is given back when it is dropped.
pub(crate) struct Lent<T> {
    /// There until it is dropped.
    inner: Option<T>,
    place: Place<T>,
    /// Whether an answer may come to a question that was given up.
    may_be_late: bool,
}

impl<T> Lent<T> {
    pub(crate) fn new(inner: T) -> (Self, Place<T>) {
        let place = Arc::default();
        (Self { inner: Some(inner), place: Place(Arc::clone(&place)), may_be_late: false }, Place(place))
    }

    /// For the second greeting: whether the first one was given up without an answer.
    pub(crate) fn after(mut self, silence: bool) -> Self {
        self.may_be_late = silence;
        self
    }

    fn inner(&mut self) -> &mut T {
        self.inner.as_mut().expect("it is there until this is dropped")
    }

    /// Tells whether this answers the question that was given up. Of two answers the greeting's is the one that has the
    /// shape of it, or the second.
    fn is_late(&mut self, message: &RxJsonRpcMessage<RoleClient>) -> bool {
        let is_answer = matches!(message, JsonRpcMessage::Response(_) | JsonRpcMessage::Error(_));
        if !is_answer || !std::mem::take(&mut self.may_be_late) {
            return false;
        }
        !matches!(message, JsonRpcMessage::Response(response) if matches!(response.result, ServerResult::InitializeResult(_)))
    }
}

impl<T> Drop for Lent<T> {
    fn drop(&mut self) {
        *self.place.0.lock().unwrap_or_else(PoisonError::into_inner) = self.inner.take();
    }
}

impl<T: Transport<RoleClient>> Transport<RoleClient> for Lent<T> {
    type Error = T::Error;

    fn name() -> Cow<'static, str> {
        T::name()
    }

    fn send(
        &mut self,
        item: TxJsonRpcMessage<RoleClient>,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send + 'static {
        self.inner().send(item)
    }

    async fn receive(&mut self) -> Option<RxJsonRpcMessage<RoleClient>> {
        loop {
            let message = self.inner().receive().await?;
            if !self.is_late(&message) {
                return Some(message);
            }
        }
    }

    async fn close(&mut self) -> Result<(), Self::Error> {
        self.inner().close().await
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::{Value, json};
    use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, DuplexStream};

    use crate::{Client, Link, Options};

    const NEWEST: &str = "2026-07-28";

    /// Starts to read after a while; then answers each question, an older server as much as it knows.
    async fn serve(stream: DuplexStream, after: Duration, is_newer: bool) {
        let (read, mut write) = tokio::io::split(stream);
        let mut lines = BufReader::new(read).lines();
        tokio::time::sleep(after).await;
        while let Ok(Some(line)) = lines.next_line().await {
            let asked: Value = serde_json::from_str(&line).expect("a message");
            let server = json!({"name": "slow", "version": "1"});
            let answer = match asked["method"].as_str() {
                Some("server/discover") if is_newer => json!({"result": {
                    "resultType": "complete", "supportedVersions": [NEWEST], "capabilities": {}, "ttlMs": 0,
                    "cacheScope": "private", "_meta": {"io.modelcontextprotocol/serverInfo": server}
                }}),
                Some("initialize") if !is_newer => json!({"result": {
                    "protocolVersion": asked["params"]["protocolVersion"], "capabilities": {}, "serverInfo": server
                }}),
                _ => json!({"error": {"code": -32601, "message": "Method not found"}}),
            };
            let mut answer = answer;
            if asked["id"].is_null() {
                continue;
            }
            (answer["jsonrpc"], answer["id"]) = (json!("2.0"), asked["id"].clone());
            write.write_all(format!("{answer}\n").as_bytes()).await.expect("is read");
        }
    }

    #[tokio::test]
    async fn servers_of_both_kinds_are_connected_to_however_slowly_they_start() {
        // Of four seconds the newest revision is given two.
        let options = Options { connect_timeout: Duration::from_secs(4), ..Options::default() };
        for (after, is_newer) in [(0, true), (0, false), (1, true), (1, false), (3, false)] {
            let (ours, theirs) = tokio::io::duplex(65_536);
            let serving = tokio::spawn(serve(theirs, Duration::from_secs(after), is_newer));
            let connected = Client::connect(Link::Process(Box::new(ours)), options.clone()).await;
            let client = connected.unwrap_or_else(|err| panic!("{after} s, newer: {is_newer}: {err:?}"));
            assert!(!client.is_closed());
            drop(client);
            serving.await.expect("asked as it must be");
        }
    }
}
