//! The MCP servers of one run: known before they are there, started when they are needed, gone with the run.
//!
//! # When a server starts
//!
//! The model must be told of all tools with its first request, but a server (a Node.js process, say) takes a second to
//! start, and twenty of them take twenty. So what each server has is kept (`Store::keep_mcp_listing`) under how it is
//! reached:
//!
//! - What is known is offered at once. Such a server is started when the model *begins to write* a call to one of its
//!   tools: it starts while the input is being written, and a run that does not need it does not pay for it.
//! - What is not known is started before the first request, all side by side and beside the container, and waited for
//!   until [`Options::first_wait`]. Who is later joins with a later turn.
//! - What was asked long ago ([`Options::max_age`]) is started beside the first request, and what it has by now is
//!   offered with the next turn. So is what a server says has changed.
//!
//! # What changes, and what that costs
//!
//! Tools stand in front of everything that the provider caches, so they are the same bytes for as long as the servers say
//! the same: sorted, with names that depend on nothing but theirs. When they do change, the cache is lost, and thinking
//! that newer models have bound to the old tools cannot be sent back; `offer` deals with that.
//!
//! # How it ends
//!
//! Connections belong to the run: dropping [`Servers`] closes them, and with its connection a process in the container
//! is killed with all it started, by the daemon there and thus also when this server is no more. A run that waits for
//! somebody holds no servers either. One that dies under a call is a result that says so, and is started anew for the
//! next call, a few times.

mod account;
mod approvals;
mod definitions;
mod offer;
mod result;
mod server;
mod sign_in;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use domain::{
    EnvironmentId,
    mcp::{McpServer, Names},
};
use futures::future::join_all;
use serde_json::Value;
use store::{Store, mcp::OfferedTool};
use tokio::{task::AbortHandle, time::timeout};

pub use self::sign_in::SignIns;
use self::{
    account::Account,
    definitions::{Asked, Offer},
    server::Server,
};
pub(crate) use self::{approvals::ChangedTools, offer::unbind};
use crate::tools::{Call, Context, Outcome, ToolError};

/// How the servers of runs are used.
#[derive(Debug, Clone)]
pub struct Options {
    pub connection: mcp::Options,
    /// How long the first request of a run waits for servers of which nothing is known.
    pub first_wait: Duration,
    /// How long what a server has is believed without asking it again.
    pub max_age: Duration,
    /// How often a server that has ended is started again in one run.
    pub max_restarts: u32,
    /// Networks that are not public and may be reached all the same.
    pub allowed: Vec<domain::address::Network>,
    /// Where whoever signs in to a server is sent back to: the API's callback.
    pub redirect_uri: String,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            connection: mcp::Options::default(),
            first_wait: Duration::from_secs(10),
            max_age: Duration::from_secs(24 * 3600),
            max_restarts: 3,
            allowed: Vec::new(),
            redirect_uri: "http://127.0.0.1:8080/v1/mcp/callback".into(),
        }
    }
}

/// The servers of one run. Dropping it ends their connections.
pub(crate) struct Servers {
    servers: Vec<Arc<Server>>,
    offer: Mutex<Offer>,
    starting: Mutex<Vec<AbortHandle>>,
    problems: Mutex<Vec<String>>,
    max_age: Duration,
    first_wait: Duration,
}

