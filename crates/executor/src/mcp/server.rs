//! One server: connected when it is needed, asked again what it has, started anew when it has ended.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use domain::mcp::{McpServer, Remote, Transport};
use mcp::{Answer, Client, Error, Headers, Link, Listing};
use sandbox::{Command, Exit, LastWords};
use secrecy::ExposeSecret;
use serde::Deserialize;
use serde_json::{Map, Value, value::RawValue};
use tokio::time::timeout;
use url::Url;

use super::{Options, account::Account, definitions::Asked, lock, result};
use crate::tools::{Context, Outcome, ToolError};

/// How long a server that says that its tools have changed may hold up a turn.
const LOOK_LIMIT: Duration = Duration::from_secs(5);

/// A server of a run.
pub(super) struct Server {
    /// With its variables filled in.
    config: McpServer,
    fingerprint: String,
    connection: mcp::Options,
    max_restarts: u32,
    /// Held while a connection is made, so that it is made once: whoever needs it waits for it here.
    link: tokio::sync::Mutex<Connected>,
    known: Mutex<Known>,
    is_old: AtomicBool,
    account: Account,
}

#[derive(Default)]
struct Connected {
    client: Option<Arc<Client>>,
    last_words: Option<LastWords>,
    starts: u32,
}

#[derive(Default)]
struct Known {
    listing: Option<Arc<Listing>>,
    /// It is not what was recalled.
    is_news: bool,
    problems: Vec<String>,
}

