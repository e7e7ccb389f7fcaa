//! Paths that want out of the workspace: none gets there, on any route, and none breaks the server.
//!
//! The workspace is full of links by which somebody in the container has tried it; beside it and above it lie files that
//! say a word which must never come back, and which must be as they were at the end.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{MetadataExt, symlink},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use axum::{
    body::Body,
    http::{Method, Request, StatusCode, header},
};
use futures::{StreamExt, stream};
use serde_json::json;
use tower::ServiceExt;

use super::Files;
use crate::app::{App, Reply};

const CANARY: &str = "THE-CANARY-MUST-NOT-BE-READ";

/// Places to get to, as paths from within.
const TARGETS: [&str; 12] = [
    "canary.txt",
    "home/canary.txt",
    "outside/canary.txt",
    "workspace-evil/canary.txt",
    "etc/passwd",
    "etc/hostname",
    "proc/self/root/etc/passwd",
    "proc/self/environ",
    "proc/1/root/etc/passwd",
    "proc/self/cwd/Cargo.toml",
    "dev/null",
    "api-key",
];

/// Ways up, some of which mean it only to somebody who decodes once too often.
const WAYS: [&str; 40] = [
    "../",
    "../../",
    "../../../",
    "../../../../../../../../",
    "./../",
    "a/../../",
    "src/../../",
    "/",
    "//",
    "///",
    "/../",
    "/workspace/../",
    "/workspace/../../",
    "/workspace-evil/",
    "/workspace/./../",
    "..\\",
    "..\\..\\",
    "\\",
    "C:\\",
    "..%2f",
    "%2e%2e/",
    "%2e%2e%2f",
    "%252e%252e%252f",
    "..%252f",
    "..%c0%af",
    "%c0%ae%c0%ae/",
    "..\u{ff0f}",
    "\u{ff0e}\u{ff0e}/",
    "\u{2025}/",
    "..;/",
    "....//",
    ".../",
    "..\0/",
    "\0/",
    "file:///",
    "~/",
    "$HOME/",
    "`pwd`/../",
    "..\u{200b}/",
    "..\n/",
];

/// Links of the workspace, each with a place below it to ask for.
const LINKS: [(&str, &str); 18] = [
    ("slash", "/"),
    ("up", ".."),
    ("up2", "../.."),
    ("out", "../outside"),
    ("file", "../outside/canary.txt"),
    ("home", "../home"),
    ("twice", "out"),
    ("proc", "/proc/self/root"),
    ("cwd", "/proc/self/cwd"),
    ("fd", "/proc/self/fd"),
    ("evil", "/workspace-evil"),
    ("sneaky", "/workspace/../outside"),
    ("over", "src/../../outside"),
    ("loop", "loop"),
    ("ping", "pong"),
    ("pong", "ping"),
    ("dangling", "../outside/new.txt"),
    ("passwd", "/etc/passwd"),
];

const SUFFIXES: [&str; 8] = ["", "/", "/.", "//x", "%00", "\0", "\u{0301}", "?x"];

/// More than 2,000 different strings, in a fixed order.
fn corpus() -> Vec<String> {
    let mut all = Vec::new();
    for way in WAYS {
        for target in TARGETS {
            all.extend(SUFFIXES[..4].iter().map(|suffix| format!("{way}{target}{suffix}")));
        }
    }
    for (link, _) in LINKS {
        all.push(link.to_owned());
        for target in TARGETS {
            all.extend([
                format!("{link}/{target}"),
                format!("./src/..//{link}/{target}"),
                format!("{link}/../{target}"),
            ]);
        }
        all.extend(SUFFIXES.map(|suffix| format!("{link}{suffix}")));
        all.push(format!("{link}/{link}/{link}/canary.txt"));
    }
    for depth in [1, 10, 100, 300, 341, 500] {
        all.extend([format!("{}canary.txt", "../".repeat(depth)), "up/".repeat(depth) + "canary.txt"]);
    }
    for length in [1, 254, 255, 256, 1023, 1024, 1025, 4096, 9000] {
        all.extend(["x".repeat(length), "ü".repeat(length / 2), "a/".repeat(length / 2)]);
    }
    for byte in 0..=0x20_u8 {
        all.extend([format!("{}..", char::from(byte)), format!("src{}/../../canary.txt", char::from(byte))]);
    }
    all.sort();
    all.dedup();
    all
}

/// A workspace with traps, and what is around it.
struct Trap {
    files: Files,
    other: String,
    data: PathBuf,
    roots: [PathBuf; 2],
    before: BTreeMap<PathBuf, (u64, i64, u32, Vec<u8>)>,
}

