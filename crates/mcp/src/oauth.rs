//! Signing in to a server by OAuth, as the protocol's authorization says: who gives tokens is found out from the server, a
//! client is registered there if none was, somebody opens an address and comes back with a code.
//!
//! Between the steps hours may pass and servers change, so each gives a text to be kept, which is a secret, and takes it
//! again. `rmcp` knows the rules; here are what it is to use and what is to be kept. What it would log of codes and tokens
//! goes nowhere.

mod http;

use std::{
    error::Error as StdError,
    fmt::Write,
    time::{Duration, SystemTime},
};

use oauth2::TokenResponse;
use rmcp::transport::auth::{
    AuthError, AuthorizationManager, AuthorizationMetadata, CredentialStore, InMemoryCredentialStore,
    InMemoryStateStore, OAuthClientConfig, StateStore, StoredAuthorizationState, StoredCredentials,
};
use serde::{Deserialize, Serialize};
use tokio::time::timeout;
use tracing::{Dispatch, instrument::WithSubscriber};
use url::Url;

pub use self::http::{Check, Http};
use self::http::{Form, Guarded};
use crate::Error;

const CLIENT_NAME: &str = "Atelier";

/// One step: finding out and registering is a handful of requests.
const TIME_LIMIT: Duration = Duration::from_secs(45);

/// The longest address that somebody is sent to.
const MAX_URL_BYTES: usize = 4096;

const MAX_SHOWN_CHARS: usize = 300;

/// A token is renewed when it is good for less than this, or than half of its time.
const RENEW_BEFORE: Duration = Duration::from_secs(30);

/// A client that was registered with the authorization server before.
#[derive(Debug, Clone)]
pub struct Registered {
    pub id: String,
    pub secret: Option<String>,
}

/// What was begun.
pub struct Begun {
    /// What somebody is to open.
    pub url: Url,
    /// By which it is known who comes back.
    pub state: String,
    /// To be kept until then.
    pub pending: String,
}

#[derive(Serialize, Deserialize)]
struct Client {
    id: String,
    secret: Option<String>,
    redirect_uri: String,
}

/// Where tokens come from, and for what.
#[derive(Serialize, Deserialize)]
struct Source {
    server: Url,
    /// What the server calls itself.
    resource: String,
    metadata: AuthorizationMetadata,
    client: Client,
}

#[derive(Serialize, Deserialize)]
struct Pending {
    source: Source,
    state: StoredAuthorizationState,
}

/// Tokens for a server, with what is needed to renew them.
#[derive(Serialize, Deserialize)]
pub struct Tokens {
    source: Source,
    credentials: StoredCredentials,
}

/// Begins to sign in to a server. `challenge` is its `WWW-Authenticate`, if there is one.
///
/// # Errors
/// When the server tells nobody who could give a token, or that one refuses.
pub async fn begin(
    http: Http,
    server: &Url,
    redirect_uri: &str,
    registered: Option<Registered>,
    challenge: Option<&str>,
) -> Result<Begun, Error> {
    let begun = async {
        let guarded = Guarded::new(http, server, None);
        let states = InMemoryStateStore::new();
        let mut manager = AuthorizationManager::new_with_oauth_http_client(server.clone(), guarded.clone()).await?;
        manager.set_state_store(states.clone());
        let found = manager.resolve_metadata_from_challenge(challenge.filter(|text| !text.is_empty())).await?;
        if !found.source.is_discovered() {
            return Err(Error::SignIn("it does not say who gives tokens for it".to_owned()));
        }
        let metadata = found.metadata;
        manager.set_metadata(metadata.clone());
        let scopes = manager.select_initial_scopes(&[]).await;
        let scopes: Vec<&str> = scopes.iter().map(String::as_str).collect();
        let client = register(&mut manager, redirect_uri, registered, &scopes).await?;
        let url = manager.get_authorization_url(&scopes).await?;
        let url = Url::parse(&url).ok().filter(|url| url.as_str().len() <= MAX_URL_BYTES);
        let url = url.ok_or_else(|| Error::SignIn("the address to open is too long, or is none".to_owned()))?;
        guarded.check_scheme(&url).map_err(Error::SignIn)?;
        // The last of a name is ours: an address that had one already has another before it.
        let find =
            |name: &str| url.query_pairs().filter(|(key, _)| key == name).last().map(|(_, value)| value.into_owned());
        let (Some(token), Some(resource)) = (find("state"), find("resource")) else {
            return Err(Error::SignIn("the address to open lacks what must be in it".to_owned()));
        };
        let state = states.load(&token).await?;
        let state = state.ok_or_else(|| Error::SignIn("the address to open has another state".to_owned()))?;
        let source = Source { server: server.clone(), resource, metadata, client };
        Ok(Begun { url, state: token, pending: to_text(&Pending { source, state })? })
    };
    limited(begun).await
}

