//! Git in a real container: what a repository holds is its own, what was lent to a command is gone with it.

use std::{sync::Arc, time::Duration};

use domain::WorkspacePath;
use sandbox::{
    Exit, Sandbox,
    git::{Author, Error, Git, Options, Push, Remote, Repository, What},
};

use crate::world::{World, bash, run};

/// For what the tests themselves commit.
const IDENTITY: &str =
    "export GIT_AUTHOR_NAME=Test GIT_AUTHOR_EMAIL=t@t GIT_COMMITTER_NAME=Test GIT_COMMITTER_EMAIL=t@t";

struct Place {
    world: World,
    sandbox: Sandbox,
    git: Git,
}

impl Place {
    async fn new() -> Self {
        Self::with(Options::default()).await
    }

    async fn with(options: Options) -> Self {
        let world = World::new().await;
        let sandbox = world.open().await;
        let git = Git::new(sandbox.clone(), Arc::new(options), Vec::new());
        Self { world, sandbox, git }
    }

    /// Runs a script in the container, which must succeed, and gives what it said.
    async fn sh(&self, script: &str) -> String {
        let (said, exit) = run(&self.sandbox, &format!("set -e\n{IDENTITY}\n{script}")).await;
        assert_eq!(exit, Exit::Code(0), "{script}: {said}");
        said
    }

    async fn repository(&self, path: &str) -> Repository {
        self.git.repository(&at(path)).await.expect("a repository")
    }
}

fn at(path: &str) -> WorkspacePath {
    WorkspacePath::parse(path).expect("a path")
}

fn files(names: &[&str]) -> What {
    What::Files(names.iter().map(|name| (*name).to_owned()).collect())
}

#[tokio::test]
async fn a_change_goes_from_the_tree_to_another_repository() {
    let place = Place::new().await;
    place.sh("git init -q -b main /workspace && git init -q --bare -b main remote.git && printf 1 > a.txt && git remote add origin /workspace/remote.git").await;
    place.sh("printf 'remote.git\n' > .git/info/exclude; printf x > ' -odd\t\"name'; printf x > ':(top)b'").await;
    let repository = place.repository("").await;
    assert_eq!((repository.path(), repository.head().await.expect("asks")), ("", None));
    let status = repository.status().await.expect("asks");
    let names: Vec<_> = status.changed.iter().map(|change| change.path.as_str()).collect();
    assert_eq!(names, [" -odd\t\"name", ":(top)b", "a.txt"]);
    assert_eq!((status.branch.as_deref(), status.has_unpushed_commits), (Some("main"), false));

    // Names are names, whatever they look like.
    assert_eq!(repository.stage(&files(&[" -odd\t\"name", ":(top)b"])).await.expect("stages").len(), 2);
    assert!(matches!(repository.stage(&files(&["nowhere"])).await, Err(Error::NotFound(_))));
    assert_eq!(repository.unstage(&files(&[":(top)b"])).await.expect("unstages"), [":(top)b"]);
    assert_eq!(repository.stage(&What::All).await.expect("stages").len(), 3);

    let ada = Author { name: "Ada".into(), email: "ada@example.com".into() };
    let first = repository.commit("First\n\nwith a body", Some(&ada)).await.expect("commits");
    let nothing = repository.commit("Again", None).await;
    assert!(matches!(nothing, Err(Error::Conflict { code: "nothing_to_commit", .. })), "{nothing:?}");
    place.sh("printf 2 >> a.txt; printf n > new.txt; rm ':(top)b'").await;
    let diff = repository.diff().await.expect("compares");
    let seen: Vec<_> = diff.files.iter().map(|file| (file.path.as_str(), file.additions, file.deletions)).collect();
    assert_eq!(seen, [(":(top)b", 0, 1), ("a.txt", 1, 1), ("new.txt", 1, 0)]);
    assert!(diff.files[1].patch.contains("+12"), "{}", diff.files[1].patch);
    // Looking has staged nothing.
    assert!(repository.status().await.expect("asks").staged.is_empty());
    repository.stage(&What::All).await.expect("stages");
    let second = repository.commit("Second", None).await.expect("commits");
    let commits = repository.commits(10).await.expect("lists");
    let told: Vec<_> = commits.iter().map(|commit| (commit.author.name.as_str(), commit.message.as_str())).collect();
    assert_eq!(told, [("Atelier", "Second"), ("Ada", "First\n\nwith a body")]);
    assert_eq!(commits[0].hash, second);
    assert_eq!(repository.commit_diff(&first[..8]).await.expect("compares").files.len(), 3);
    assert!(matches!(repository.commit_diff("abcdef12").await, Err(Error::NotFound(_))));

    assert!(repository.status().await.expect("asks").has_unpushed_commits);
    let pushed = repository.push(Push::default()).await.expect("pushes");
    assert_eq!((pushed.branch.as_str(), pushed.commits, pushed.is_up_to_date), ("main", 2, false));
    assert!(repository.push(Push::default()).await.expect("pushes").is_up_to_date);
    assert_eq!(place.sh("git -C remote.git rev-parse main").await.trim(), second);
    assert!(!repository.status().await.expect("asks").has_unpushed_commits);

    repository.create_branch("feature/x").await.expect("makes");
    let taken = repository.create_branch("feature/x").await;
    assert!(matches!(taken, Err(Error::Conflict { code: "branch_exists", .. })), "{taken:?}");
    repository.switch("feature/x").await.expect("switches");
    assert!(matches!(repository.switch("nowhere").await, Err(Error::NotFound(_))));
    let branches = repository.branches().await.expect("lists");
    assert_eq!(branches.current.as_deref(), Some("feature/x"));
    assert_eq!(
        (branches.local, branches.remote),
        (vec!["feature/x".into(), "main".into()], vec!["origin/main".into()])
    );
    place.sh("printf other > a.txt; git commit -qam x; git switch -q main; printf mine > a.txt").await;
    let lost = repository.switch("feature/x").await;
    assert!(matches!(lost, Err(Error::Conflict { code: "would_lose_changes", .. })), "{lost:?}");

    // What the remote has and we do not is not overwritten, unless that is asked for.
    place.sh("git clone -q remote.git other; cd other; git commit -q --allow-empty -m theirs; git push -q").await;
    repository.stage(&What::All).await.expect("stages");
    repository.commit("ours", None).await.expect("commits");
    let rejected = repository.push(Push::default()).await;
    assert!(matches!(rejected, Err(Error::Conflict { code: "push_rejected", .. })), "{rejected:?}");
    repository.push(Push { force: true, ..Push::default() }).await.expect("pushes");
    drop(place.world);
}

