//! A computer of its own for each test, and calls as a model writes them.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use domain::EnvironmentId;
use executor::tools::{Call, Context, Outcome, ToolError, Tools, web};
use sandbox::{Network, Options, Sandbox, Sandboxes, Spec};
use serde_json::{Value, value::RawValue};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

pub(crate) const RUN: &str = "run_test";

/// Everything a test has; dropping it removes the containers.
pub(crate) struct World {
    options: Options,
    pub(crate) sandboxes: Sandboxes,
    pub(crate) spec: Spec,
    pub(crate) cx: Arc<Context>,
    pub(crate) stop: CancellationToken,
    /// What was shown while calls ran.
    pub(crate) shown: Arc<Mutex<Vec<String>>>,
    _data: TempDir,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(|_, _| {}).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut Options, &mut Spec)) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let data = tempfile::tempdir().expect("a temporary directory");
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let guestd = std::env::var_os("ATELIER_TEST_GUESTD").map(PathBuf::from);
        let guestd = guestd.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/guestd/guestd"));
        let mut options = Options {
            data_dir: data.path().to_owned(),
            installation: format!("test-tools-{}-{number}", std::process::id()),
            guestd: guestd.canonicalize().expect("guestd is built: `make guestd`"),
            image: std::env::var("ATELIER_TEST_IMAGE").unwrap_or_else(|_| "atelier-workspace:latest".to_owned()),
            ..Options::default()
        };
        let environment = EnvironmentId::generate();
        let mut spec =
            Spec { environment, image: None, built: None, network: Network::None, limits: None, env: Vec::new() };
        change(&mut options, &mut spec);
        let sandboxes = Sandboxes::connect(options.clone()).await.expect("an engine");
        let web = web::Client::new(Vec::new()).expect("a client");
        let env = vec![("GREETING".to_owned(), "hello".to_owned())];
        let cx = Arc::new(Context::new(sandboxes.clone(), spec.clone(), RUN, env, web));
        let (stop, shown) = (CancellationToken::new(), Arc::default());
        Self { options, sandboxes, spec, cx, stop, shown, _data: data }
    }

    pub(crate) fn installation(&self) -> &str {
        &self.options.installation
    }

    pub(crate) async fn sandbox(&self) -> Sandbox {
        self.cx.sandbox().await.expect("opens")
    }

    /// Gives the tools' state of another run on the same computer.
    pub(crate) fn another_run(&self) -> Context {
        let web = web::Client::new(Vec::new()).expect("a client");
        Context::new(self.sandboxes.clone(), self.spec.clone(), "run_other", Vec::new(), web)
    }

    pub(crate) async fn call(&self, name: &str, input: Value) -> Result<Outcome, ToolError> {
        self.call_in(&self.cx, name, input).await
    }

    pub(crate) async fn call_in(&self, cx: &Context, name: &str, input: Value) -> Result<Outcome, ToolError> {
        let input = RawValue::from_string(input.to_string()).expect("JSON");
        let shown = Arc::clone(&self.shown);
        let show = move |piece: String| shown.lock().expect("not poisoned").push(piece);
        let outcome = Tools::new(true).call(cx, Call { name, input: &input, stop: &self.stop, show: &show }).await;
        if let Ok(outcome) = &outcome {
            let text = outcome.to_text();
            assert!(!text.contains('\0') && text.chars().count() <= 121_000);
        }
        outcome
    }

    /// Calls a tool and gives what the model reads, errors too.
    pub(crate) async fn said(&self, name: &str, input: Value) -> String {
        match self.call(name, input).await {
            Ok(outcome) => outcome.to_text(),
            Err(ToolError::ForModel(text)) => format!("ERROR: {text}"),
            Err(err) => panic!("{name}: {err:?}"),
        }
    }

    /// Runs a command and gives what the model reads.
    pub(crate) async fn bash(&self, command: &str) -> String {
        self.said("Bash", serde_json::json!({ "command": command })).await
    }

    /// Counts the processes in the container whose command line holds `text`.
    pub(crate) async fn processes(&self, text: &str) -> usize {
        let sandbox = self.sandbox().await;
        let script = r#"for p in /proc/[0-9]*; do { tr '\0' ' ' <$p/cmdline; echo; } 2>/dev/null; done"#;
        let command = sandbox::Command {
            argv: ["bash", "-c", script].map(str::to_owned).to_vec(),
            group: "counting".to_owned(),
            ..sandbox::Command::default()
        };
        let mut process = sandbox.spawn(command).await.expect("starts");
        let mut out = Vec::new();
        while let Some(chunk) = process.next().await.expect("the container lives") {
            out.extend_from_slice(&chunk.bytes);
        }
        String::from_utf8_lossy(&out).lines().filter(|line| line.contains(text)).count()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let options = self.options.clone();
        let cleaned = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let sandboxes = Sandboxes::connect(options).await.expect("an engine");
                sandboxes.stop_all().await.expect("everything stops");
                // A second time: nothing was left by the first.
                sandboxes.stop_all().await.expect("everything stops")
            })
        });
        let left = cleaned.join().expect("cleans up");
        if !std::thread::panicking() {
            assert_eq!(left, 0);
        }
    }
}

/// Waits until `condition` holds; fails after `limit`.
pub(crate) async fn eventually(limit: Duration, mut condition: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while !condition().await {
        assert!(start.elapsed() < limit, "it does not happen within {limit:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