/// Trades the code with which somebody came back for tokens. Gives what is to be kept.
///
/// # Errors
/// When what was kept is not readable, or the authorization server refuses, or is another than it was begun with.
pub async fn finish(http: Http, pending: &str, code: &str, issuer: Option<&str>) -> Result<String, Error> {
    let Pending { source, state } = from_text(pending)?;
    let finished = async {
        let (states, credentials) = (InMemoryStateStore::new(), InMemoryCredentialStore::new());
        let token = state.csrf_token.clone();
        states.save(&token, state).await?;
        let mut manager = source.manager(http).await?;
        manager.set_state_store(states);
        manager.set_credential_store(credentials.clone());
        manager.exchange_code_for_token_with_issuer(code, &token, issuer).await?;
        let credentials = credentials.load().await?.ok_or_else(|| Error::SignIn("no token was given".to_owned()))?;
        to_text(&Tokens { source, credentials })
    };
    limited(finished).await
}

impl Tokens {
    /// Reads what was kept.
    ///
    /// # Errors
    /// When it is not what was given to be kept.
    pub fn read(kept: &str) -> Result<Self, Error> {
        from_text(kept)
    }

    /// Gives the token that the server is sent.
    pub fn access(&self) -> Option<&str> {
        self.credentials.token_response.as_ref().map(|response| response.access_token().secret().as_str())
    }

    /// Tells whether it is good for a while, as far as anybody said.
    pub fn is_good(&self) -> bool {
        let lifetime = self.credentials.token_response.as_ref().and_then(TokenResponse::expires_in);
        let (Some(lifetime), Some(received_at)) = (lifetime, self.credentials.token_received_at) else { return true };
        let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        let age = now.saturating_sub(Duration::from_secs(received_at));
        lifetime.saturating_sub(age) > RENEW_BEFORE.min(lifetime / 2)
    }

    /// Renews them. Gives what is to be kept instead; `None` if somebody must sign in again.
    ///
    /// # Errors
    /// When that cannot be found out now.
    pub async fn renew(self, http: Http) -> Result<Option<String>, Error> {
        let Self { source, credentials } = self;
        let renewed = async {
            let store = InMemoryCredentialStore::new();
            store.save(credentials).await?;
            let mut manager = source.manager(http).await?;
            manager.set_credential_store(store.clone());
            match manager.refresh_token().await {
                Ok(_) => {}
                Err(AuthError::AuthorizationRequired | AuthError::TokenRefreshRejected(_)) => return Ok(None),
                Err(err) => return Err(err.into()),
            }
            let credentials = store.load().await?.ok_or_else(|| Error::SignIn("no token was given".to_owned()))?;
            to_text(&Self { source, credentials }).map(Some)
        };
        limited(renewed).await
    }
}

impl Source {
    async fn manager(&self, http: Http) -> Result<AuthorizationManager, Error> {
        let form = Form { resource: self.resource.clone(), client_id: self.client.id.clone() };
        let guarded = Guarded::new(http, &self.server, Some(form));
        let mut manager = AuthorizationManager::new_with_oauth_http_client(self.server.clone(), guarded).await?;
        manager.set_metadata(self.metadata.clone());
        manager.configure_client(self.client.config())?;
        Ok(manager)
    }
}

impl Client {
    fn config(&self) -> OAuthClientConfig {
        let config = OAuthClientConfig::new(self.id.as_str(), self.redirect_uri.as_str());
        // What is called back by TLS is a web application; a native one must call itself, on its own host.
        let kind = if self.redirect_uri.starts_with("https:") { "web" } else { "native" };
        let config = config.with_application_type(kind);
        match &self.secret {
            Some(secret) => config.with_client_secret(secret.as_str()),
            None => config,
        }
    }
}

/// Gives the client to ask as: the one that was registered, else a new one.
async fn register(
    manager: &mut AuthorizationManager,
    redirect_uri: &str,
    registered: Option<Registered>,
    scopes: &[&str],
) -> Result<Client, Error> {
    let has_client = registered.is_some();
    let Registered { id, secret } = registered.unwrap_or_else(|| Registered { id: "new".to_owned(), secret: None });
    let client = Client { id, secret, redirect_uri: redirect_uri.to_owned() };
    // Also for one that is still to be registered: that is how it is told what kind of application it is.
    manager.configure_client(client.config())?;
    if has_client {
        return Ok(client);
    }
    let new = manager.register_client(CLIENT_NAME, redirect_uri, scopes).await?;
    Ok(Client { id: new.client_id, secret: new.client_secret, ..client })
}

/// Does a step, in time and without a word to the log: `rmcp` would tell of codes.
async fn limited<T>(step: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    timeout(TIME_LIMIT, step).with_subscriber(Dispatch::none()).await.unwrap_or(Err(Error::TimedOut(TIME_LIMIT)))
}

impl From<AuthError> for Error {
    fn from(err: AuthError) -> Self {
        let mut text = err.to_string();
        let mut cause = err.source();
        while let Some(source) = cause {
            let _ = write!(text, ": {source}");
            cause = source.source();
        }
        // Some hold what somebody else answered, whole.
        Self::SignIn(text.chars().filter(|c| !c.is_control()).take(MAX_SHOWN_CHARS).collect())
    }
}

fn to_text(value: &impl Serialize) -> Result<String, Error> {
    serde_json::to_string(value).map_err(|err| Error::SignIn(err.to_string()))
}

/// Never says what is wrong: the text is a secret.
fn from_text<T: for<'de> Deserialize<'de>>(text: &str) -> Result<T, Error> {
    serde_json::from_str(text).map_err(|_| Error::SignIn("what was kept of it cannot be read".to_owned()))
}
