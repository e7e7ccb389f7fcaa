//! Server-sent events of a thread: one body for every stream, first or tenth.
//!
//! Whatever the client does, the run does not notice: the body only reads the thread's log. A client that is slow is read
//! for slowly, since nothing is fetched before there is room for it; what waits for it here is one piece of the stream. A body that ends in order means that all has been
//! told; where the server stops or cannot go on, the body breaks off, so that no client takes a half for the whole, and
//! the client resumes after the last `id:` it saw.

use std::{collections::HashMap, pin::pin, time::Duration};

use axum::{
    body::{Body, Bytes},
    http::header,
    response::{IntoResponse, Response},
};
use chrono::{DateTime, Utc};
use domain::{
    ProjectId, RunId, ThreadId,
    event::{Event, Recorded},
};
use futures::{Stream, StreamExt};
use store::{
    Store,
    tail::{Tailed, Until, detached},
};
use tokio::time::timeout;

use crate::{
    Api,
    wire_event::{comment, render, render_delta, render_end, render_gap, write_frame},
};

/// The type of a stream.
pub(crate) const EVENT_STREAM: &str = "text/event-stream";

/// Frames sent as one piece when they are there at once.
const BATCH: usize = 64;

/// A piece that has grown so large is sent as it is.
const PIECE: usize = 64 * 1024;

/// How often, a second apart, a database that is away is asked again before the stream breaks off.
const MAX_RETRIES: u32 = 30;

/// What a stream shows.
pub(crate) struct Range {
    pub thread: ThreadId,
    /// The newest event that the client has.
    pub after: i64,
    pub until: Until,
    /// The stream ends before this event.
    pub before: Option<i64>,
    /// The stream ends after so many events.
    pub limit: Option<i64>,
    /// Only those of this run, which another one may have called.
    pub only: Option<RunId>,
}

impl Range {
    /// The events of one run, to its end.
    pub(crate) fn of_run(started: store::runs::Started) -> Self {
        Self {
            thread: started.thread_id,
            after: started.after_sequence,
            until: Until::RunFinished(started.run_id),
            before: None,
            limit: None,
            only: None,
        }
    }
}

impl Range {
    /// Tells whether an event is for the reader: while a held run waits, those of the run before it are not.
    fn shows(&self, recorded: &Recorded) -> bool {
        if let Some(only) = &self.only {
            return recorded.own_run() == Some(only);
        }
        match (&self.until, &recorded.run_id) {
            (Until::RunFinished(run), Some(of)) => run == of,
            (Until::RunFinished(_), None) | (Until::Idle, _) => true,
        }
    }
}

/// Why a body broke off.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error("the server is stopping")]
    Stopping,
    #[error("cannot read the thread's events")]
    Store(#[from] store::Error),
}

