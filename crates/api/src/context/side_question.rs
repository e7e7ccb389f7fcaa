//! Side questions: a row that a worker answers, and the answer as it comes.
//!
//! Pieces come over hints, which reach only the server that the worker is part of; the answer itself is a row that any
//! server looks at now and then. So an answer comes whole where the pieces cannot.

use std::time::Duration;

use axum::{
    body::{Body, Bytes},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use domain::{
    QuestionId, ThreadId,
    event::{Delta, Item},
    run::{Outcome, Spent},
};
use store::{hub::Piece, side_questions::Answer};
use tokio::time::{Instant, timeout_at};

use crate::{
    Api, Error, Result,
    auth::Caller,
    budgets,
    stream::EVENT_STREAM,
    wire_event::{Kind, WireEvent, comment, render_answer, render_delta, write_frame},
};

/// How often to look for an answer that nobody hinted at.
const POLL: Duration = Duration::from_secs(1);

/// How long a stream waits for a worker and a model; whoever answers gives up well before.
const MAX_STREAM: Duration = Duration::from_secs(600);

/// Asks and waits. `None`: not answered within `limit`.
pub(crate) async fn answer(
    api: &Api,
    caller: &Caller,
    thread: &ThreadId,
    prompt: &str,
    limit: Duration,
) -> Result<Option<String>> {
    budgets::check_thread(api, caller, thread).await?;
    let question = api.store.ask_side_question(&caller.project, thread, prompt, Some(&caller.key)).await?;
    let mut pieces = api.store.watch_answer(&question);
    let end = Instant::now() + limit;
    loop {
        match api.store.find_answer(&question).await? {
            Some((Answer::Given(text), _)) => return Ok(Some(text)),
            Some((Answer::Failed { message, .. }, _)) => return Err(Error::new(StatusCode::BAD_GATEWAY, message)),
            None if Instant::now() >= end => return Ok(None),
            None => {}
        }
        let look_again = end.min(Instant::now() + POLL);
        while let Ok(Piece::Text(_)) = timeout_at(look_again, pieces.next()).await {}
    }
}

/// Asks and answers with a stream.
pub(crate) async fn stream(api: &Api, caller: &Caller, thread: &ThreadId, prompt: &str) -> Result<Response> {
    budgets::check_thread(api, caller, thread).await?;
    let question = api.store.ask_side_question(&caller.project, thread, prompt, Some(&caller.key)).await?;
    let headers = [
        (header::CONTENT_TYPE, EVENT_STREAM),
        (header::CACHE_CONTROL, "no-cache"),
        (header::HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    Ok((headers, Body::from_stream(frames(api.clone(), question))).into_response())
}

fn frames(
    api: Api,
    question: QuestionId,
) -> impl futures::Stream<Item = std::result::Result<Bytes, std::io::Error>> + Send {
    async_stream::stream! {
        // Before the first look: what ends meanwhile wakes us.
        let mut pieces = api.store.watch_answer(&question);
        let end = Instant::now() + MAX_STREAM;
        let mut heartbeat = Instant::now() + api.settings.heartbeat;
        yield Ok(frame(&WireEvent::of(Kind::answer_started(question.as_str()))));
        loop {
            let found = match api.store.find_answer(&question).await {
                Ok(found) => found,
                Err(err) if err.is_unavailable() && Instant::now() < end => None,
                Err(err) => {
                    tracing::error!(error = &err as &dyn std::error::Error, "cannot read the answer to a side question");
                    yield Err(std::io::Error::other("the answer cannot be read"));
                    return;
                }
            };
            let found = match found {
                None if Instant::now() >= end => {
                    let message = "No answer came in time.".to_owned();
                    Some((Answer::Failed { code: "timeout".into(), message }, Spent::default()))
                }
                found => found,
            };
            if let Some((answer, spent)) = found {
                let (item, outcome) = match answer {
                    Answer::Given(content) => {
                        (Some(Item::Text { text: content.clone() }), Outcome::Completed { content })
                    }
                    Answer::Failed { code, message } => (None, Outcome::Failed { code, message }),
                };
                for event in render_answer(question.as_str(), item, &outcome, spent) {
                    yield Ok(frame(&event));
                }
                return;
            }
            let look_again = Instant::now() + POLL;
            loop {
                tokio::select! {
                    () = api.stopping.cancelled() => {
                        yield Err(std::io::Error::other("the server is stopping"));
                        return;
                    }
                    piece = timeout_at(look_again, pieces.next()) => match piece {
                        Ok(Piece::Text(text)) => yield Ok(frame(&render_delta(Delta::Text(text)))),
                        Ok(Piece::End) | Err(_) => break,
                    }
                }
            }
            if Instant::now() >= heartbeat {
                heartbeat = Instant::now() + api.settings.heartbeat;
                yield Ok(Bytes::from(comment("ping")));
            }
        }
    }
}

fn frame(event: &WireEvent) -> Bytes {
    let mut out = String::new();
    write_frame(&mut out, event.kind.name(), None, event);
    out.into()
}