#[tokio::test]
async fn a_clone_is_whole_or_not_there() {
    let place = Place::new().await;
    place.sh("git init -q -b trunk src && cd src && git commit -q --allow-empty -m one && git branch side && mkdir ../full ../empty && touch ../full/x").await;
    let remote = Remote::parse("src", None, place.git.options()).expect("an address");
    let cloned = place.git.clone_to(&remote, &at("deep/er/copy"), None).await.expect("clones");
    assert_eq!((cloned.repository.path(), cloned.branch.as_deref()), ("deep/er/copy", Some("trunk")));
    let cloned = place.git.clone_to(&remote, &at("empty"), Some("side")).await.expect("clones");
    assert_eq!(cloned.branch.as_deref(), Some("side"));
    let full = place.git.clone_to(&remote, &at("full"), None).await;
    assert!(matches!(full, Err(Error::Conflict { code: "target_exists", .. })), "{full:?}");
    let missing = place.git.clone_to(&remote, &at("x"), Some("nowhere")).await;
    assert!(matches!(missing, Err(Error::NotFound(_))), "{missing:?}");
    let nowhere = Remote::parse("/workspace/nowhere", None, place.git.options()).expect("an address");
    let missing = place.git.clone_to(&nowhere, &at("x"), None).await;
    assert!(matches!(missing, Err(Error::NotFound(_))), "{missing:?}");
    let away = Remote::parse("https://example.com/a/b.git", None, place.git.options()).expect("an address");
    let missing = place.git.clone_to(&away, &at("x"), None).await;
    assert!(matches!(missing, Err(Error::Unreachable(_))), "{missing:?}");
    assert_eq!(place.sh("ls -A").await, "deep\nempty\nfull\nsrc\n");
}

