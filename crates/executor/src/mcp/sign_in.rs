//! Signing in to MCP servers by OAuth: done by somebody once, used by all later runs of the environment.
//!
//! A server that wants it answers 401. The run goes on without that server and tells which address to open; whoever opens
//! it comes back to the API's callback with a code, and the tokens that it is traded for are kept, sealed, for the server
//! at its address. No run waits for it: who reads the log in an hour can still do it.

use std::{sync::Arc, time::Duration};

use domain::{
    EnvironmentId,
    environment::Environment,
    mcp::{McpServer, Remote, Transport},
};
use mcp::oauth::{self, Http, Registered, Tokens};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use store::{
    Store,
    mcp::{KeptTokens, ServerAddress},
};
use tokio::time::{Instant, sleep};
use url::Url;

use super::Options;
use crate::tools::web;

/// How long somebody has from seeing the address to coming back.
const GOOD_FOR: Duration = Duration::from_secs(60 * 60);

/// What is begun for a run is told again by other runs, while there is so much time left.
const TOLD_AGAIN: Duration = Duration::from_secs(10 * 60);

/// How long one renews while others wait; longer than it takes.
const RENEWAL: Duration = Duration::from_secs(60);

const LOOK_EVERY: Duration = Duration::from_millis(100);

/// The way to tokens. Cheap to clone.
#[derive(Clone)]
pub struct SignIns {
    store: Store,
    web: web::Client,
    redirect_uri: Arc<str>,
}

/// What is kept until somebody comes back.
#[derive(Serialize, Deserialize)]
struct Begun {
    /// The server's address.
    server: String,
    /// What somebody is to open.
    url: Url,
    pending: String,
}

impl SignIns {
    /// With a client that reaches what MCP servers may reach.
    pub fn new(store: Store, web: web::Client, options: &Options) -> Self {
        Self::of_runs(store, web.reaching(&options.allowed), options)
    }

    /// The same with a client that does so already.
    pub(crate) fn of_runs(store: Store, web: web::Client, options: &Options) -> Self {
        Self { store, web, redirect_uri: options.redirect_uri.as_str().into() }
    }

    /// Begins for a server of an environment, by its name. Gives the address to open.
    ///
    /// # Errors
    /// A sentence that says why it cannot be.
    pub async fn begin(&self, environment: &Environment, name: &str) -> Result<Url, String> {
        let servers = self.store.open_mcp_servers(environment).map_err(unreadable)?;
        let secrets = self.store.open_secrets(&environment.id).await.map_err(unreadable)?;
        let variables: Vec<_> = environment.settings.variables().collect();
        let find = |wanted: &str| {
            let secret = secrets.iter().find(|(key, _)| key == wanted).map(|(_, value)| value.expose_secret());
            secret.or_else(|| variables.iter().find(|(key, _)| key == wanted).map(|(_, value)| value.as_str()))
        };
        let mut named = servers.iter().filter_map(|server| McpServer::parse(server).ok());
        let server = named.find(|server| server.name == name).ok_or("it is not described as a server")?;
        let server = server.with_variables(find).map_err(|err| err.to_string())?;
        match &server.transport {
            Transport::Http(remote) | Transport::Sse(remote) => {
                self.begin_at(&environment.id, name, remote, None).await
            }
            Transport::Stdio { .. } => Err("it is a process in the computer, to which nobody signs in".to_owned()),
        }
    }

    /// Gives the address to open for a server of a run, which has answered with this challenge: that of an earlier run if
    /// somebody may still come back from there, as each that is begun may register a client.
    pub(super) async fn begin_or_repeat(
        &self,
        environment: &EnvironmentId,
        name: &str,
        remote: &Remote,
        challenge: &str,
    ) -> Result<Url, String> {
        let server = server_at(environment, name, remote);
        let begun = self.store.find_mcp_sign_in(&server, TOLD_AGAIN).await.map_err(unreadable)?;
        match begun.and_then(|begun| serde_json::from_str::<Begun>(begun.expose_secret()).ok()) {
            Some(begun) => Ok(begun.url),
            None => self.begin_at(environment, name, remote, Some(challenge)).await,
        }
    }

