//! The repository of a message.

use std::sync::Arc;

use domain::{
    event::Event,
    repository::GithubRepository,
    run::{Outcome, RunOptions},
};
use executor::Options;
use scripted_claude::Reply;

use crate::world::{World, bash};

fn about(full_name: &str, branch: Option<&str>) -> RunOptions {
    let repository = GithubRepository {
        full_name: full_name.into(),
        branch: branch.map(Into::into),
        branch_prefix: Some("agent/".into()),
        ..GithubRepository::default()
    };
    RunOptions { github_repository: Some(repository), ..RunOptions::default() }
}

/// Repositories of the workspace in place of GitHub's: the container has no network.
fn local(options: &mut Options) {
    let github_url = "file:///workspace/served".parse().expect("a URL");
    options.git = Arc::new(sandbox::git::Options { github_url, ..sandbox::git::Options::default() });
}

const SEED: &str = "git config --global user.name Test && git config --global user.email t@t && git init -q --bare -b main served/o/r.git && git clone -q served/o/r.git seed 2>&1 && cd seed && \
                    git switch -qc main 2>&1; echo one > f && git add f && git commit -qm one && git push -q origin main";

#[tokio::test(flavor = "multi_thread")]
async fn a_messages_repository_is_there_before_the_model_is_asked_and_fresh_the_next_time() {
    let world = World::new(|asked| match (asked.user_text.as_str(), asked.round) {
        (text, 0) if text.contains("seed") => bash(SEED),
        (text, 0) if text.contains("more") => {
            bash("cd seed && echo two > f && git commit -qam two && git push -q origin main")
        }
        (text, 0) if text.contains("read") => bash("cat r/f; git -C r branch --show-current"),
        _ => Reply::text("done"),
    })
    .await;
    let server = world.server_with("node_a", local).await;
    assert_eq!(world.ask("seed").await, Outcome::Completed { content: "done".into() });
    for (n, content) in [(0, "one\n"), (1, "two\n")] {
        if n == 1 {
            world.ask("more").await;
        }
        let started = world.send_with("read", about("o/r", Some("main"))).await;
        assert_eq!(world.outcome(&started.run_id).await, Outcome::Completed { content: "done".into() });
        let calls = world.finished_calls().await;
        let result = &calls.last().expect("it read").result.as_ref().expect("a result").text;
        assert_eq!(*result, format!("{content}main\n").trim_end(), "{result}");
        assert_eq!(world.file("r/f").as_deref(), Some(content));
    }
    let told = world.claude.requests().iter().rev().any(|request| {
        let text = request.json().to_string();
        text.contains("o/r is checked out in /workspace/r, on branch main") && text.contains("agent/")
    });
    assert!(told, "the model knows where it is");
    let accounts = world
        .events()
        .await
        .into_iter()
        .filter(|event| matches!(&event.event, Event::Log { topic, .. } if topic == "repository"));
    assert_eq!(accounts.count(), 2);
    server.stop_soft().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_that_cannot_be_had_is_the_runs_failure_and_the_model_is_not_asked() {
    let world = World::new(|_| Reply::text("never")).await;
    let server = world.server_with("node_a", local).await;
    let started = world.send_with("read", about("o/missing", None)).await;
    let Outcome::Failed { code, message } = world.outcome(&started.run_id).await else { panic!("it fails") };
    assert_eq!(code, "repository_unavailable");
    assert!(message.starts_with("The repository o/missing cannot be made ready"), "{message}");
    assert!(world.claude.requests().is_empty());
    assert_eq!(world.ask("and now").await, Outcome::Completed { content: "never".into() });
    server.stop_soft().await;
    world.end().await;
}