/// Answers with the events of `range`. `greeting` is a frame that comes before all others.
pub(crate) fn respond(api: &Api, project: &ProjectId, range: Range, greeting: Option<String>) -> Response {
    let greeting = futures::stream::iter(greeting.map(|frame| Ok(Bytes::from(frame))));
    let frames = frames(api.clone(), project.clone(), range);
    let headers = [
        (header::CONTENT_TYPE, EVENT_STREAM),
        (header::CACHE_CONTROL, "no-cache"),
        // Or a reverse proxy collects frames before it passes them on.
        (header::HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    (headers, Body::from_stream(greeting.chain(frames))).into_response()
}

/// Answers with what is known of a run that was put off: that it was accepted, and that.
pub(crate) async fn put_off(api: &Api, started: &store::runs::Started) -> store::Result<Response> {
    let mut out = String::new();
    for recorded in api.store.list_events(&started.thread_id, started.after_sequence, None, 2).await? {
        if matches!(recorded.event, Event::ThreadCreated { .. } | Event::RunQueued) {
            for event in render(&recorded, None) {
                write_frame(&mut out, event.kind.name(), event.sequence, &event);
            }
        }
    }
    out.push_str(&crate::capacity::put_off(&started.run_id));
    let headers = [(header::CONTENT_TYPE, EVENT_STREAM), (header::CACHE_CONTROL, "no-cache")];
    Ok((headers, out).into_response())
}

fn frames(api: Api, project: ProjectId, range: Range) -> impl Stream<Item = Result<Bytes, Broken>> + Send {
    async_stream::stream! {
        let mut clock = RunClock::new(api.store.clone(), project);
        let mut cursor = range.after;
        let mut remaining = range.limit.unwrap_or(i64::MAX);
        let mut retries = 0;
        'tail: loop {
            let tail = api.store.tail(range.thread.clone(), cursor, range.until.clone());
            let mut tail = pin!(tail.ready_chunks(BATCH));
            loop {
                let chunk = tokio::select! {
                    biased;
                    () = api.stopping.cancelled() => {
                        yield Err(Broken::Stopping);
                        return;
                    }
                    chunk = timeout(api.settings.heartbeat, tail.next()) => chunk,
                };
                let chunk = match chunk {
                    Err(_) => {
                        yield Ok(Bytes::from(comment("ping")));
                        continue;
                    }
                    Ok(None) => return,
                    Ok(Some(chunk)) => chunk,
                };
                let mut out = String::new();
                let (mut is_end, mut is_end_forgotten) = (false, false);
                let mut failure = None;
                for tailed in chunk {
                    match write(&mut out, &mut clock, tailed, &range).await {
                        Ok(Written::Delta) => {}
                        Ok(Written::Event(sequence)) => {
                            cursor = sequence;
                            remaining -= 1;
                            retries = 0;
                        }
                        Ok(Written::Nothing) => is_end = true,
                        Ok(Written::EndForgotten) => (is_end, is_end_forgotten) = (true, true),
                        Ok(Written::Gap(sequence)) => {
                            cursor = sequence;
                            retries = 0;
                        }
                        Err(err) => failure = Some(err),
                    }
                    is_end |= remaining <= 0;
                    if is_end || failure.is_some() {
                        break;
                    }
                    if out.len() >= PIECE {
                        yield Ok(Bytes::from(std::mem::take(&mut out)));
                    }
                }
                if !out.is_empty() {
                    yield Ok(Bytes::from(out));
                }
                if is_end_forgotten
                    && let Some(end) = forgotten_end(&api, &clock.project, &range).await
                {
                    yield end.map(Bytes::from).map_err(Broken::from);
                }
                if is_end {
                    return;
                }
                if let Some(err) = failure {
                    if !err.is_unavailable() || retries >= MAX_RETRIES {
                        tracing::error!(error = &err as &dyn std::error::Error, "a stream breaks off");
                        yield Err(err.into());
                        return;
                    }
                    retries += 1;
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    continue 'tail;
                }
            }
        }
    }
}

/// What became of something that was to be written.
enum Written {
    Event(i64),
    /// Up to there nothing is kept.
    Gap(i64),
    Delta,
    /// The run that is followed is over, and how it ended is to be told otherwise.
    EndForgotten,
    /// It is beyond the stream's end.
    Nothing,
}

async fn write(
    out: &mut String,
    clock: &mut RunClock,
    tailed: store::Result<Tailed>,
    range: &Range,
) -> store::Result<Written> {
    match tailed? {
        Tailed::Event(recorded) if range.before.is_some_and(|before| recorded.sequence >= before) => {
            Ok(Written::Nothing)
        }
        Tailed::Event(recorded) if !range.shows(&recorded) => Ok(Written::Event(recorded.sequence)),
        Tailed::Event(recorded) => {
            let run_started_at = clock.started_at(&recorded).await?;
            for event in render(&recorded, run_started_at) {
                write_frame(out, event.kind.name(), event.sequence, &event);
            }
            Ok(Written::Event(recorded.sequence))
        }
        Tailed::Gap(mut gap) => {
            let end = range.before.map_or(gap.to, |before| gap.to.min(before - 1));
            if end < gap.from {
                return Ok(Written::Nothing);
            }
            let to = std::mem::replace(&mut gap.to, end);
            let event = render_gap(&range.thread, gap);
            write_frame(out, event.kind.name(), event.sequence, &event);
            Ok(Written::Gap(to))
        }
        // It does not say whose it is.
        Tailed::Delta(_) if range.only.is_some() => Ok(Written::Delta),
        Tailed::Delta(delta) => {
            let event = render_delta(delta);
            write_frame(out, event.kind.name(), None, &event);
            Ok(Written::Delta)
        }
        Tailed::EndForgotten => Ok(Written::EndForgotten),
    }
}

/// Gives the end of a run whose events are forgotten: how it ended, its row still tells.
async fn forgotten_end(api: &Api, project: &ProjectId, range: &Range) -> Option<store::Result<String>> {
    let Until::RunFinished(run) = &range.until else { return None };
    let run = match api.store.find_run(project, run).await {
        Ok(run) => run?,
        Err(err) => return Some(Err(err)),
    };
    let outcome = run.outcome?;
    let mut out = String::new();
    for event in render_end(run.id.as_str(), &outcome, run.spent) {
        write_frame(&mut out, event.kind.name(), None, &event);
    }
    Some(Ok(out))
}

/// When runs began, for the clock of their log lines: the same whether the stream saw the beginning or not.
pub(crate) struct RunClock {
    store: Store,
    project: ProjectId,
    starts: HashMap<RunId, DateTime<Utc>>,
}

impl RunClock {
    pub(crate) fn new(store: Store, project: ProjectId) -> Self {
        Self { store, project, starts: HashMap::new() }
    }

    /// Gives when the event's run began, for those events that show it.
    pub(crate) async fn started_at(&mut self, recorded: &Recorded) -> store::Result<Option<DateTime<Utc>>> {
        let Some(run) = &recorded.run_id else { return Ok(None) };
        match &recorded.event {
            Event::Log { .. }
            | Event::RunResumed { .. }
            | Event::RunContinued { .. }
            | Event::Compacted { .. }
            | Event::Research { .. }
            | Event::Subagent { .. }
            | Event::ModelChanged { .. } => {}
            Event::ThreadCreated { .. }
            | Event::RunQueued
            | Event::RunPaused
            | Event::SteeringReceived { .. }
            | Event::SteeringDelivered { .. }
            | Event::RunStarted
            | Event::PermissionAsked { .. }
            | Event::PermissionDecided { .. }
            | Event::ComputerStarting
            | Event::ItemStarted { .. }
            | Event::ItemCompleted { .. }
            | Event::RunFinished { .. } => return Ok(None),
        }
        if let Some(started_at) = self.starts.get(run) {
            return Ok(Some(*started_at));
        }
        let (store, project, id) = (self.store.clone(), self.project.clone(), run.clone());
        // A stream's client may stop to take anything right here.
        let run_row = detached(async move { store.find_run(&project, &id).await }).await?;
        let started_at = run_row.and_then(|run| run.started_at);
        if let Some(started_at) = started_at {
            self.starts.insert(run.clone(), started_at);
        }
        Ok(started_at)
    }
}
