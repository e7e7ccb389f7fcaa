//! A run whose work can be counted: each of its calls appends one line to a file of its own.

use std::collections::HashSet;

use scripted_claude::{Block, Fault, Reply};
use serde_json::json;

use crate::{Frame, World, assert_complete, message};

/// One such run, in a thread of its own.
#[derive(Debug, Clone)]
pub struct Job {
    pub thread: String,
    environment: String,
    file: String,
    calls: usize,
    /// Put before the command that appends.
    before: &'static str,
}

/// What became of a job.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Counted {
    /// Calls that have no answer, or that were neither made nor told as interrupted.
    pub lost: usize,
    /// Calls that were made more than once.
    pub doubled: usize,
    /// It has not come to its end.
    pub stuck: usize,
    /// Calls of which the model was told that nobody knows.
    pub told: usize,
}

impl Job {
    /// Makes a thread for a job of so many calls; `file` is not another job's.
    pub async fn new(world: &World, environment: &str, file: &str, calls: usize) -> Self {
        let thread = world.thread(environment).await;
        Self { thread, environment: environment.to_owned(), file: file.to_owned(), calls, before: "" }
    }

    /// Makes each call take longer by a command before it.
    #[must_use]
    pub fn after(self, before: &'static str) -> Self {
        Self { before, ..self }
    }

    /// The message that starts it. The model takes its time, so that there is a middle of a reply.
    pub fn message(&self) -> String {
        let slow = |reply: Reply| reply.with_fault(Fault { delta_delay_ms: 2, ..Fault::default() });
        let call = |n| {
            let command = format!("{}echo {n} >> /workspace/{}", self.before, self.file);
            slow(Reply::tool("Bash", json!({ "command": command })).after(Block::text("Another line follows.")))
        };
        let mut replies: Vec<_> = (0..self.calls).map(call).collect();
        replies.push(slow(Reply::text("All lines are written, and this is the end of it.")));
        message(&replies)
    }

    /// Counts what it has done, once it is over.
    pub async fn count(&self, world: &World) -> Counted {
        let mut counted = Counted::default();
        if world.status(&self.thread).await != "completed" {
            return Counted { stuck: 1, ..counted };
        }
        let log = world.log_of(&self.thread).await;
        assert_complete(&log);
        let is_answer =
            |frame: &&Frame| frame.event == "response.item.completed" && !frame.data["item"]["id"].is_null();
        let answers: Vec<_> = log.iter().filter(is_answer).collect();
        // By a server that is gone, or by a container that is.
        let unknown = ["This call was interrupted", "The computer was restarted while this call ran"];
        let is_unknown = |frame: &&&Frame| unknown.iter().any(|words| frame.raw.contains(words));
        counted.told = answers.iter().filter(is_unknown).count();
        let written = world.file(&self.environment, &self.file).await.unwrap_or_default();
        let distinct: HashSet<&str> = written.lines().collect();
        counted.doubled = written.lines().count() - distinct.len();
        // What was interrupted may have been made all the same.
        counted.lost = self.calls.saturating_sub(distinct.len() + counted.told) + self.calls.abs_diff(answers.len());
        counted
    }
}
