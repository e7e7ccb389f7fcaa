//! A connection to one server.

use std::{
    future::Future,
    pin::pin,
    sync::{Arc, OnceLock},
    time::Duration,
};

use futures::future::BoxFuture;
use rmcp::{
    ClientServiceExt, Peer, RoleClient, ServiceError,
    model::{
        CallToolRequestParams, GetPromptRequestParams, PaginatedRequestParams, ProtocolVersion,
        ReadResourceRequestParams, ServerCapabilities, SubscriptionFilter,
    },
    service::{ClientInitializeError, ClientLifecycleMode, RunningService},
    transport::{
        IntoTransport, StreamableHttpClientTransport, Transport, async_rw::AsyncRwTransport,
        streamable_http_client::StreamableHttpClientTransportConfig,
    },
};
use serde_json::{Map, Value};
use tokio::{
    task::AbortHandle,
    time::{Instant, sleep_until, timeout},
};

use crate::{
    Answer, Content, Error, Headers, Link, Listing, bounded::Bounded, handler::Handler, lent::Lent, sse::SseTransport,
};

/// Pages of a list that are asked for: a server may go on giving them for ever.
const MAX_PAGES: usize = 50;

/// Resources and prompts that are told of at most.
const MAX_LISTED: usize = 200;

/// How servers are greeted that do not know the newest revision.
const OLDER: ClientLifecycleMode = ClientLifecycleMode::Initialize;

/// Limits of a connection.
#[derive(Debug, Clone)]
pub struct Options {
    /// How long it may take until the server is ready, and until it has said what it has.
    pub connect_timeout: Duration,
    /// How long a call may go on without a word from the server.
    pub call_timeout: Duration,
    /// How long a call may take in all, however much progress it tells of.
    pub max_call_time: Duration,
    /// The largest message that is taken, in bytes.
    pub max_message_bytes: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(30),
            call_timeout: Duration::from_secs(120),
            max_call_time: Duration::from_secs(1800),
            max_message_bytes: 8 * 1024 * 1024,
        }
    }
}

/// A server that is ready. Dropping it ends the connection, and a process with it.
pub struct Client {
    service: RunningService<RoleClient, Handler>,
    handler: Handler,
    options: Options,
    /// Why the connection was ended from this side.
    why: Arc<OnceLock<String>>,
    listening: Option<AbortHandle>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("options", &self.options).finish_non_exhaustive()
    }
}

impl Client {
    /// Connects, in the newest revision of the protocol that both sides know.
    ///
    /// # Errors
    /// See [`Error`]; never later than [`Options::connect_timeout`].
    pub async fn connect(link: Link, options: Options) -> Result<Self, Error> {
        let limit = options.connect_timeout;
        timeout(limit, Self::begin(link, options)).await.unwrap_or(Err(Error::TimedOut(limit)))
    }

    async fn begin(link: Link, options: Options) -> Result<Self, Error> {
        let why = Arc::new(OnceLock::new());
        match link {
            Link::Process(stream) => {
                let stream = Bounded::new(stream, options.max_message_bytes, Arc::clone(&why));
                let (read, write) = tokio::io::split(stream);
                // The limit is ours: there a line that is too long is dropped, and what waits for it goes on waiting.
                let transport = AsyncRwTransport::new(read, write).with_max_line_length(usize::MAX);
                Self::greet_process(transport, options, why).await
            }
            Link::Http { http, url, headers } => {
                let modern = streamable(&http, url.as_str(), &headers, &options);
                match Self::greet(modern, options.clone(), Arc::clone(&why)).await {
                    Err(err @ (Error::Unreachable(_) | Error::Nonsense(_) | Error::Closed(_))) => {
                        let older = SseTransport::connect(
                            http,
                            url,
                            headers.as_map(),
                            options.max_message_bytes,
                            Arc::clone(&why),
                        );
                        match older.await {
                            Ok(transport) => Self::greet(transport, options, why).await,
                            // Of what cannot be connected to, this one tells the cause.
                            Err(cause @ Error::Unreachable(_)) => Err(cause),
                            // What it said first is what there is to say of it.
                            Err(_) => Err(err),
                        }
                    }
                    done => done,
                }
            }
            Link::Sse { http, url, headers } => {
                let max = options.max_message_bytes;
                let transport = SseTransport::connect(http, url, headers.as_map(), max, Arc::clone(&why)).await?;
                Self::greet(transport, options, why).await
            }
        }
    }