impl Server {
    /// Reads what there is to know before it is started.
    ///
    /// # Errors
    /// A sentence that says why it cannot be.
    pub(super) fn new<'a>(
        config: McpServer,
        has_internet: bool,
        find: impl Fn(&str) -> Option<&'a str>,
        options: &Options,
        account: Account,
    ) -> Result<Self, String> {
        let unusable = |why: String| format!("The MCP server {:?} cannot be used: {why}.", config.name);
        let fingerprint = fingerprint(&config);
        if !matches!(config.transport, Transport::Stdio { .. }) && !has_internet {
            return Err(unusable("this run has no internet access".into()));
        }
        let config = config.with_variables(find).map_err(|err| unusable(err.to_string()))?;
        let (connection, max_restarts) = (options.connection.clone(), options.max_restarts);
        let (link, known) = Default::default();
        let is_old = AtomicBool::new(false);
        Ok(Self { config, fingerprint, connection, max_restarts, link, known, is_old, account })
    }

    pub(super) fn name(&self) -> &str {
        &self.config.name
    }

    /// Says how it is reached, without what may be a secret.
    pub(super) fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    pub(super) fn secrets(&self) -> Vec<&str> {
        self.config.secrets()
    }

    pub(super) fn listing(&self) -> Option<Arc<Listing>> {
        lock(&self.known).listing.clone()
    }

    pub(super) fn is_known(&self) -> bool {
        lock(&self.known).listing.is_some()
    }

    pub(super) fn is_old(&self) -> bool {
        self.is_old.load(Ordering::Relaxed)
    }

    /// Takes what it said that it has when it was asked last.
    pub(super) fn recall(&self, listing: &str, is_old: bool) {
        // What an earlier release has kept and this one cannot read is asked for again.
        if let Ok(listing) = serde_json::from_str::<Listing>(listing) {
            lock(&self.known).listing = Some(Arc::new(listing));
            self.is_old.store(is_old, Ordering::Relaxed);
        }
    }

    /// Gives what it has, to be kept, if that is other than what was recalled.
    pub(super) fn take_news(&self) -> Option<String> {
        let mut known = lock(&self.known);
        let listing = known.listing.clone().filter(|_| std::mem::take(&mut known.is_news))?;
        serde_json::to_string(&*listing).ok()
    }

    pub(super) fn take_problems(&self) -> Vec<String> {
        std::mem::take(&mut lock(&self.known).problems)
    }

    /// Connects, if it is not connected; what goes wrong is told later.
    pub(super) async fn start(&self, cx: &Context) {
        if let Err(why) = self.client(cx).await {
            let problem = format!("The MCP server {:?} cannot be used now: {why}.", self.name());
            lock(&self.known).problems.push(problem);
        }
    }

    /// Asks again what it has, if it has said that this has changed.
    pub(super) async fn look(&self) {
        // While it is being connected there is nothing to ask, and nobody is to wait for that.
        let Ok(client) = self.link.try_lock().map(|link| link.client.clone()) else { return };
        let Some(client) = client.filter(|client| !client.is_closed() && client.take_change()) else { return };
        if let Ok(Ok(listing)) = timeout(LOOK_LIMIT, client.list()).await {
            self.learn(listing);
        }
    }

    /// Does what a call asks. `offered` is what the model was told that the server has.
    pub(super) async fn call(
        &self,
        cx: &Context,
        asked: &Asked,
        offered: Option<&Listing>,
        input: &RawValue,
    ) -> Result<Outcome, ToolError> {
        let outcome = self.do_call(cx, asked, offered, input).await?;
        Ok(self.account.clean(outcome))
    }

    async fn do_call(
        &self,
        cx: &Context,
        asked: &Asked,
        offered: Option<&Listing>,
        input: &RawValue,
    ) -> Result<Outcome, ToolError> {
        let about = result::Asked {
            server: self.name(),
            tool: match asked {
                Asked::Tool(name) => name,
                Asked::Resources => "resources",
                Asked::Prompts => "prompts",
            },
            arguments: input.get(),
        };
        let Ok(arguments) = serde_json::from_str::<Map<String, Value>>(input.get()) else {
            return Err(ToolError::ForModel("The input must be a JSON object.".into()));
        };
        let mut may_ask_again = true;
        loop {
            let client = match self.client(cx).await {
                Ok(client) => client,
                Err(why) => {
                    return Ok(about.failure(format!("The MCP server {:?} cannot be used: {why}.", self.name())));
                }
            };
            // Whether the call may be made was judged by what the tool said of itself then.
            if let (Asked::Tool(name), Some(offered), Some(now)) = (asked, offered, self.listing())
                && has_changed(name, offered, &now)
            {
                return Ok(about.failure(format!(
                    "The tool {name} of the MCP server {:?} is not what it was when it was offered, and was not called. \
                     What it says of itself now is offered from now on.",
                    self.name()
                )));
            }
            let text = match self.ask(&client, asked, arguments.clone()).await {
                Ok(answer) => return Ok(about.outcome(cx, answer)),
                Err(Error::Unauthorized { challenge }) => {
                    // Nothing was done for its token, so it is asked again, once, if there may be another.
                    if self.leave(&client).await && std::mem::take(&mut may_ask_again) {
                        continue;
                    }
                    let why = self.account.ask_for(self.name(), &self.config.transport, &challenge).await;
                    format!("The MCP server {:?} did not do the call: {why}.", self.name())
                }
                Err(err) => {
                    if matches!(err, Error::TimedOut(_)) {
                        self.give_up(&client).await;
                    }
                    self.explain(&err, asked).await
                }
            };
            return Ok(about.failure(text));
        }
    }

    async fn ask(&self, client: &Client, asked: &Asked, arguments: Map<String, Value>) -> Result<Answer, Error> {
        let limit = self.config.timeout;
        match asked {
            Asked::Tool(name) => client.call(name, arguments, limit).await,
            Asked::Resources => match arguments.get("uri").and_then(Value::as_str).filter(|uri| !uri.is_empty()) {
                Some(uri) => client.read_resource(uri, limit).await,
                None => client.list_resources(limit).await,
            },
            Asked::Prompts => match Prompt::deserialize(Value::Object(arguments)) {
                Ok(Prompt { name: Some(name), arguments }) => client.prompt(&name, arguments, limit).await,
                Ok(Prompt { name: None, .. }) => client.list_prompts(limit).await,
                Err(err) => Err(Error::Refused(err.to_string())),
            },
        }
    }

    /// After a call that took too long: a server that answers nothing else either is ended, to be started anew.
    async fn give_up(&self, client: &Arc<Client>) {
        if let Ok(Ok(_)) = timeout(LOOK_LIMIT, client.list()).await {
            return;
        }
        let mut link = self.link.lock().await;
        // Another call may have been faster, and what is there now is another connection.
        link.client.take_if(|there| Arc::ptr_eq(there, client));
    }

    /// After a call that was not allowed: ends the connection, so that the next is made with another token. Tells whether
    /// there may be one.
    async fn leave(&self, client: &Arc<Client>) -> bool {
        let mut link = self.link.lock().await;
        // Another call may have been faster, and what is there now has another token.
        if link.client.take_if(|there| Arc::ptr_eq(there, client)).is_none() {
            return true;
        }
        // It has not failed.
        link.starts = link.starts.saturating_sub(1);
        self.account.take_refusal()
    }

    /// Says to the model what went wrong with a call.
    async fn explain(&self, err: &Error, asked: &Asked) -> String {
        let name = self.name();
        match (err, asked) {
            (Error::Closed(_), Asked::Tool(_)) => {
                let ended = self.ended().await;
                format!(
                    "The MCP server {name:?} failed while this call ran ({err}{ended}). Whether the call had an effect is \
                     unknown: look before you repeat it. It is started again with the next call."
                )
            }
            (Error::TimedOut(_), Asked::Tool(_)) => format!(
                "The MCP server {name:?} failed: {err}. Whether the call had an effect is unknown: look before you repeat it."
            ),
            (Error::Refused(what), _) => format!("The MCP server {name:?} refused the call: {what}"),
            _ => format!("The MCP server {name:?} failed: {err}."),
        }
    }

    /// Says how its process ended, and what it said before.
    async fn ended(&self) -> String {
        let last_words = self.link.lock().await.last_words.clone();
        last_words.map(|words| describe_end(&words)).unwrap_or_default()
    }

    /// Gives the connection, made if there is none.
    async fn client(&self, cx: &Context) -> Result<Arc<Client>, String> {
        let mut link = self.link.lock().await;
        if let Some(client) = link.client.as_ref().filter(|client| !client.is_closed()) {
            return Ok(Arc::clone(client));
        }
        // The old connection first: of one server there is never more than one process.
        link.client = None;
        if link.starts > self.max_restarts {
            return Err(format!("it has failed {} times in this run and is not started again", link.starts));
        }
        link.starts += 1;
        let mut connected = self.connect(cx, &mut link).await?;
        // A token may be refused before its time, and another be had for it.
        if matches!(connected, Err(Error::Unauthorized { .. })) && self.account.take_refusal() {
            connected = self.connect(cx, &mut link).await?;
        }
        let (client, listing) = match connected {
            Ok(connected) => connected,
            Err(Error::Unauthorized { challenge }) => {
                // It has not failed, and is asked again by the next call: somebody may have signed in by then.
                link.starts = link.starts.saturating_sub(1);
                return Err(self.account.ask_for(self.name(), &self.config.transport, &challenge).await);
            }
            Err(err) => {
                let ended = link.last_words.as_ref().map(describe_end).unwrap_or_default();
                return Err(format!("{err}{ended}"));
            }
        };
        self.learn(listing);
        let client = Arc::new(client);
        link.client = Some(Arc::clone(&client));
        Ok(client)
    }

    /// Connects, and asks what it has: some want to know who asks only then.
    async fn connect(&self, cx: &Context, link: &mut Connected) -> Result<Result<(Client, Listing), Error>, String> {
        let (way, last_words) = self.open(cx).await?;
        link.last_words = last_words;
        let connected = async {
            let client = Client::connect(way, self.connection.clone()).await?;
            // What it said so far is in what it is asked now.
            client.take_change();
            let listing = client.list().await?;
            Ok((client, listing))
        };
        Ok(connected.await)
    }

    /// Opens the way to it.
    async fn open(&self, cx: &Context) -> Result<(Link, Option<LastWords>), String> {
        match &self.config.transport {
            Transport::Http(there) => {
                let (http, url, headers) = self.remote(cx, there).await?;
                Ok((Link::Http { http, url, headers }, None))
            }
            Transport::Sse(there) => {
                let (http, url, headers) = self.remote(cx, there).await?;
                Ok((Link::Sse { http, url, headers }, None))
            }
            Transport::Stdio { command, args, env } => {
                let mut variables = cx.env.clone();
                variables.retain(|(name, _)| !env.contains_key(name));
                variables.extend(env.iter().map(|(name, value)| (name.clone(), value.clone())));
                let command = Command {
                    argv: std::iter::once(command).chain(args).cloned().collect(),
                    env: variables,
                    group: cx.group.clone(),
                    stdin: true,
                    ..Command::default()
                };
                let started = async { cx.sandbox().await?.spawn(command).await };
                let started = timeout(self.connection.connect_timeout, started).await;
                let started = started.map_err(|_| "the computer did not start in time")?;
                let process = started.map_err(|err| match err {
                    sandbox::Error::NotFound(what) => format!("there is no program {what} in the computer"),
                    err => {
                        tracing::warn!(error = &err as &dyn std::error::Error, "cannot start an MCP server");
                        err.to_string()
                    }
                })?;
                let stdio = process.into_stdio();
                let last_words = stdio.last_words();
                Ok((Link::Process(Box::new(stdio)), Some(last_words)))
            }
        }
    }

    /// Gives what it is reached with, with the token of its own or of somebody's signing in.
    async fn remote(&self, cx: &Context, remote: &Remote) -> Result<(reqwest::Client, Url, Headers), String> {
        let url = Url::parse(&remote.url).map_err(|err| format!("its url is not valid ({err})"))?;
        cx.web.check_server(&url)?;
        let token = self.account.token(self.name(), remote).await?;
        let token = token.as_ref().map(ExposeSecret::expose_secret);
        Ok((cx.web.servers(), url, Headers::new(&remote.headers, token)?))
    }

    fn learn(&self, listing: Listing) {
        let was_old = self.is_old.swap(false, Ordering::Relaxed);
        let mut known = lock(&self.known);
        if known.listing.as_deref() == Some(&listing) {
            // Kept again, it is fresh again.
            known.is_news |= was_old;
            return;
        }
        for left_out in &listing.left_out {
            known.problems.push(format!("Of the MCP server {:?} a tool is left out: {left_out}.", self.config.name));
        }
        if known.listing.is_some() {
            let said = "has other tools than before";
            known.problems.push(format!("The MCP server {:?} {said}.", self.config.name));
        }
        known.listing = Some(Arc::new(listing));
        known.is_news = true;
    }
}

