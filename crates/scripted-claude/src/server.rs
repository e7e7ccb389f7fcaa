//! The HTTP side: routes, checks, faults, and the handle a test holds.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::serve::ListenerExt;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::cache::{Cache, Counted, Prefix};
use crate::check::{self, Refusal};
use crate::gates::Gates;
use crate::play::play;
use crate::record::Recorder;
use crate::reply::{Fault, Reply, error_body, error_type};
use crate::timing::Timings;
use crate::wire::Envelope;
use crate::{Asked, Received, Script, Timing, models};

/// How the server runs.
#[derive(Debug, Clone)]
pub struct Options {
    /// Port 0 takes a free one.
    pub listen: SocketAddr,
    pub checks: Checks,
    /// The wait before each frame, on top of what a script asks for.
    pub delta_delay: Duration,
    /// Prefixes with fewer tokens are not cached. The real API starts at 512; the default of 1 suits short tests.
    pub min_cache_tokens: u64,
    /// Whether [`ScriptedClaude::requests`] remembers them.
    pub keeps_requests: bool,
    /// Whether [`ScriptedClaude::timings`] remembers when they came and were answered.
    pub keeps_timings: bool,
    /// A file that gets a JSON line for each request, without keys.
    pub log: Option<PathBuf>,
}

/// How much of a request is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checks {
    /// As the real API does.
    Strict,
    /// Only what answering needs, at the cost of one scan, and without cache numbers; for measuring.
    Lenient,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            checks: Checks::Strict,
            delta_delay: Duration::ZERO,
            min_cache_tokens: 1,
            keeps_requests: true,
            keeps_timings: false,
            log: None,
        }
    }
}

/// A running server; dropping it stops it and breaks its streams.
pub struct ScriptedClaude {
    address: SocketAddr,
    app: Arc<App>,
    server: JoinHandle<()>,
}

struct App {
    script: RwLock<Script>,
    options: Options,
    cache: Cache,
    recorder: Recorder,
    timings: Timings,
    gates: Gates,
    /// Makes ids of this process differ from those of the last.
    seed: u64,
    next_id: AtomicU64,
}

const MAX_BODY_BYTES: usize = 32 << 20;