impl Trap {
    async fn set() -> Self {
        let app = App::start_with(|settings| settings.requests_per_window = 0).await;
        let other = app.post("/environments", json!({"name": "other"})).await.ok()["environment"]["id"].clone();
        let other = other.as_str().expect("an id").to_owned();
        let files = Files::of(app).await;
        // Both workspaces are made by their first use.
        let there = Files { path: format!("/v1/environments/{other}/files"), ..files };
        there.upload(&[("file", Some("f"), b"x")]).await.ok();
        let files = Files::of(there.app).await;
        files.upload(&[("path", None, b"src"), ("file", Some("app.py"), b"x")]).await.ok();
        let root = files.on_disk("");
        let data = root.parent().and_then(Path::parent).expect("is below").to_owned();
        let environment = root.parent().expect("is below").to_owned();
        for directory in ["outside", "home", "workspace-evil"] {
            fs::create_dir_all(environment.join(directory)).expect("makes");
            fs::write(environment.join(directory).join("canary.txt"), CANARY).expect("writes");
        }
        fs::write(environment.join("canary.txt"), CANARY).expect("writes");
        fs::write(data.join("canary.txt"), CANARY).expect("writes");
        let roots = [root, data.join(&other).join("workspace")];
        let mut trap = Self { files, other, data, roots, before: BTreeMap::new() };
        trap.arm();
        trap.before = trap.look_around();
        trap
    }

    /// Makes the links, where they are missing.
    fn arm(&self) {
        for (link, target) in LINKS {
            let _ = symlink(target, self.roots[0].join(link));
        }
        let _ = fs::create_dir_all(self.roots[0].join("src"));
        let _ = fs::write(self.roots[0].join("src/app.py"), "x");
    }

    fn look_around(&self) -> BTreeMap<PathBuf, (u64, i64, u32, Vec<u8>)> {
        let (mut seen, mut left) = (BTreeMap::new(), vec![self.data.clone()]);
        while let Some(directory) = left.pop() {
            for entry in fs::read_dir(directory).expect("reads") {
                let path = entry.expect("reads").path();
                // What the server remembers of the files is its own to change.
                if self.roots.contains(&path) || path.ends_with("history") {
                    continue;
                }
                let meta = fs::symlink_metadata(&path).expect("is there");
                let content = if meta.is_file() {
                    fs::read(&path).expect("reads")
                } else {
                    left.push(path.clone());
                    Vec::new()
                };
                seen.insert(path, (meta.ino(), meta.mtime_nsec(), meta.mode(), content));
            }
        }
        seen
    }

    fn assert_outside_is_as_it_was(&self) {
        assert_eq!(self.look_around(), self.before, "something outside was changed");
        assert!(!Path::new("/workspace-evil").exists());
    }

    /// Asks for each path of the corpus by one route, a few at a time.
    async fn try_all<F: Future<Output = Reply>>(&self, route: &str, ask: impl Fn(String) -> F) -> usize {
        let corpus = corpus();
        assert!(corpus.len() >= 2000, "{} paths", corpus.len());
        // Each route takes others, so that many of them are tried in a usual run, and all on all of them in a soak.
        let step = corpus.len().div_ceil(testing::times("ATELIER_TEST_PATHS", 200).max(1));
        let first = route.bytes().map(usize::from).sum::<usize>() % step;
        let corpus: Vec<String> = corpus.into_iter().skip(first).step_by(step).collect();
        let count = corpus.len();
        let ask = &ask;
        let replies =
            stream::iter(corpus).map(|path| async move { (ask(path.clone()).await, path) }).buffer_unordered(8);
        replies.for_each(|(reply, path)| async move { check(route, &path, &reply) }).await;
        self.arm();
        count
    }

    fn url(&self, road: &str, path: &str) -> String {
        format!("{}{road}{}", self.files.path, encoded(path))
    }
}

impl Files {
    /// Gives the archive of a directory, or as much of it as came: one that is taken away meanwhile cuts it off.
    async fn archive(&self, path: &str) -> Reply {
        let request = Request::get(format!("{}/download/{path}", self.path))
            .header(header::AUTHORIZATION, format!("Bearer {}", self.app.key))
            .body(Body::empty())
            .expect("a valid request");
        let response = self.app.router.clone().oneshot(request).await.expect("the router cannot fail");
        let (parts, body) = response.into_parts();
        let chunks = body.into_data_stream().filter_map(async |chunk| chunk.ok());
        let body = chunks.collect::<Vec<_>>().await.concat();
        Reply { status: parts.status, headers: parts.headers, body }
    }
}

fn encoded(path: &str) -> String {
    path.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'_' | b'-' => char::from(byte).to_string(),
            byte => format!("%{byte:02X}"),
        })
        .collect()
}

