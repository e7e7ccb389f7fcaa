//! A database, a script and as many servers as a test wants to start and kill.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use domain::{
    EnvironmentId, RunId, ThreadId,
    event::{Event, Item, Recorded, ToolCall},
    research::Happening,
    run::{Outcome, RunOptions},
};
use executor::{Executor, Options, tools::web};
use sandbox::Sandboxes;
use scripted_claude::{Asked, Reply, Script, ScriptedClaude};
use store::{
    Store,
    runs::{NewRun, Started},
    threads::NewThread,
};
use testing::Database;
use tokio_util::sync::CancellationToken;

/// Everything but the server. Containers are gone when [`World::end`] returns.
pub(crate) struct World {
    pub database: Database,
    pub claude: ScriptedClaude,
    pub sandboxes: Sandboxes,
    pub environment: EnvironmentId,
    pub thread: ThreadId,
    /// Networks whose pages may be fetched although they are not public.
    pub reachable: Vec<web::Allowed>,
    installation: String,
}

/// A process with an executor, as far as a test needs one: a runtime that can be killed.
///
/// It has one thread, so that killing it is one moment: of several, one could still write what it makes of the end of
/// the others.
pub(crate) struct Server {
    thread: Option<std::thread::JoinHandle<()>>,
    killed: CancellationToken,
    soft: CancellationToken,
    hard: CancellationToken,
    working: tokio::task::JoinHandle<()>,
}

impl World {
    pub(crate) async fn new(answer: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        let database = Database::start().await;
        let claude = ScriptedClaude::start(Script::from_fn("test", answer), scripted_claude::Options::default())
            .await
            .expect("the script plays");
        let name = database.project.as_str();
        let installation = format!("test-runs-{}", &name[name.len() - 12..]);
        let sandboxes = Sandboxes::connect(sandbox::Options {
            data_dir: database.directory().join("data"),
            image: std::env::var("ATELIER_TEST_IMAGE").unwrap_or_else(|_| "atelier-workspace:latest".into()),
            installation: installation.clone(),
            guestd: guestd(),
            builds: sandbox::BuildOptions { network: Some("none".into()), ..Default::default() },
            ..sandbox::Options::default()
        })
        .await
        .expect("the engine answers");
        let settings = domain::environment::EnvironmentSettings { internet_access: false, ..Default::default() };
        let new = store::environments::NewEnvironment {
            name: "test".into(),
            settings,
            secrets: Vec::new(),
            is_default: true,
        };
        let environment = database.store.create_environment(&database.project, new).await.expect("an environment").id;
        let thread = new_thread(&database, &environment).await;
        Self { database, claude, sandboxes, environment, thread, reachable: Vec::new(), installation }
    }

    pub(crate) fn store(&self) -> &Store {
        &self.database.store
    }

    /// Makes another thread in the world's environment.
    pub(crate) async fn new_thread(&self) -> ThreadId {
        new_thread(&self.database, &self.environment).await
    }

    /// Starts a server of its own, with its own connections.
    pub(crate) async fn server(&self, node: &str) -> Server {
        self.server_with(node, |_| {}).await
    }

    /// The same with other options than the default.
    pub(crate) async fn server_with(&self, node: &str, change: impl FnOnce(&mut Options)) -> Server {
        self.server_asking(node, change, |_| {}).await
    }

    /// The same, and with another way to ask the model.
    pub(crate) async fn server_asking(
        &self,
        node: &str,
        change: impl FnOnce(&mut Options),
        change_model: impl FnOnce(&mut claude::Options),
    ) -> Server {
        let mut runs = Options { poll: Duration::from_millis(20), ..Options::default() };
        change(&mut runs);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let mut model = claude::Options::new(self.claude.url().parse().expect("a URL"), Some("key".to_owned().into()));
        model.max_retry_delay = Duration::from_millis(20);
        change_model(&mut model);
        let (sandboxes, reachable) = (self.sandboxes.clone(), self.reachable.clone());
        let options = self.database.private.connect_options();
        let node = node.to_owned();
        let (soft, hard) = (CancellationToken::new(), CancellationToken::new());
        let tokens = (soft.clone(), hard.clone());
        let working = runtime.spawn(async move {
            let store = Store::open(store::Options {
                connect: options,
                max_connections: 8,
                acquire_timeout: Duration::from_secs(10),
                node,
                sealer: store::seal::Sealer::new(&[7; 32]),
            })
            .await
            .expect("the store opens");
            store.end_own_leases().await.expect("the database answers");
            let ledger = ledger::Ledger::new(store.clone(), sandboxes.clone(), ledger::Options::default());
            let executor = Executor::new(
                store,
                sandboxes,
                ledger,
                claude::Client::new(model).expect("a client"),
                Arc::new(claude::Catalogue::builtin()),
                web::Client::new(reachable).expect("a client"),
                runs,
            );
            executor.run(tokens.0, tokens.1).await;
        });
        let killed = CancellationToken::new();
        let until = killed.clone().cancelled_owned();
        let thread = std::thread::spawn(move || {
            runtime.block_on(until);
            runtime.shutdown_background();
        });
        Server { thread: Some(thread), killed, soft, hard, working }
    }