    async fn greet<T, E, A>(transport: T, options: Options, why: Arc<OnceLock<String>>) -> Result<Self, Error>
    where
        T: IntoTransport<RoleClient, E, A>,
        E: std::error::Error + Send + Sync + 'static,
    {
        let handler = Handler::new();
        let lifecycle = ClientLifecycleMode::Auto {
            preferred_versions: vec![ProtocolVersion::LATEST],
            legacy_version: Some(ProtocolVersion::LATEST_WITH_INITIALIZE),
        };
        let greeted = handler.clone().serve_with_lifecycle(transport, lifecycle).await;
        Self::greeted(greeted, handler, options, why)
    }

    /// Greets what may still have to start: for half of the time in the newest revision, then in the older way.
    ///
    /// Boxed: whether the transport's futures can be sent is looked at here, where their lifetimes are known.
    fn greet_process<T>(
        transport: T,
        options: Options,
        why: Arc<OnceLock<String>>,
    ) -> BoxFuture<'static, Result<Self, Error>>
    where
        T: Transport<RoleClient> + 'static,
    {
        Box::pin(async move {
            let handler = Handler::new();
            let (lent, place) = Lent::new(transport);
            let newest = ClientLifecycleMode::Discover { preferred_versions: vec![ProtocolVersion::LATEST] };
            let greeting = handler.clone().serve_with_lifecycle(lent, newest);
            let greeted = timeout(options.connect_timeout / 2, greeting).await;
            let greeted = match greeted {
                Ok(greeted) if !matches!(greeted, Err(ClientInitializeError::JsonRpcError(_))) => greeted,
                refused_or_silent => {
                    let Some(transport) = place.take() else { return Err(Error::Closed(None)) };
                    let lent = Lent::new(transport).0.after(refused_or_silent.is_err());
                    handler.clone().serve_with_lifecycle(lent, OLDER).await
                }
            };
            Self::greeted(greeted, handler, options, why)
        })
    }

    fn greeted(
        greeted: Result<RunningService<RoleClient, Handler>, ClientInitializeError>,
        handler: Handler,
        options: Options,
        why: Arc<OnceLock<String>>,
    ) -> Result<Self, Error> {
        let service = greeted.map_err(|err| match (Error::from(err), why.get()) {
            (Error::Closed(_), Some(why)) => Error::Closed(Some(why.clone())),
            (err, _) => err,
        })?;
        let mut client = Self { service, handler, options, why, listening: None };
        client.listen();
        Ok(client)
    }

    /// In the current revision a server tells of changes only to whom asked for it.
    fn listen(&mut self) {
        let Some(info) = self.service.peer_info() else { return };
        let tells = info.capabilities.tools.as_ref().is_some_and(|tools| tools.list_changed == Some(true));
        if !tells || info.protocol_version < ProtocolVersion::STANDARD_HEADERS {
            return;
        }
        let (peer, handler) = (self.service.peer().clone(), self.handler.clone());
        let listening = tokio::spawn(async move {
            let filter = SubscriptionFilter::builder().tools_list_changed().build();
            let Ok(mut subscription) = peer.listen(filter).await else { return };
            while let Ok(Some(_)) = subscription.next().await {
                handler.note_change();
            }
        });
        self.listening = Some(listening.abort_handle());
    }

    /// Tells whether the connection has ended.
    pub fn is_closed(&self) -> bool {
        self.service.is_closed() || self.service.is_transport_closed()
    }

    /// Tells whether the server has said that its tools are others than before, once.
    pub fn take_change(&self) -> bool {
        self.handler.take_change()
    }

    /// Asks what the server has.
    pub async fn list(&self) -> Result<Listing, Error> {
        let limit = self.options.connect_timeout;
        let capabilities = self.capabilities();
        let listed = async {
            let mut tools = Vec::new();
            if capabilities.tools.is_some() {
                let mut page = PaginatedRequestParams::default();
                for _ in 0..MAX_PAGES {
                    let result = self.peer().list_tools(Some(page)).await?;
                    tools.extend(result.tools);
                    if result.next_cursor.is_none() {
                        break;
                    }
                    page = PaginatedRequestParams::default().with_cursor(result.next_cursor);
                }
            }
            Ok(tools)
        };
        match timeout(limit, listed).await {
            Ok(listed) => Ok(Listing::new(listed.map_err(|err| self.explain(err))?, &capabilities)),
            Err(_) => Err(Error::TimedOut(limit)),
        }
    }

    /// Calls a tool by the server's own name of it. A tool that fails is an answer.
    pub async fn call(
        &self,
        tool: &str,
        arguments: Map<String, Value>,
        limit: Option<Duration>,
    ) -> Result<Answer, Error> {
        let params = CallToolRequestParams::new(tool.to_owned()).with_arguments(arguments);
        self.patiently(limit, self.service.call_tool(params)).await.map(Answer::from)
    }

    /// Reads a resource.
    pub async fn read_resource(&self, uri: &str, limit: Option<Duration>) -> Result<Answer, Error> {
        let params = ReadResourceRequestParams::new(uri);
        self.patiently(limit, self.service.read_resource(params)).await.map(Answer::from)
    }