#[track_caller]
fn check(route: &str, path: &str, reply: &Reply) {
    let is_fault = reply.status.is_server_error() && reply.status != StatusCode::NOT_IMPLEMENTED;
    assert!(!is_fault, "{route} {path:?}: {}", reply.status);
    for word in [CANARY, "root:x:0:0"] {
        let leaks = reply.body.windows(word.len()).any(|bytes| bytes == word.as_bytes());
        assert!(!leaks, "{route} {path:?} gives what is outside: {}", reply.status);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_outside_is_read() {
    let trap = Trap::set().await;
    let app = &trap.files.app;
    for road in ["/", "/download/", "/thumbnail/"] {
        trap.try_all(road, |path| {
            let url = trap.url(road, &path);
            async move { app.get(&url).await }
        })
        .await;
    }
    trap.try_all("list", |path| {
        let url = format!("{}?path={}", trap.files.path, encoded(&path).replace('/', "%2F"));
        async move { app.get(&url).await }
    })
    .await;
    // A whole listing and the whole archive show links, and nothing behind them.
    for road in ["", "/download/."] {
        let reply = trap.files.get(road).await;
        assert_eq!(reply.status, StatusCode::OK);
        check(road, "", &reply);
    }
    trap.assert_outside_is_as_it_was();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_outside_is_made_or_written() {
    let trap = Trap::set().await;
    let (files, app) = (&trap.files, &trap.files.app);
    trap.try_all("upload path", |path| async move {
        files.upload(&[("path", None, path.as_bytes()), ("file", Some("canary.txt"), b"written")]).await
    })
    .await;
    trap.try_all("upload whole path", |path| async move {
        files.upload(&[("file", Some("blob"), b"written"), ("path", None, path.as_bytes())]).await
    })
    .await;
    let mkdir = format!("{}/mkdir", files.path);
    trap.try_all("mkdir", |path| {
        let mkdir = &mkdir;
        async move { app.post(mkdir, json!({"path": path})).await }
    })
    .await;
    trap.assert_outside_is_as_it_was();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_outside_is_moved_sent_or_removed() {
    let trap = Trap::set().await;
    let app = &trap.files.app;
    let (moving, sending) = (format!("{}/move", trap.files.path), format!("{}/send", trap.files.path));
    let (moving, sending, other) = (&moving, &sending, &trap.other);
    trap.try_all("move from", |path| async move {
        app.post(moving, json!({"sourcePath": path, "destPath": "moved/here"})).await
    })
    .await;
    trap.try_all("move to", |path| async move {
        app.post(moving, json!({"sourcePath": "src/app.py", "destPath": path})).await
    })
    .await;
    trap.try_all("send", |path| async move {
        app.post(sending, json!({"destinationEnvironmentId": other, "paths": [path]})).await
    })
    .await;
    trap.try_all("delete", |path| {
        let url = trap.url("/", &path);
        async move { app.call(Method::DELETE, &url, Body::empty()).await }
    })
    .await;
    trap.assert_outside_is_as_it_was();
    // What was sent is links and files of our own.
    let archive = app.get(&format!("/v1/environments/{other}/files/download/.")).await;
    check("sent", "", &archive);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_that_is_swapped_while_requests_run_leads_nowhere_either() {
    let trap = Trap::set().await;
    let (files, root) = (&trap.files, trap.roots[0].clone());
    let is_over = Arc::new(AtomicBool::new(false));
    let swapping = std::thread::spawn({
        let is_over = Arc::clone(&is_over);
        move || {
            // A directory, a link to the outside and a link to a directory inside take turns at one name.
            let (name, spare) = (root.join("turn"), root.join("spare"));
            fs::create_dir_all(root.join("real")).expect("makes");
            let mut swaps = 0_u64;
            while !is_over.load(Ordering::Relaxed) {
                for target in ["../outside", "real", "/"] {
                    let _ = fs::remove_file(&spare);
                    let _ = symlink(target, &spare);
                    let _ = fs::rename(&spare, &name);
                    swaps += 1;
                }
                let _ = fs::remove_file(&name);
                let _ = fs::create_dir(&name);
                let _ = fs::write(name.join("canary.txt"), "inside");
                let _ = fs::remove_dir_all(&name);
            }
            swaps
        }
    });
    for n in 0..testing::times("ATELIER_TEST_PATHS", 40).min(400) {
        let send = json!({"destinationEnvironmentId": trap.other, "paths": ["turn"]});
        let (moving, sending) = (format!("{}/move", files.path), format!("{}/send", files.path));
        let body = json!({"sourcePath": "turn/canary.txt", "destPath": format!("took{n}")});
        let replies = tokio::join!(
            files.get("/turn/canary.txt"),
            files.archive("turn"),
            files.get("?path=turn"),
            files.upload(&[("path", None, b"turn"), ("file", Some("canary.txt"), b"written")]),
            files.app.post(&moving, body),
            files.app.post(&sending, send),
        );
        let replies = [replies.0, replies.1, replies.2, replies.3, replies.4, replies.5];
        replies.iter().for_each(|reply| check("swapped", "turn", reply));
        let deleted = files.app.delete(&format!("{}/turn/canary.txt", files.path)).await;
        check("swapped", "delete", &deleted);
    }
    is_over.store(true, Ordering::Relaxed);
    let swaps = swapping.join().expect("swaps to the end");
    assert!(swaps > 100, "{swaps}");
    trap.assert_outside_is_as_it_was();
}