    /// Starts the container, so that a test need not wait for it later.
    pub(crate) async fn warm_up(&self) {
        let found = self.store().find_environment(&self.database.project, &self.environment).await.expect("reads");
        let spec = self.sandboxes.spec_of(&found.expect("is there"));
        self.sandboxes.open(&spec).await.expect("the container starts");
    }

    /// Starts a run of the world's thread.
    pub(crate) async fn send(&self, content: &str) -> Started {
        self.send_with(content, RunOptions::default()).await
    }

    pub(crate) async fn send_with(&self, content: &str, options: RunOptions) -> Started {
        let new = NewRun { messages: vec![content.into()], options, ..NewRun::default() };
        self.store().start_run(&self.database.project, &self.thread, new).await.expect("a run")
    }

    /// Waits for the end of a run.
    pub(crate) async fn outcome(&self, run: &RunId) -> Outcome {
        self.wait_for(|events| {
            events.iter().find_map(|event| match &event.event {
                Event::RunFinished { outcome, .. } if event.run_id.as_ref() == Some(run) => Some(outcome.clone()),
                _ => None,
            })
        })
        .await
    }

    /// Sends a message and waits for what comes out.
    pub(crate) async fn ask(&self, content: &str) -> Outcome {
        let started = self.send(content).await;
        self.outcome(&started.run_id).await
    }

    pub(crate) async fn events(&self) -> Vec<Recorded> {
        self.store().list_events(&self.thread, 0, None, 10_000).await.expect("reads")
    }

    /// Gives the lines of the log about a topic.
    pub(crate) async fn logged(&self, wanted: &str) -> Vec<String> {
        let events = self.events().await.into_iter();
        let lines = events.filter_map(|event| match event.event {
            Event::Log { topic, message, .. } if topic == wanted => Some(message),
            _ => None,
        });
        lines.collect()
    }

    /// Waits until so many events tell of work, or the run is over; tells whether it is.
    pub(crate) async fn is_over_at(&self, boundary: usize) -> bool {
        self.wait_for(|events| {
            let is_over = events.iter().any(|event| matches!(event.event, Event::RunFinished { .. }));
            // What servers have begun again is no progress.
            let work = events.iter().filter(|event| {
                let event = match &event.event {
                    Event::Subagent { event, .. } => event,
                    event => event,
                };
                let is_again = matches!(event, Event::RunResumed { .. } | Event::ComputerStarting);
                !is_again && !matches!(event, Event::Research { told } if told.happening == Happening::Resumed)
            });
            (is_over || work.count() >= boundary).then_some(is_over)
        })
        .await
    }