    /// Tells of the resources that there are: the first page, and the templates of others.
    pub async fn list_resources(&self, limit: Option<Duration>) -> Result<Answer, Error> {
        let listed = async {
            let resources = self.peer().list_resources(None).await?.resources;
            let mut content: Vec<Content> = resources
                .into_iter()
                .map(|resource| link(resource.uri, [Some(resource.name), resource.description, resource.mime_type]))
                .collect();
            // Not every server that has resources knows of templates.
            if let Ok(listed) = self.peer().list_resource_templates(None).await {
                let templates = listed.resource_templates.into_iter();
                content.extend(templates.map(|template| {
                    link(template.uri_template, [Some(template.name), template.description, template.mime_type])
                }));
            }
            Ok(content)
        };
        let content = self.patiently(limit, listed).await?;
        Ok(shortened(content, "resources"))
    }

    /// Gives a prompt with its arguments filled in.
    pub async fn prompt(
        &self,
        name: &str,
        arguments: Map<String, Value>,
        limit: Option<Duration>,
    ) -> Result<Answer, Error> {
        let params = GetPromptRequestParams::new(name).with_arguments(arguments);
        self.patiently(limit, self.service.get_prompt(params)).await.map(Answer::from)
    }

    /// Tells of the prompts that there are.
    pub async fn list_prompts(&self, limit: Option<Duration>) -> Result<Answer, Error> {
        let prompts = self.patiently(limit, self.peer().list_prompts(None)).await?.prompts;
        let lines = prompts.into_iter().map(|prompt| {
            let arguments = prompt.arguments.unwrap_or_default();
            let arguments: Vec<_> = arguments
                .into_iter()
                .map(
                    |argument| {
                        if argument.required == Some(true) { argument.name } else { format!("{}?", argument.name) }
                    },
                )
                .collect();
            let about = prompt.description.unwrap_or_default();
            Content::Text(format!("{}({}) {about}", prompt.name, arguments.join(", ")).trim_end().to_owned())
        });
        Ok(shortened(lines.collect(), "prompts"))
    }

    /// Waits for an answer as long as the server is heard of.
    async fn patiently<T>(
        &self,
        limit: Option<Duration>,
        work: impl Future<Output = Result<T, ServiceError>>,
    ) -> Result<T, Error> {
        let limit = limit.unwrap_or(self.options.call_timeout).min(self.options.max_call_time);
        let began_at = Instant::now();
        let mut work = pin!(work);
        loop {
            let heard_at = self.handler.heard_at().max(began_at);
            let until = (heard_at + limit).min(began_at + self.options.max_call_time);
            tokio::select! {
                done = &mut work => return done.map_err(|err| self.explain(err)),
                () = sleep_until(until) => {}
            }
            let now = Instant::now();
            if self.handler.heard_at().max(began_at) + limit <= now || began_at + self.options.max_call_time <= now {
                return Err(Error::TimedOut(now - began_at));
            }
        }
    }

    fn peer(&self) -> &Peer<RoleClient> {
        self.service.peer()
    }

    fn capabilities(&self) -> ServerCapabilities {
        self.service.peer_info().map(|info| info.capabilities.clone()).unwrap_or_default()
    }

    fn explain(&self, err: ServiceError) -> Error {
        match (Error::from(err), self.why.get()) {
            (Error::Closed(_), Some(why)) => Error::Closed(Some(why.clone())),
            (err, _) => err,
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        if let Some(listening) = &self.listening {
            listening.abort();
        }
    }
}

fn streamable(
    http: &reqwest::Client,
    url: &str,
    headers: &Headers,
    options: &Options,
) -> StreamableHttpClientTransport<reqwest::Client> {
    let config = StreamableHttpClientTransportConfig::with_uri(url)
        .custom_headers(headers.to_hash_map())
        .max_sse_event_size(options.max_message_bytes)
        .max_json_response_size(options.max_message_bytes);
    StreamableHttpClientTransport::with_client(http.clone(), config)
}

fn link<const N: usize>(uri: String, about: [Option<String>; N]) -> Content {
    let about: Vec<_> = about.into_iter().flatten().filter(|text| !text.is_empty()).collect();
    Content::Link { uri, about: about.join(", ") }
}

fn shortened(mut content: Vec<Content>, what: &str) -> Answer {
    let count = content.len();
    content.truncate(MAX_LISTED);
    match count {
        0 => content.push(Content::Text(format!("There are no {what}."))),
        count if count > MAX_LISTED => {
            content.push(Content::Text(format!("[{} more {what} left out]", count - MAX_LISTED)));
        }
        _ => {}
    }
    Answer { content, is_error: false }
}