impl Servers {
    /// Reads the servers of a run: of its environment, and of its message, whose own win where names are the same.
    /// `find` gives the run's variables; without internet none is reached that is not in the container.
    pub(crate) fn new<'a>(
        of_environment: &[Value],
        of_message: &[Value],
        has_internet: bool,
        find: impl Fn(&str) -> Option<&'a str>,
        options: &Options,
        sign_ins: &SignIns,
        environment: &EnvironmentId,
    ) -> Self {
        let mut problems = Vec::new();
        let mut read = |stored: &Value| match McpServer::parse(stored) {
            Ok(server) => Some(server),
            Err(err) => {
                problems.push(format!("{err}."));
                None
            }
        };
        let mut named: Vec<McpServer> = of_message.iter().filter_map(&mut read).collect();
        for server in of_environment.iter().filter_map(&mut read) {
            if !named.iter().any(|other| other.name == server.name) {
                named.push(server);
            }
        }
        named.retain(|server| server.is_enabled);
        // Names depend on the order where two are alike.
        named.sort_by(|a, b| a.name.cmp(&b.name));
        let mut servers = Vec::new();
        for server in named {
            let account = Account::new(sign_ins.clone(), environment.clone());
            match Server::new(server, has_internet, &find, options, account) {
                Ok(server) => servers.push(Arc::new(server)),
                Err(problem) => problems.push(problem),
            }
        }
        Self {
            servers,
            offer: Mutex::default(),
            starting: Mutex::default(),
            problems: Mutex::new(problems),
            max_age: options.max_age,
            first_wait: options.first_wait,
        }
    }

    /// Gives the values that must be in nothing that a tool gives.
    pub(crate) fn secrets(&self) -> impl Iterator<Item = &str> {
        self.servers.iter().flat_map(|server| server.secrets())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.servers.is_empty()
    }

    /// Takes what is known of the servers from earlier runs.
    pub(crate) async fn recall(&self, store: &Store, environment: &EnvironmentId) -> Result<(), store::Error> {
        if self.is_empty() {
            return Ok(());
        }
        let fingerprints: Vec<_> = self.servers.iter().map(|server| server.fingerprint().to_owned()).collect();
        let found = store.find_mcp_listings(environment, &fingerprints, self.max_age).await?;
        for (server, found) in self.servers.iter().zip(found) {
            if let Some(kept) = found {
                server.recall(&kept.listing, kept.is_old);
            }
        }
        self.update();
        Ok(())
    }

    /// Starts what must be asked what it has, and waits a while for those of which nothing is known.
    pub(crate) async fn prepare(&self, cx: &Arc<Context>) {
        let unknown = self.servers.iter().filter(|server| !server.is_known());
        let awaited: Vec<_> = unknown.map(|server| self.start(server, cx)).collect();
        for server in self.servers.iter().filter(|server| server.is_known() && server.is_old()) {
            drop(self.start(server, cx));
        }
        if !awaited.is_empty() {
            // Those that are late go on, and join when they are there.
            let _ = timeout(self.first_wait, join_all(awaited)).await;
        }
    }

    /// The model is about to call a tool: if it is one of a server's that does not run yet, it starts now.
    pub(crate) fn expect(&self, name: &str, cx: &Arc<Context>) {
        let server = lock(&self.offer).names.find(name).map(|named| named.server);
        if let Some(server) = server.and_then(|at| self.servers.get(at)) {
            drop(self.start(server, cx));
        }
    }

    /// Takes in what servers have said since, keeps it for later runs, and tells whether other tools are to be offered.
    pub(crate) async fn look(&self, store: &Store, environment: &EnvironmentId) -> bool {
        join_all(self.servers.iter().map(|server| server.look())).await;
        for server in &self.servers {
            lock(&self.problems).extend(server.take_problems());
            let Some(listing) = server.take_news() else { continue };
            if let Err(err) = store.keep_mcp_listing(environment, server.fingerprint(), &listing).await {
                tracing::warn!(error = &err as &dyn std::error::Error, "cannot keep what an MCP server has");
            }
        }
        self.update()
    }

    /// Gives sentences about what does not work, once.
    pub(crate) fn take_problems(&self) -> Vec<String> {
        std::mem::take(&mut lock(&self.problems))
    }

    /// Describes the servers' tools to the model, sorted by name.
    pub(crate) fn definitions(&self) -> Vec<claude::Tool> {
        lock(&self.offer).definitions.clone()
    }

    /// Gives the servers' own tools as they are offered: the name that the model calls, what it is, and how it describes itself.
    pub(crate) fn offered_tools(&self) -> Vec<(String, OfferedTool, String)> {
        let offer = lock(&self.offer);
        let tools = offer.names.iter().filter_map(|(name, named)| {
            let Asked::Tool(tool) = &named.tool else { return None };
            let (server, described) = (self.servers.get(named.server)?, offer.tool(named.server, tool)?);
            let offered = OfferedTool {
                fingerprint: server.fingerprint().to_owned(),
                tool: tool.clone(),
                definition: serde_json::to_string(described).ok()?,
            };
            Some((name.to_owned(), offered, described.description.clone()))
        });
        tools.collect()
    }

    /// Gives what tells these definitions from others; `None` if there are none.
    pub(crate) fn digest(&self) -> Option<String> {
        lock(&self.offer).digest.clone()
    }

    /// Tells whether a call is a server's matter.
    pub(crate) fn are_asked(name: &str) -> bool {
        Names::<Asked>::are(name)
    }

    /// Calls a server's tool. A server that fails is a result.
    pub(crate) async fn call(&self, cx: &Context, call: Call<'_>) -> Result<Outcome, ToolError> {
        let (named, listing) = {
            let offer = lock(&self.offer);
            let named = offer.names.find(call.name).cloned();
            let listing = named.as_ref().and_then(|named| offer.listing(named.server));
            (named, listing)
        };
        let Some((server, asked)) = named.and_then(|named| Some((self.servers.get(named.server)?, named.tool))) else {
            let name: String = call.name.chars().take(100).collect();
            return Err(ToolError::ForModel(format!("There is no tool named {name:?} (any more).")));
        };
        call.stop
            .run_until_cancelled(server.call(cx, &asked, listing.as_deref(), call.input))
            .await
            .unwrap_or(Err(ToolError::Stopped))
    }

    /// Starts a server in a task of its own.
    fn start(&self, server: &Arc<Server>, cx: &Arc<Context>) -> impl Future<Output = ()> + use<> {
        let (server, cx) = (Arc::clone(server), Arc::clone(cx));
        let task = tokio::spawn(async move { server.start(&cx).await });
        let mut starting = lock(&self.starting);
        starting.retain(|task| !task.is_finished());
        starting.push(task.abort_handle());
        async move { drop(task.await) }
    }

    /// Makes the offer anew if there is news, and tells whether it is another.
    fn update(&self) -> bool {
        let listings: Vec<_> = self.servers.iter().map(|server| (server.name().to_owned(), server.listing())).collect();
        let new = Offer::new(&listings);
        let mut offer = lock(&self.offer);
        let is_other = offer.digest != new.digest;
        *offer = new;
        is_other
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        lock(&self.starting).iter().for_each(AbortHandle::abort);
    }
}

/// Nothing panics while it holds one of these locks, and what they guard is whole at any time.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