    async fn begin_at(
        &self,
        environment: &EnvironmentId,
        name: &str,
        remote: &Remote,
        challenge: Option<&str>,
    ) -> Result<Url, String> {
        let url = Url::parse(&remote.url).map_err(|err| format!("its url is not valid ({err})"))?;
        self.web.check_server(&url)?;
        let registered = remote.client_id.clone().map(|id| Registered { id, secret: remote.client_secret.clone() });
        let begun = oauth::begin(self.http(), &url, &self.redirect_uri, registered, challenge).await;
        let begun = begun.map_err(|err| err.to_string())?;
        let server = server_at(environment, name, remote);
        let kept = Begun { server: server.url.clone(), url: begun.url.clone(), pending: begun.pending };
        let kept = SecretString::from(serde_json::to_string(&kept).map_err(|err| err.to_string())?);
        self.store.keep_mcp_sign_in(&begun.state, &server, &kept, GOOD_FOR).await.map_err(unreadable)?;
        Ok(begun.url)
    }

    /// Ends what somebody has begun, who came back. Gives the server's name.
    ///
    /// # Errors
    /// A sentence that says why it cannot be, for the log.
    pub async fn finish(&self, state: &str, code: &str, issuer: Option<&str>) -> Result<String, String> {
        let taken = self.store.take_mcp_sign_in(state).await.map_err(unreadable)?;
        let taken = taken.ok_or("it is not known, or not any more")?;
        let begun: Begun =
            serde_json::from_str(taken.begun.expose_secret()).map_err(|_| "what was kept of it cannot be read")?;
        let kept = oauth::finish(self.http(), &begun.pending, code, issuer).await.map_err(|err| err.to_string())?;
        let server = ServerAddress { environment: taken.environment, name: taken.server, url: begun.server };
        self.store.keep_mcp_tokens(&server, &SecretString::from(kept)).await.map_err(unreadable)?;
        Ok(server.name)
    }

    /// Gives the token for a server, renewed if it is about to expire, or is the one that was `refused`; `None` if somebody
    /// must sign in.
    ///
    /// # Errors
    /// A sentence that says why that cannot be found out now.
    pub(super) async fn token(
        &self,
        environment: &EnvironmentId,
        name: &str,
        remote: &Remote,
        refused: Option<&str>,
    ) -> Result<Option<SecretString>, String> {
        let server = server_at(environment, name, remote);
        let deadline = Instant::now() + RENEWAL;
        loop {
            let Some(kept) = self.store.open_mcp_tokens(&server).await.map_err(unreadable)? else { return Ok(None) };
            let tokens = Tokens::read(kept.tokens.expose_secret()).map_err(|err| err.to_string())?;
            let access = tokens.access().filter(|access| tokens.is_good() && refused != Some(*access));
            if let Some(access) = access {
                return Ok(Some(access.into()));
            }
            if self.store.begin_mcp_renewal(&server, &kept, RENEWAL).await.map_err(unreadable)? {
                // In a task of its own: who has half renewed them has lost them, also when the run stops now.
                let (sign_ins, server) = (self.clone(), server.clone());
                let renewed = tokio::spawn(async move { sign_ins.renew(&server, tokens, kept).await });
                renewed.await.map_err(|err| err.to_string())??;
            } else if Instant::now() > deadline {
                return Err("its token is renewed elsewhere, and that does not end".to_owned());
            } else {
                sleep(LOOK_EVERY).await;
            }
        }
    }

    /// Renews tokens, which nobody else does meanwhile.
    async fn renew(&self, server: &ServerAddress, tokens: Tokens, old: KeptTokens) -> Result<(), String> {
        match tokens.renew(self.http()).await {
            Ok(Some(new)) => self.store.end_mcp_renewal(server, &old, Some(&new.into())).await.map_err(unreadable),
            Ok(None) => self.store.drop_mcp_tokens(server, &old).await.map_err(unreadable),
            Err(err) => {
                self.store.end_mcp_renewal(server, &old, None).await.map_err(unreadable)?;
                Err(format!("its token cannot be renewed: {err}"))
            }
        }
    }

    fn http(&self) -> Http {
        let web = self.web.clone();
        Http { client: self.web.servers(), check: Arc::new(move |url: &Url| web.check_server(url)) }
    }
}

fn server_at(environment: &EnvironmentId, name: &str, remote: &Remote) -> ServerAddress {
    ServerAddress { environment: environment.clone(), name: name.to_owned(), url: remote.url.clone() }
}

fn unreadable(err: store::Error) -> String {
    tracing::warn!(error = &err as &dyn std::error::Error, "cannot read or keep an MCP server's sign-in");
    "what is kept of it cannot be reached".to_owned()
}
