//! A thread's event log read as a whole, for the views that tell it in another form.
//!
//! Nothing but the log is kept of what happened, so logs, diffs, actions, activity groups and timeline are all made from
//! it when they are asked for. It is read in parts: a log may be larger than memory should be.

use std::{collections::HashMap, ops::ControlFlow};

use chrono::{DateTime, Utc};
use domain::{
    RunId, ThreadId,
    event::{Detail, Event, Item, Recorded, ToolResult},
};
use store::{
    Store,
    events::{Gap, Part},
};

use crate::{Api, Error, Result, auth::Caller, threads::find_thread};

const PART: i64 = 500;

/// Reads the events of a thread after a number, in order, until `see` breaks off or there are no more. Gives what of them
/// is kept no longer, for the view to tell.
pub(crate) async fn read(
    store: &Store,
    thread: &ThreadId,
    after: i64,
    mut see: impl FnMut(Recorded) -> ControlFlow<()>,
) -> Result<Option<Gap>> {
    let mut after = after;
    let mut gone: Option<Gap> = None;
    loop {
        let Part { gap, events } = store.read_log(thread, after, None, PART).await?;
        if let Some(gap) = gap {
            // What is forgotten while we read comes to what was.
            gone = Some(Gap { from: gone.map_or(gap.from, |gone| gone.from), ..gap });
        }
        let is_last = (events.len() as i64) < PART;
        for event in events {
            after = event.sequence;
            if see(event).is_break() {
                return Ok(gone);
            }
        }
        if is_last {
            return Ok(gone);
        }
    }
}

/// Finds a run of a thread of the caller's project.
pub(crate) async fn find_run(api: &Api, caller: &Caller, thread: &ThreadId, id: &str) -> Result<domain::run::Run> {
    let run = match id.parse::<RunId>() {
        Ok(id) => api.store.find_run(&caller.project, &id).await?,
        Err(_) => None,
    };
    run.filter(|run| run.thread_id == *thread).ok_or_else(|| Error::not_found("Run", id))
}

/// Finds the thread that an id names: its own, or that of one of its runs, which some clients put in its place. With a
/// run's id that run comes too.
pub(crate) async fn find_thread_or_run(api: &Api, caller: &Caller, id: &str) -> Result<(ThreadId, Option<RunId>)> {
    let thread_id = id.parse::<ThreadId>().map_err(|_| Error::not_found("Thread", id))?;
    if let Some(thread) = api.store.find_thread(&caller.project, &thread_id).await? {
        return Ok((thread.id, None));
    }
    let run = match id.parse::<RunId>() {
        Ok(id) => api.store.find_run(&caller.project, &id).await?,
        Err(_) => None,
    };
    let run = run.ok_or_else(|| Error::not_found("Thread", id))?;
    find_thread(api, caller, &run.thread_id).await?;
    Ok((run.thread_id, Some(run.id)))
}

/// A tool call, as the log tells it.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub id: String,
    pub run_id: Option<RunId>,
    pub name: String,
    /// JSON.
    pub input: String,
    /// The number of the event by which the model asked for it.
    pub sequence: i64,
    pub started_at: DateTime<Utc>,
    pub result: Option<(ToolResult, DateTime<Utc>)>,
    /// Its run ended and it never had a result.
    pub is_abandoned: bool,
}

impl Call {
    pub(crate) fn status(&self) -> &'static str {
        match &self.result {
            Some((result, _)) if result.is_error => "failed",
            Some(_) => "completed",
            None if self.is_abandoned => "cancelled",
            None => "running",
        }
    }

    /// Gives what it is about in a few words: the command, the file, the pattern.
    pub(crate) fn summary(&self) -> String {
        let detail = self.result.as_ref().and_then(|(result, _)| result.detail.as_ref());
        let about = match detail {
            Some(Detail::Command { command, .. }) => Some(command.clone()),
            Some(Detail::FileRead { path, .. } | Detail::FileWrite { path, .. } | Detail::Image { path, .. }) => {
                Some(path.clone())
            }
            Some(Detail::Search { pattern, .. }) => Some(pattern.clone()),
            Some(Detail::Fetch { url, .. }) => Some(url.clone()),
            Some(Detail::Mcp { server, tool, .. }) => Some(format!("{tool} of {server}")),
            Some(Detail::WebSearch { query, .. }) => Some(query.clone()),
            Some(Detail::Agent(called)) => Some(called.description.clone()),
            Some(Detail::Todos { .. }) => None,
            None => first_text(&self.input),
        };
        match about {
            Some(about) => {
                let line = about.lines().next().unwrap_or_default();
                format!("{}: {}", self.name, line.chars().take(200).collect::<String>())
            }
            None => self.name.clone(),
        }
    }

    /// Gives the file it touched, and how.
    pub(crate) fn touched(&self) -> Option<(&str, &'static str)> {
        match self.result.as_ref()?.0.detail.as_ref()? {
            Detail::FileRead { path, .. } => Some((path, "read")),
            Detail::FileWrite { path, is_new, .. } | Detail::Image { path, is_new, .. } => {
                Some((path, if *is_new { "created" } else { "modified" }))
            }
            Detail::Command { .. }
            | Detail::Agent(_)
            | Detail::Search { .. }
            | Detail::Todos { .. }
            | Detail::Mcp { .. }
            | Detail::Fetch { .. }
            | Detail::WebSearch { .. } => None,
        }
    }
}

/// Gives the text of what tools are mostly about in their inputs.
fn first_text(input: &str) -> Option<String> {
    let input: serde_json::Value = serde_json::from_str(input).ok()?;
    let names = ["command", "file_path", "pattern", "url", "path", "description"];
    names.iter().find_map(|name| input.get(name)?.as_str().map(str::to_owned))
}

/// The tool calls of a log that is being read.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    pub calls: Vec<Call>,
    open: HashMap<(Option<RunId>, String), usize>,
}

impl Calls {
    /// Takes note of an event. `wants` decides which new calls are kept.
    pub(crate) fn see(&mut self, recorded: Recorded, wants: impl FnOnce(&Recorded, usize) -> bool) {
        let is_wanted = wants(&recorded, self.calls.len());
        match recorded.event {
            Event::ItemStarted { item: Item::ToolCall(call) } if is_wanted => {
                self.open.insert((recorded.run_id.clone(), call.id.clone()), self.calls.len());
                self.calls.push(Call {
                    id: call.id,
                    run_id: recorded.run_id,
                    name: call.name,
                    input: call.input.get().to_owned(),
                    sequence: recorded.sequence,
                    started_at: recorded.created_at,
                    result: None,
                    is_abandoned: false,
                });
            }
            Event::ItemCompleted { item: Item::ToolCall(call) } => {
                if let Some(n) = self.open.remove(&(recorded.run_id, call.id)) {
                    self.calls[n].result = call.result.map(|result| (result, recorded.created_at));
                }
            }
            Event::RunFinished { .. } => {
                let calls = &mut self.calls;
                self.open.retain(|(run, _), n| {
                    let is_over = *run == recorded.run_id;
                    calls[*n].is_abandoned |= is_over;
                    !is_over
                });
            }
            _ => {}
        }
    }

    /// Tells whether every call that was kept has its end.
    pub(crate) fn is_settled(&self) -> bool {
        self.open.is_empty()
    }
}
