//! The scripts that come with the server.

use std::sync::LazyLock;

use regex::Regex;
use serde_json::json;

use crate::{Asked, Reply, Script};

mod first_task;

/// A built-in script by name.
pub(crate) fn find(name: &str, workspace: &str) -> Option<Script> {
    let workspace = workspace.trim_end_matches('/').to_owned();
    match name {
        "first-task" => Some(Script::from_fn("first-task", move |asked| first_task::answer(asked, &workspace))),
        "echo" => Some(Script::from_fn("echo", |asked| Reply::text(&asked.user_text))),
        "bench" => Some(Script::from_rounds("bench", move |asked| bench(asked, &workspace))),
        _ => None,
    }
}

/// `bench writes=10 bashes=10 deltas=5 delay=2 job=7`: that many Write calls, then that many Bash calls, one a turn, then a
/// text of that many deltas, so many milliseconds apart. The number of the job is part of the files' names: a file that is
/// there already would have to be read first.
fn bench(asked: &Asked, workspace: &str) -> Reply {
    static NUMBERS: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"(writes|bashes|deltas|delay|job)=(\d{1,6})").expect("a constant pattern"));
    let (mut writes, mut bashes, mut deltas, mut delay_ms, mut job) = (10, 10, 1, 0, 0);
    for found in NUMBERS.captures_iter(&asked.user_text) {
        let number: usize = found[2].parse().unwrap_or(0);
        match &found[1] {
            "writes" => writes = number,
            "bashes" => bashes = number,
            "deltas" => deltas = number,
            "delay" => delay_ms = number,
            _ => job = number,
        }
    }
    let round = asked.round;
    if round < writes {
        let path = format!("{workspace}/bench-{job}-{round}.txt");
        Reply::tool("Write", json!({ "file_path": path, "content": format!("line {round} of the benchmark\n") }))
    } else if round < writes + bashes {
        Reply::tool("Bash", json!({ "command": format!("echo bench-{round}"), "description": "Print one line" }))
    } else {
        // Each word is as long as one delta.
        let mut reply = Reply::text("twenty-three-characters ".repeat(deltas.max(1)).trim_end());
        reply.fault.delta_delay_ms = delay_ms as u64;
        reply
    }
}
