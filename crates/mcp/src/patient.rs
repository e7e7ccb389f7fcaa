//! A transport on which an answer may come too late.
//!
//! Which revision a server speaks is found out by asking in the newest one. A server that starts slowly answers that when
//! it has been given up after some seconds and the older way has been taken: `rmcp` would take the late answer for one to
//! the question after it, and end the connection.

use std::borrow::Cow;

use rmcp::{
    RoleClient,
    model::{ClientRequest, JsonRpcMessage, RequestId},
    service::{RxJsonRpcMessage, TxJsonRpcMessage},
    transport::Transport,
};

/// Passes over what answers a question that was given up.
pub(crate) struct Patient<T> {
    inner: T,
    /// The first question, until a second one takes its place.
    asked: Option<RequestId>,
    given_up: Option<RequestId>,
}

impl<T> Patient<T> {
    pub(crate) fn new(inner: T) -> Self {
        Self { inner, asked: None, given_up: None }
    }

    fn note(&mut self, message: &TxJsonRpcMessage<RoleClient>) {
        let JsonRpcMessage::Request(request) = message else { return };
        match request.request {
            ClientRequest::InitializeRequest(_) => self.given_up = self.asked.take(),
            _ if self.asked.is_none() => self.asked = Some(request.id.clone()),
            _ => {}
        }
    }

    fn is_late(&self, message: &RxJsonRpcMessage<RoleClient>) -> bool {
        let id = match message {
            JsonRpcMessage::Response(response) => Some(&response.id),
            JsonRpcMessage::Error(error) => error.id.as_ref(),
            JsonRpcMessage::Request(_) | JsonRpcMessage::Notification(_) => None,
        };
        id.is_some() && id == self.given_up.as_ref()
    }
}

impl<T: Transport<RoleClient>> Transport<RoleClient> for Patient<T> {
    type Error = T::Error;

    fn name() -> Cow<'static, str> {
        T::name()
    }

    fn send(
        &mut self,
        item: TxJsonRpcMessage<RoleClient>,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send + 'static {
        self.note(&item);
        self.inner.send(item)
    }

    async fn receive(&mut self) -> Option<RxJsonRpcMessage<RoleClient>> {
        loop {
            let message = self.inner.receive().await?;
            if !self.is_late(&message) {
                return Some(message);
            }
        }
    }

    async fn close(&mut self) -> Result<(), Self::Error> {
        self.inner.close().await
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, DuplexStream};

    use crate::{Client, Link, Options};

    /// Answers the first question only when the second one has come.
    async fn serve_slowly(stream: DuplexStream) {
        let (read, mut write) = tokio::io::split(stream);
        let mut lines = BufReader::new(read).lines();
        let mut next = async || -> Option<Value> { serde_json::from_str(&lines.next_line().await.ok()??).ok() };
        let (first, second) = (next().await.expect("a probe"), next().await.expect("a greeting"));
        assert_eq!((&first["method"], &second["method"]), (&json!("server/discover"), &json!("initialize")));
        let late =
            json!({"jsonrpc": "2.0", "id": first["id"], "error": {"code": -32601, "message": "Method not found"}});
        let result = json!({
            "protocolVersion": second["params"]["protocolVersion"], "capabilities": {},
            "serverInfo": {"name": "slow", "version": "1"}
        });
        let answer = json!({"jsonrpc": "2.0", "id": second["id"], "result": result});
        for message in [late, answer] {
            write.write_all(format!("{message}\n").as_bytes()).await.expect("is read");
        }
        while next().await.is_some() {}
    }

    #[tokio::test]
    async fn a_server_that_answers_the_probe_too_late_is_connected_to() {
        let (ours, theirs) = tokio::io::duplex(65_536);
        let serving = tokio::spawn(serve_slowly(theirs));
        let client = Client::connect(Link::Process(Box::new(ours)), Options::default()).await.expect("connects");
        assert!(!client.is_closed());
        drop(client);
        serving.await.expect("asked as it must be");
    }
}
