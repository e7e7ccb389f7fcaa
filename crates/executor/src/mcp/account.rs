//! What a server of a run is sent of somebody's signing in, and what is said when nobody has.

use std::sync::Mutex;

use domain::{
    EnvironmentId,
    mcp::{Remote, Transport},
};
use secrecy::{ExposeSecret, SecretString};

use super::{SignIns, lock};
use crate::tools::{Outcome, ResultBlock, redact::Redactor};

/// Whose tokens a server is sent, where it has none of its own.
pub(super) struct Account {
    sign_ins: SignIns,
    environment: EnvironmentId,
    sent: Mutex<Sent>,
}

#[derive(Default)]
struct Sent {
    /// What it was sent in this run, the newest last.
    tokens: Vec<SecretString>,
    /// The newest is answered with 401.
    is_refused: bool,
}

impl Account {
    pub(super) fn new(sign_ins: SignIns, environment: EnvironmentId) -> Self {
        Self { sign_ins, environment, sent: Mutex::default() }
    }

    /// Gives the token that a server is sent, if there is one: its own, or of somebody's signing in.
    ///
    /// # Errors
    /// A sentence that says why that cannot be found out now.
    pub(super) async fn token(&self, name: &str, remote: &Remote) -> Result<Option<SecretString>, String> {
        if remote.has_credentials() {
            return Ok(remote.bearer_token.clone().map(SecretString::from));
        }
        let refused = {
            let sent = lock(&self.sent);
            sent.tokens.last().filter(|_| sent.is_refused).cloned()
        };
        let refused = refused.as_ref().map(ExposeSecret::expose_secret);
        let token = self.sign_ins.token(&self.environment, name, remote, refused).await?;
        if let Some(token) = &token {
            let mut sent = lock(&self.sent);
            if sent.tokens.last().is_none_or(|last| last.expose_secret() != token.expose_secret()) {
                sent.tokens.push(token.clone());
                sent.is_refused = false;
            }
        }
        Ok(token)
    }

    /// Takes in that the server wants another token than it was sent. Tells whether there may be one.
    pub(super) fn take_refusal(&self) -> bool {
        let mut sent = lock(&self.sent);
        !sent.tokens.is_empty() && !std::mem::replace(&mut sent.is_refused, true)
    }

    /// Says how somebody signs in to a server that has answered with this challenge.
    pub(super) async fn ask_for(&self, name: &str, transport: &Transport, challenge: &str) -> String {
        let refused = mcp::Error::Unauthorized { challenge: challenge.to_owned() };
        let remote = match transport {
            Transport::Http(remote) | Transport::Sse(remote) if !remote.has_credentials() => remote,
            Transport::Http(_) | Transport::Sse(_) | Transport::Stdio { .. } => return refused.to_string(),
        };
        match self.sign_ins.begin_or_repeat(&self.environment, name, remote, challenge).await {
            Ok(url) => format!("it wants somebody to sign in at {url} within the hour (open it in a browser)"),
            Err(why) => format!("{refused}, and nobody can sign in: {why}"),
        }
    }

    /// Takes the tokens that a server was sent out of what it gives.
    pub(super) fn clean(&self, mut outcome: Outcome) -> Outcome {
        let tokens = lock(&self.sent).tokens.clone();
        if tokens.is_empty() {
            return outcome;
        }
        let redactor = Redactor::new(tokens.iter().map(ExposeSecret::expose_secret));
        for block in &mut outcome.content {
            if let ResultBlock::Text(text) = block {
                *text = redactor.redact(std::mem::take(text));
            }
        }
        outcome.detail = outcome.detail.map(|detail| redactor.redact_detail(detail));
        outcome
    }
}