/// A server that lets in who says the word, and tells what it was asked with.
const SERVER: &str = r#"
import base64, http.server, os, subprocess
class Handler(http.server.BaseHTTPRequestHandler):
    def handle_one(self):
        given = self.headers.get('Authorization', '')
        open('/workspace/asked', 'a').write(given + '\n')
        if base64.b64decode(given.removeprefix('Basic ') or b'') != b'x-access-token:s3cret-t0ken':
            self.send_response(401); self.send_header('WWW-Authenticate', 'Basic realm="x"')
            self.send_header('Content-Length', '0'); self.end_headers(); return
        path, _, query = self.path.partition('?')
        body = self.rfile.read(int(self.headers.get('Content-Length') or 0))
        if self.headers.get('Content-Encoding') == 'gzip':
            import gzip; body = gzip.decompress(body)
        env = dict(os.environ, GIT_PROJECT_ROOT='/workspace/served', GIT_HTTP_EXPORT_ALL='1', PATH_INFO=path, QUERY_STRING=query,
            REQUEST_METHOD=self.command, CONTENT_TYPE=self.headers.get('Content-Type', ''), CONTENT_LENGTH=str(len(body)), REMOTE_USER='me')
        out = subprocess.run(['git', 'http-backend'], input=body, env=env, stdout=subprocess.PIPE).stdout
        head, _, rest = out.partition(b'\r\n\r\n')
        lines = head.decode().split('\r\n')
        status = next((int(l.split()[1]) for l in lines if l.lower().startswith('status:')), 200)
        self.send_response(status)
        for l in lines:
            name, _, value = l.partition(': ')
            if name.lower() != 'status': self.send_header(name, value)
        self.send_header('Content-Length', str(len(rest))); self.end_headers(); self.wfile.write(rest)
    do_GET = do_POST = handle_one
    def log_message(self, *a): pass
http.server.ThreadingHTTPServer(('127.0.0.1', 8099), Handler).serve_forever()
"#;

#[tokio::test]
async fn a_token_reaches_the_one_server_it_is_for_and_stays_nowhere() {
    let options = Options { github_url: "http://127.0.0.1:8099".parse().expect("a URL"), ..Options::default() };
    let place = Place::with(options).await;
    place.sandbox.write_file("/workspace/server.py", SERVER.as_bytes()).await.expect("writes");
    place.sh("git init -q --bare -b main served/o/r.git; git -C served/o/r.git config http.receivepack true").await;
    place.sh("git clone -q served/o/r.git seed 2>&1; cd seed; git switch -qc main; echo 1 > f; git add f; git commit -qm one; git push -q origin main").await;
    let server = place.sandbox.start_background(bash("exec python3 /workspace/server.py"), "/tmp/server.log").await;
    let server = server.expect("starts");
    place.sh("for n in $(seq 300); do python3 -c 'import socket; socket.create_connection((\"127.0.0.1\", 8099))' 2>/dev/null && exit 0; sleep 0.1; done; exit 1").await;

    // Helpers and hooks that would tell everybody.
    place.sh("git config --global credential.helper '!f() { cat >> /workspace/leak; }; f'; git config --global core.askPass /bin/echo").await;
    let options = place.git.options();
    let without = Remote::github("o/r", None, options).expect("a name");
    let refused = place.git.clone_to(&without, &at("r"), None).await;
    assert!(matches!(refused, Err(Error::AccessDenied(_))), "{refused:?}");
    let wrong = Remote::github("o/r", Some("wr0ng-t0ken".into()), options).expect("a name");
    let refused = place.git.clone_to(&wrong, &at("r"), None).await.expect_err("is refused");
    assert!(!refused.to_string().contains("wr0ng"), "{refused}");

    let remote = Remote::github("o/r", Some("s3cret-t0ken".into()), options).expect("a name");
    let prepared = place.git.prepare(&remote, &at("r"), None).await.expect("clones");
    assert!(prepared.is_new && prepared.branch.as_deref() == Some("main"));
    place.sh("cd seed; echo 2 > f; git commit -qam two; git push -q origin main main:side").await;
    let prepared = place.git.prepare(&remote, &at("r"), Some("main")).await.expect("fetches");
    assert!(!prepared.is_new && !prepared.has_diverged);
    assert_eq!(place.sh("cat r/f").await, "2\n");
    let other = Remote::github("o/else", Some("s3cret-t0ken".into()), options).expect("a name");
    let taken = place.git.prepare(&other, &at("r"), None).await;
    assert!(matches!(taken, Err(Error::Conflict { code: "target_exists", .. })), "{taken:?}");

    // A repository with a hostile hook is pushed all the same, and its hook sees nothing.
    place.sh("cd r; printf '#!/bin/sh\\nenv >> /workspace/leak\\n' > .git/hooks/pre-push; chmod +x .git/hooks/pre-push; echo 3 > f; git commit -qam three").await;
    let repository = place.repository("r").await;
    let denied = repository.push(Push::default()).await;
    assert!(matches!(denied, Err(Error::AccessDenied(_))), "{denied:?}");
    let token = || Some("s3cret-t0ken".into());
    let pushed = repository.push(Push { github_token: token(), ..Push::default() }).await.expect("pushes");
    assert_eq!((pushed.commits, pushed.url.as_deref()), (1, Some("http://127.0.0.1:8099/o/r.git")));
    assert_eq!(place.sh("git -C served/o/r.git log -1 --format=%s main").await, "three\n");

    // Another host is not told, whoever names it.
    place.sh("cd r; git remote add evil http://127.0.0.1:8098/o/r.git").await;
    let evil = Push { remote: Some("evil".into()), token: token(), ..Push::default() };
    assert!(matches!(repository.push(evil).await, Err(Error::Invalid { .. })));
    place.sandbox.stop_background(&server).await.expect("stops");
    let found = place
        .sh("rm server.py; grep -rlE 's3cret-t0ken|wr0ng-t0ken' /workspace /root /tmp /home 2>/dev/null || true")
        .await;
    assert_eq!(found, "", "the token is left in a file");
    assert!(!place.sh("cat /workspace/leak 2>/dev/null || true").await.contains("ATELIER_GIT_TOKEN"));
    let asked = place.sh("sort -u /workspace/asked | wc -l").await;
    // Nothing, the wrong one and the right one.
    assert_eq!(asked.trim(), "3");
}