impl ScriptedClaude {
    /// Starts a server.
    /// # Errors
    /// When the address is taken or the log cannot be opened.
    pub async fn start(script: Script, options: Options) -> anyhow::Result<Self> {
        let listener =
            TcpListener::bind(options.listen).await.with_context(|| format!("cannot listen on {}", options.listen))?;
        let address = listener.local_addr()?;
        let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let app = Arc::new(App {
            script: RwLock::new(script),
            recorder: Recorder::new(options.keeps_requests, options.log.as_deref())?,
            options,
            cache: Cache::default(),
            timings: Timings::default(),
            gates: Gates::default(),
            seed: since_epoch.as_nanos() as u64,
            next_id: AtomicU64::new(1),
        });
        let router = Router::new()
            .route("/v1/messages", post(messages))
            .route("/v1/messages/count_tokens", post(count_tokens))
            .route("/v1/models", get(list_models))
            .route("/v1/models/{id}", get(find_model))
            .fallback(async |State(app): State<Arc<App>>| app.refuse(&Refusal::new(404, "Not Found")))
            .method_not_allowed_fallback(async |State(app): State<Arc<App>>| {
                app.refuse(&Refusal::new(405, "Method Not Allowed"))
            })
            .with_state(app.clone());
        let listener = listener.tap_io(|io| {
            // Without it a small frame waits for the peer's acknowledgement; a failure only costs time.
            let _ = io.set_nodelay(true);
        });
        let server = tokio::spawn(async move {
            // Accepting goes on after errors; it ends only with this task.
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self { address, app, server })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The base URL, `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Follows another script from now on.
    pub fn set_script(&self, script: Script) {
        *self.app.script.write().expect("nothing panics while holding the lock") = script;
    }

    /// Every request to the messages route so far, oldest first, refused ones included.
    pub fn requests(&self) -> Vec<Received> {
        self.app.recorder.all()
    }

    /// When each accepted request came and its reply left, oldest first.
    pub fn timings(&self) -> Vec<Timing> {
        self.app.timings.all()
    }

    /// Waits until so many requests have come in.
    pub async fn wait_for_requests(&self, count: usize) {
        // The sender lives as long as we do.
        let _ = self.app.recorder.count().wait_for(|received| *received >= count).await;
    }

    /// Holds every answer back until [`ScriptedClaude::resume`]; running streams stop before their next frame.
    pub fn pause(&self) {
        self.app.gates.pause(true);
    }

    pub fn resume(&self) {
        self.app.gates.pause(false);
    }

    /// Lets the replies with this [`Fault::hold`] go on, now and later.
    pub fn release(&self, name: &str) {
        self.app.gates.release(name);
    }
}

impl Drop for ScriptedClaude {
    fn drop(&mut self) {
        self.app.gates.close();
        self.server.abort();
    }
}

impl App {
    fn new_id(&self, prefix: &str) -> String {
        format!("{prefix}_01{:016x}{:06x}", self.seed, self.next_id.fetch_add(1, Ordering::Relaxed))
    }

    fn refuse(&self, refusal: &Refusal) -> Response {
        self.error(refusal.status, refusal.kind, &refusal.message, None)
    }

    fn error(&self, status: u16, kind: &str, message: &str, code: Option<&str>) -> Response {
        let id = self.new_id("req");
        self.json(status, &error_body(kind, message, code, &id), id)
    }

    fn json(&self, status: u16, body: &Value, request_id: String) -> Response {
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = [(header::CONTENT_TYPE, "application/json".to_owned()), (REQUEST_ID, request_id)];
        (status, headers, body.to_string()).into_response()
    }

    fn is_strict(&self) -> bool {
        self.options.checks == Checks::Strict
    }

    /// Reads and checks a request: what it asks for, and its prompt.
    fn read(&self, headers: &HeaderMap, body: &[u8], needs_max_tokens: bool) -> Result<(Asked, Prompt), Refusal> {
        let prompt = if self.is_strict() {
            check::headers(headers)?;
            let json: Value = serde_json::from_slice(body)
                .map_err(|err| Refusal::new(400, format!("The request body is not valid JSON: {err}")))?;
            let prefix = Prefix::of(&json);
            check::body(&json, headers, &prefix, needs_max_tokens)?;
            Prompt::Hashed(Box::new(prefix))
        } else {
            Prompt::Sized(body.len() as u64 / 4)
        };
        let detail = self.script.read().expect("nothing panics while holding the lock").detail();
        let asked = Asked::read(body, detail)
            .map_err(|err| Refusal::new(400, format!("The request body is not a Messages request: {err}")))?;
        Ok((asked, prompt))
    }
}

enum Prompt {
    Hashed(Box<Prefix>),
    Sized(u64),
}

impl Prompt {
    fn tokens(&self) -> u64 {
        match self {
            Self::Hashed(prefix) => prefix.tokens(),
            Self::Sized(tokens) => *tokens,
        }
    }
}

const REQUEST_ID: HeaderName = HeaderName::from_static("request-id");

async fn messages(State(app): State<Arc<App>>, headers: HeaderMap, body: Body) -> Response {
    let headers_at = Instant::now();
    let Ok(body) = to_bytes(body, MAX_BODY_BYTES).await else {
        return app.refuse(&Refusal::new(413, "Request exceeds the maximum size of 32 MB"));
    };
    let body_at = Instant::now();
    let (asked, prompt) = match app.read(&headers, &body, true) {
        Ok(read) => read,
        Err(refusal) => {
            app.recorder.add(&headers, &body, None, refusal.status);
            return app.refuse(&refusal);
        }
    };
    let script = app.script.read().expect("nothing panics while holding the lock").clone();
    let reply = script.answer(&asked);
    app.recorder.add(&headers, &body, Some(&asked), reply.fault.status.unwrap_or(200));
    let timing = app.options.keeps_timings.then(|| app.timings.note(&asked, headers_at, body_at));

    let fault = &reply.fault;
    let gate = fault.hold.as_deref().filter(|_| fault.hold_after.is_none());
    if !app.gates.pass(gate).await {
        return app.error(503, "api_error", "the scripted server is stopping", None);
    }
    if fault.delay_ms > 0 {
        tokio::time::sleep(Duration::from_millis(fault.delay_ms)).await;
    }
    let mut response = answer(&app, &asked, &prompt, &reply);
    if let Some(at) = timing {
        response = response.map(|body| app.timings.watch(at, body));
    }
    for (name, value) in &reply.fault.headers {
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(value)) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

fn answer(app: &Arc<App>, asked: &Asked, prompt: &Prompt, reply: &Reply) -> Response {
    let fault = &reply.fault;
    if let Some(status) = fault.status {
        let kind = fault.error_type.as_deref().unwrap_or(error_type(status));
        let message = fault.message.as_deref().unwrap_or("scripted failure");
        return app.error(status, kind, message, fault.error_code.as_deref());
    }
    let (counted, hash) = match prompt {
        Prompt::Hashed(prefix) => {
            (app.cache.count(prefix, app.options.min_cache_tokens, Instant::now()), prefix.whole())
        }
        // Ids of calls come from this hash and must differ within a conversation, which only grows.
        Prompt::Sized(tokens) => {
            let seed = format!("{}/{}/{}", asked.round, tokens, asked.user_text);
            (Counted { input: *tokens, ..Counted::default() }, *blake3::hash(seed.as_bytes()).as_bytes())
        }
    };
    let envelope = Envelope { id: app.new_id("msg"), model: &asked.model, counted, prompt: hash };
    let request_id = app.new_id("req");
    if !asked.is_stream {
        return app.json(200, &envelope.message(reply), request_id);
    }
    let frames = envelope.frames(reply);
    let is_plain = app.options.delta_delay.is_zero()
        && !app.gates.is_paused()
        && Fault { hold: None, delay_ms: 0, headers: Default::default(), ..fault.clone() } == Fault::default()
        && fault.hold_after.is_none();
    let body = if is_plain {
        // All in one piece: the cheapest answer there is, for benchmarks.
        Body::from(frames.concat())
    } else {
        Body::from_stream(play(app.gates.clone(), frames, fault.clone(), app.options.delta_delay))
    };
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream; charset=utf-8".to_owned()),
        (header::CACHE_CONTROL, "no-cache".to_owned()),
        (REQUEST_ID, request_id),
    ];
    (headers, body).into_response()
}

async fn count_tokens(State(app): State<Arc<App>>, headers: HeaderMap, body: Body) -> Response {
    let Ok(body) = to_bytes(body, MAX_BODY_BYTES).await else {
        return app.refuse(&Refusal::new(413, "Request exceeds the maximum size of 32 MB"));
    };
    match app.read(&headers, &body, false) {
        Ok((_, prompt)) => app.json(200, &json!({ "input_tokens": prompt.tokens() }), app.new_id("req")),
        Err(refusal) => app.refuse(&refusal),
    }
}

#[derive(Deserialize)]
struct Paging {
    limit: Option<usize>,
    after_id: Option<String>,
    before_id: Option<String>,
}

async fn list_models(State(app): State<Arc<App>>, headers: HeaderMap, Query(paging): Query<Paging>) -> Response {
    if let Err(refusal) = if app.is_strict() { check::headers(&headers) } else { Ok(()) } {
        return app.refuse(&refusal);
    }
    let limit = paging.limit.unwrap_or(20);
    if !(1..=1000).contains(&limit) {
        return app.refuse(&Refusal::new(400, "limit: Input should be between 1 and 1000"));
    }
    app.json(200, &models::page(limit, paging.after_id.as_deref(), paging.before_id.as_deref()), app.new_id("req"))
}

async fn find_model(State(app): State<Arc<App>>, headers: HeaderMap, Path(id): Path<String>) -> Response {
    if let Err(refusal) = if app.is_strict() { check::headers(&headers) } else { Ok(()) } {
        return app.refuse(&refusal);
    }
    match models::find(&id) {
        Some(model) => app.json(200, &model, app.new_id("req")),
        None => app.refuse(&Refusal::new(404, format!("model: {id}"))),
    }
}