    /// Waits until the log shows what is looked for.
    pub(crate) async fn wait_for<T>(&self, find: impl Fn(&[Recorded]) -> Option<T>) -> T {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
        loop {
            let events = self.events().await;
            if let Some(found) = find(&events) {
                return found;
            }
            assert!(tokio::time::Instant::now() < deadline, "not within a minute; the log: {events:#?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Gives the tool calls that ended, in the order of the log.
    pub(crate) async fn finished_calls(&self) -> Vec<ToolCall> {
        self.events()
            .await
            .into_iter()
            .filter_map(|event| match event.event {
                Event::ItemCompleted { item: Item::ToolCall(call) } => Some(call),
                _ => None,
            })
            .collect()
    }

    /// Reads a file of the workspace on the host; `None` if there is none.
    pub(crate) fn file(&self, name: &str) -> Option<String> {
        std::fs::read_to_string(self.path(name)).ok()
    }

    /// Gives where a file of the workspace is on the host.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        let root = self.database.directory().join("data/environments").join(self.environment.as_str());
        root.join("workspace").join(name)
    }

    /// Asserts that the logs are whole, that no request was refused, and that nothing is left over.
    pub(crate) async fn end(self) {
        for request in self.claude.requests() {
            assert_ne!(request.status, 400, "the model refused {:#}", request.json());
        }
        self.end_after_refusals().await;
    }

    /// The same for a script that refuses requests itself.
    pub(crate) async fn end_after_refusals(self) {
        // What the model's check finds wrong with a request, no script does.
        for request in self.claude.requests() {
            assert!(request.asked.is_some(), "the model cannot read {:#}", request.json());
        }
        let pool = self.database.pool().await;
        for (what, query) in [
            ("leases", "select count(*) from runs where lease_token is not null"),
            ("runs under way", "select count(*) from runs where status not in ('completed', 'failed', 'cancelled')"),
            (
                "logs with a gap or a double",
                "select count(*) from (
                     select from events group by thread_id having count(*) <> max(sequence) or min(sequence) <> 1
                 ) broken",
            ),
        ] {
            let left: i64 = sqlx::query_scalar(query).fetch_one(&pool).await.expect("counts");
            assert_eq!(left, 0, "{what}");
        }
        pool.close().await;
        self.sandboxes.remove(&self.environment).await.expect("the container goes");
        // A server that ended while it started a container may have left the engine to finish that.
        let begun = Instant::now();
        loop {
            self.sandboxes.stop_all().await.expect("everything goes");
            let left = ["container", "network"].map(|kind| (kind, self.left_on_engine(kind)));
            if left.iter().all(|(_, ids)| ids.is_empty()) {
                break;
            }
            assert!(begun.elapsed() < Duration::from_secs(10), "left: {left:?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let directory = self.database.directory().to_owned();
        drop(self);
        assert!(!directory.exists(), "{} is left", directory.display());
    }

    /// Lists what of this world is on the engine: ids of containers or of networks.
    fn left_on_engine(&self, kind: &str) -> Vec<String> {
        let label = format!("label=atelier.installation={}", self.installation);
        let all = if kind == "container" { &["--all"][..] } else { &[] };
        let arguments = [&[kind, "ls", "--quiet", "--filter", &label], all].concat();
        let listed = std::process::Command::new("docker").args(arguments).output();
        let listed = listed.map(|listed| String::from_utf8_lossy(&listed.stdout).into_owned()).unwrap_or_default();
        listed.split_whitespace().map(str::to_owned).collect()
    }
}

impl Drop for World {
    /// A test that failed leaves no container either.
    fn drop(&mut self) {
        for container in self.left_on_engine("container") {
            let _ = std::process::Command::new("docker").args(["rm", "-f", &container]).output();
        }
        let label = format!("label=atelier.built-by={}", self.installation);
        let listed = std::process::Command::new("docker").args(["images", "-q", "--filter", &label]).output();
        let listed = listed.map(|listed| String::from_utf8_lossy(&listed.stdout).into_owned()).unwrap_or_default();
        for image in listed.split_whitespace() {
            let _ = std::process::Command::new("docker").args(["rmi", "-f", image]).output();
        }
    }
}

impl Server {
    /// Ends it as `kill -9` would: nothing is written, nothing is given back.
    pub(crate) fn kill(mut self) {
        self.end();
    }

    /// Ends it as a second signal would: runs are given back where they stand.
    pub(crate) async fn stop_hard(mut self) {
        self.soft.cancel();
        self.hard.cancel();
        (&mut self.working).await.expect("ends");
    }

    /// Ends it as a first signal would: runs reach their next checkpoint.
    pub(crate) async fn stop_soft(mut self) {
        self.soft.cancel();
        (&mut self.working).await.expect("ends");
    }

    fn end(&mut self) {
        self.killed.cancel();
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the server's thread does not panic");
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}

async fn new_thread(database: &Database, environment: &EnvironmentId) -> ThreadId {
    let new = NewThread {
        environment_id: environment.clone(),
        agent_id: None,
        app_id: None,
        limits: domain::limits::Limits::default(),
        title: None,
        task: None,
        metadata: None,
    };
    database.store.create_thread(&database.project, new).await.expect("a thread").id
}

fn guestd() -> PathBuf {
    let built = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/guestd/guestd");
    let path = std::env::var_os("ATELIER_TEST_GUESTD").map_or_else(|| PathBuf::from(built), PathBuf::from);
    path.canonicalize().expect("guestd is built: make test builds it")
}

/// A reply that runs a command.
pub(crate) fn bash(command: &str) -> Reply {
    Reply::tool("Bash", serde_json::json!({ "command": command }))
}