#[tokio::test]
async fn two_at_once_wait_for_each_other_and_a_lock_that_stays_is_told() {
    let place = Place::new().await;
    place.sh("git init -q -b main . && git commit -q --allow-empty -m root && for n in $(seq 40); do echo $n > f$n; done").await;
    let repository = place.repository("").await;
    let each: Vec<String> = (1..=40).map(|n| format!("f{n}")).collect();
    let staging = each.chunks(5).map(|files| {
        let (repository, what) = (repository.clone(), What::Files(files.to_vec()));
        async move { repository.stage(&what).await.map(|staged| staged.len()) }
    });
    for staged in futures::future::join_all(staging).await {
        assert_eq!(staged.expect("waits for the others"), 5);
    }
    assert_eq!(repository.status().await.expect("asks").staged.len(), 40);
    place.sh("touch .git/index.lock").await;
    let locked = repository.stage(&What::All).await;
    assert!(matches!(locked, Err(Error::Conflict { code: "git_locked", .. })), "{locked:?}");
    assert_eq!(repository.status().await.expect("needs no lock").staged.len(), 40);
}

#[tokio::test]
async fn what_is_no_repository_and_what_does_not_end_is_said() {
    let options = Options { timeout: Duration::from_secs(2), max_output_bytes: 20_000, ..Options::default() };
    let place = Place::with(options).await;
    assert!(matches!(place.git.repository(&at("")).await, Err(Error::NotARepository(_))));
    assert!(matches!(place.git.repository(&at("nowhere")).await, Err(Error::NoSuchDirectory(_))));
    place.sh("git init -q -b main . && printf '#!/bin/sh\nsleep 100\n' > .git/hooks/pre-commit && chmod +x .git/hooks/pre-commit && seq 100000 > big").await;
    let repository = place.repository("").await;
    let diff = repository.diff().await.expect("is cut");
    assert!(diff.is_truncated && diff.files[0].additions == 100_000 && diff.files[0].patch.len() < 20_000);
    repository.stage(&What::All).await.expect("stages");
    assert!(matches!(repository.commit("never", None).await, Err(Error::TimedOut(_))));
}