fn has_changed(tool: &str, offered: &Listing, now: &Listing) -> bool {
    let find = |listing: &Listing| listing.tools.iter().find(|other| other.name == tool).cloned();
    // One that is gone says so itself.
    find(offered).zip(find(now)).is_some_and(|(offered, now)| offered != now)
}

/// What a prompt is asked for by.
#[derive(Debug, Deserialize)]
struct Prompt {
    name: Option<String>,
    #[serde(default)]
    arguments: Map<String, Value>,
}

fn describe_end(words: &LastWords) -> String {
    let exit = match words.exit() {
        Some(Exit::Code(code)) => format!("; it ended with code {code}"),
        Some(Exit::Signal(signal)) => format!("; signal {signal} ended it"),
        Some(Exit::OutOfMemory) => "; it was out of memory".to_owned(),
        Some(Exit::OverDisk) => "; the computer's disk is full".to_owned(),
        Some(Exit::TimedOut | Exit::Killed) | None => String::new(),
    };
    let stderr = words.stderr();
    let from = stderr.ceil_char_boundary(stderr.len().saturating_sub(1000));
    match &stderr[from..] {
        "" => exit,
        said => format!("{exit}; it wrote: {said}"),
    }
}

/// Says how a server is reached. Values of variables and headers are left out: what they change is found out when it is
/// asked.
fn fingerprint(config: &McpServer) -> String {
    let names = |map: &std::collections::BTreeMap<String, String>| map.keys().cloned().collect::<Vec<_>>();
    let how = match &config.transport {
        Transport::Stdio { command, args, env } => serde_json::json!(["stdio", command, args, names(env)]),
        Transport::Http(remote) => serde_json::json!(["http", remote.url, names(&remote.headers)]),
        Transport::Sse(remote) => serde_json::json!(["sse", remote.url, names(&remote.headers)]),
    };
    how.to_string()
}
