//! The whole API over real parts, called without a network.

use api::{Api, Settings};
use axum::{
    Router,
    body::Body,
    http::{HeaderMap, Method, Request, StatusCode, header},
};
use domain::{EnvironmentId, ProjectId};
use sandbox::Sandboxes;
use secrecy::ExposeSecret;
use serde_json::Value;
use testing::Database;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

/// An API with a database of its own, a project and a key to it.
pub(crate) struct App {
    pub database: Database,
    pub api: Api,
    pub sandboxes: Sandboxes,
    pub router: Router,
    pub key: String,
}

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl App {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub(crate) async fn start_with(change: impl FnOnce(&mut Settings)) -> Self {
        let database = Database::start().await;
        let options = sandbox::Options {
            data_dir: database.directory().to_owned(),
            installation: format!("test-{}", std::process::id()),
            image: "atelier-test-missing:latest".to_owned(),
            ..sandbox::Options::default()
        };
        let sandboxes = Sandboxes::connect(options).await.expect("Docker runs");
        let mut settings = Settings { data_dir: database.directory().to_owned(), ..Settings::default() };
        change(&mut settings);
        let stopping = CancellationToken::new();
        let api =
            Api::new(database.store.clone(), sandboxes.clone(), settings, stopping, || "process_metric 1\n".to_owned());
        let key = new_key(&database, &database.project).await;
        Self { router: api::router(api.clone()), api, sandboxes, database, key }
    }

    /// Makes another project and gives an app whose key opens that one.
    pub(crate) async fn another_project(&self) -> (ProjectId, String) {
        let project = self.database.store.create_project("Other").await.expect("a project");
        let key = new_key(&self.database, &project).await;
        (project, key)
    }

    /// Sends a request as it is.
    pub(crate) async fn send(&self, request: Request<Body>) -> Reply {
        let response = self.router.clone().oneshot(request).await.expect("the router cannot fail");
        let (parts, body) = response.into_parts();
        let body = axum::body::to_bytes(body, usize::MAX).await.expect("the body ends well").to_vec();
        Reply { status: parts.status, headers: parts.headers, body }
    }

    /// Calls with this project's key.
    pub(crate) async fn call(&self, method: Method, path: &str, body: impl Into<Body>) -> Reply {
        self.call_with(&self.key, method, path, body).await
    }

    pub(crate) async fn call_with(&self, key: &str, method: Method, path: &str, body: impl Into<Body>) -> Reply {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::AUTHORIZATION, format!("Bearer {key}"))
            .body(body.into())
            .expect("a valid request");
        self.send(request).await
    }

    pub(crate) async fn get(&self, path: &str) -> Reply {
        self.call(Method::GET, path, Body::empty()).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Reply {
        self.call(Method::POST, path, body.to_string()).await
    }

    pub(crate) async fn patch(&self, path: &str, body: Value) -> Reply {
        self.call(Method::PATCH, path, body.to_string()).await
    }

    pub(crate) async fn put(&self, path: &str, body: Value) -> Reply {
        self.call(Method::PUT, path, body.to_string()).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Reply {
        self.call(Method::DELETE, path, Body::empty()).await
    }

    /// Makes an environment and gives its id.
    pub(crate) async fn environment(&self) -> EnvironmentId {
        let made = self.database.store.default_environment(&self.database.project).await;
        made.expect("an environment").id
    }
}

async fn new_key(database: &Database, project: &ProjectId) -> String {
    let (_, key) = database.store.create_key(project, "test", None).await.expect("a key");
    key.expose_secret().to_owned()
}

impl Reply {
    /// Gives the JSON of a success.
    #[track_caller]
    pub(crate) fn ok(&self) -> Value {
        assert!(self.status.is_success(), "{}: {}", self.status, String::from_utf8_lossy(&self.body));
        self.json()
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|err| panic!("not JSON ({err}): {}", String::from_utf8_lossy(&self.body)))
    }

    /// Gives the message of a failure with this status, having checked the shape that clients rely on.
    #[track_caller]
    pub(crate) fn failed(&self, status: u16) -> String {
        assert_eq!(self.status.as_u16(), status, "{}", String::from_utf8_lossy(&self.body));
        let body = self.json();
        assert_eq!(body["error"].as_str(), self.status.canonical_reason(), "{body}");
        body["message"].as_str().expect("a message").to_owned()
    }

    #[track_caller]
    pub(crate) fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name).unwrap_or_else(|| panic!("no header {name} in {:?}", self.headers));
        value.to_str().expect("a header in ASCII")
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("UTF-8")
    }
}

/// Replaces what differs from run to run, so that whole objects can be compared.
pub(crate) fn redacted(mut value: Value) -> Value {
    fn redact(key: &str, value: &mut Value) {
        match value {
            Value::Object(map) => map.iter_mut().for_each(|(key, value)| redact(key, value)),
            Value::Array(items) => items.iter_mut().for_each(|item| redact(key, item)),
            Value::String(text) if key.ends_with("At") || matches!(key, "timestamp" | "lastModified") => {
                let is_time = text.len() == 24 && text.ends_with('Z');
                *text = if is_time { "[time]".into() } else { format!("not a time: {text}") };
            }
            Value::String(text) => {
                if let Some((prefix, tail)) = text.split_once('_')
                    && tail.len() == 32
                    && tail.bytes().all(|byte| byte.is_ascii_hexdigit())
                {
                    *text = format!("{prefix}_[id]");
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
    redact("", &mut value);
    value
}
