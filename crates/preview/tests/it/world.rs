//! A container in which a server listens, and previews served on a port of this machine.

use std::{
    convert::Infallible,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use domain::{EnvironmentId, preview::Preview};
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use preview::{Options, Previews, Site};
use reqwest::{Client, Method, RequestBuilder, Response, header, redirect::Policy};
use sandbox::{Command, Network, Sandbox, Sandboxes, Spec};
use secrecy::{ExposeSecret, SecretString};
use store::{Store, previews::NewPreview};
use testing::Database;
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// The port that the server in the container listens on.
pub(crate) const PORT: u16 = 5000;

pub(crate) struct World {
    pub(crate) database: Database,
    pub(crate) environment: EnvironmentId,
    pub(crate) sandboxes: Sandboxes,
    pub(crate) sandbox: Sandbox,
    pub(crate) address: SocketAddr,
    pub(crate) stopping: CancellationToken,
    pub(crate) client: Client,
    options: sandbox::Options,
}

/// A preview and its token.
pub(crate) struct Link {
    pub(crate) preview: Preview,
    pub(crate) token: SecretString,
}

impl World {
    pub(crate) async fn start() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut Options)) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let database = Database::start().await;
        let guestd = std::env::var_os("ATELIER_SANDBOX__GUESTD").map(PathBuf::from);
        let guestd = guestd.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/guestd/guestd"));
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let options = sandbox::Options {
            data_dir: database.directory().to_owned(),
            installation: format!("preview-test-{}-{number}", std::process::id()),
            guestd: guestd.canonicalize().expect("guestd is built: `make guestd`"),
            ..sandbox::Options::default()
        };
        let sandboxes = Sandboxes::connect(options.clone()).await.expect("an engine");
        let environment = database.store.default_environment(&database.project).await.expect("an environment").id;
        let spec = Spec {
            environment: environment.clone(),
            image: None,
            built: None,
            network: Network::None,
            limits: None,
            env: Vec::new(),
        };
        let sandbox = sandboxes.open(&spec).await.expect("opens");
        let stopping = CancellationToken::new();
        let address = serve(database.store.clone(), sandboxes.clone(), stopping.clone(), change).await;
        let client = Client::builder().no_proxy().redirect(Policy::none()).build().expect("a client");
        let world = Self { database, environment, sandboxes, sandbox, address, stopping, client, options };
        world.listen(PORT).await;
        world
    }

    /// Serves the same previews once more, as another server would.
    pub(crate) async fn another_server(&self) -> SocketAddr {
        let store = self.database.another_server("node_other").await;
        let sandboxes = Sandboxes::connect(self.options.clone()).await.expect("an engine");
        serve(store, sandboxes, self.stopping.clone(), |_| {}).await
    }

    /// Starts the server in the container.
    pub(crate) async fn listen(&self, port: u16) {
        self.sandbox.write_file("/workspace/app.py", include_bytes!("app.py")).await.expect("writes");
        self.run(&["python3", "/workspace/app.py", &port.to_string()]).await;
        eventually("the server listens", async || self.sandbox.connect(port).await.is_ok()).await;
    }

    /// Starts a command that stays.
    pub(crate) async fn run(&self, argv: &[&str]) {
        let argv = argv.iter().map(|&word| word.to_owned()).collect();
        let command = Command { argv, group: "run_test".to_owned(), ..Command::default() };
        self.sandbox.start_background(command, "/tmp/app.log").await.expect("starts");
    }

    pub(crate) async fn link(&self, port: u16) -> Link {
        self.link_with(port, false, Duration::from_secs(600)).await
    }

    pub(crate) async fn link_with(&self, port: u16, rewrites_host: bool, expires_in: Duration) -> Link {
        let new = NewPreview { port, name: None, rewrites_host, expires_in };
        let (database, environment) = (&self.database, &self.environment);
        let made = database.store.create_preview(&database.project, environment, new).await;
        let (preview, token) = made.expect("a preview");
        Link { preview, token }
    }

    pub(crate) async fn revoke(&self, link: &Link) {
        let database = &self.database;
        database.store.revoke_preview(&database.project, &self.environment, &link.preview.id).await.expect("revoked");
    }

    /// Begins a request as a browser makes it that has been let in.
    pub(crate) fn request(&self, method: Method, link: &Link, path: &str) -> RequestBuilder {
        self.request_at(self.address, method, link, path)
    }

    pub(crate) fn request_at(&self, at: SocketAddr, method: Method, link: &Link, path: &str) -> RequestBuilder {
        let request = self.client.request(method, format!("http://{at}{path}"));
        request.header(header::HOST, self.host(link)).header(header::COOKIE, link.cookie())
    }

    pub(crate) async fn get(&self, link: &Link, path: &str) -> Response {
        self.request(Method::GET, link, path).send().await.expect("an answer")
    }

    /// Gives the host and port of a preview, as its link has it.
    pub(crate) fn host(&self, link: &Link) -> String {
        format!("{}.localhost:{}", link.preview.id.label(), self.address.port())
    }

    /// Makes the file that the server in the container waits for.
    pub(crate) async fn go_on(&self, name: &str) {
        self.sandbox.write_file(&format!("/tmp/{name}"), b"").await.expect("writes");
    }
}

impl Link {
    pub(crate) fn cookie(&self) -> String {
        format!("atelier_preview={}", self.token.expose_secret())
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.stopping.cancel();
        let options = self.options.clone();
        let cleaned = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let sandboxes = Sandboxes::connect(options).await.expect("an engine");
                sandboxes.stop_all().await.expect("everything stops");
            });
        });
        cleaned.join().expect("cleans up");
    }
}

/// Serves previews as the server process does, and gives the address.
async fn serve(
    store: Store,
    sandboxes: Sandboxes,
    stopping: CancellationToken,
    change: impl FnOnce(&mut Options),
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let mut options = Options {
        site: Site::local(address.port()),
        connections: 128,
        response_timeout: Duration::from_secs(60),
        idle_timeout: Duration::from_secs(60),
        is_proxied: false,
    };
    change(&mut options);
    let previews = Previews::new(store, sandboxes, options, stopping, TaskTracker::new());
    tokio::spawn(previews.clone().watch());
    tokio::spawn(async move {
        loop {
            let (stream, client) = listener.accept().await.expect("a connection");
            let previews = previews.clone();
            let service = service_fn(move |request| {
                let previews = previews.clone();
                async move { Ok::<_, Infallible>(previews.handle(client, request).await) }
            });
            let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            tokio::spawn(connection.with_upgrades());
        }
    });
    address
}

/// Waits until `condition` holds, and gives how long that took.
pub(crate) async fn eventually(what: &str, mut condition: impl AsyncFnMut() -> bool) -> Duration {
    let start = Instant::now();
    while !condition().await {
        assert!(start.elapsed() < Duration::from_secs(30), "{what}: it does not happen");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    start.elapsed()
}
