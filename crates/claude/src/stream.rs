//! Asking the model and following its reply, over as many attempts as it takes.

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::{FutureExt, Stream, StreamExt};

use crate::client::header;
use crate::fold::Fold;
use crate::measure::Measured;
use crate::sse::Decoder;
use crate::{Block, Client, Conversation, Error, Request, Response, retry};

/// What becomes known while a reply comes in.
#[derive(Debug, Clone)]
#[expect(clippy::large_enum_variant, reason = "the large one comes once a turn and is moved out at once")]
pub enum Update {
    /// The attempt failed and is repeated after `delay`. Every delta since the last [`Update::Started`] is void; no block
    /// was completed, so nothing else is.
    Retrying {
        /// The repetition to come, from 1.
        attempt: u32,
        delay: Duration,
        /// One sentence for people.
        reason: String,
    },
    Started {
        id: String,
        model: String,
    },
    /// More of the text.
    Text(String),
    /// More of the shown reasoning.
    Thinking(String),
    /// More of a call's input; `index` tells calls of one reply apart.
    ToolInput {
        index: u32,
        name: String,
        partial: String,
    },
    /// A block is complete (blank text blocks are left out).
    Block(Block),
    /// The last update.
    Finished(Response),
}

impl Client {
    /// Asks the model and streams its reply.
    ///
    /// The body is rendered here; the stream borrows nothing, does nothing until polled, and is cancelled by dropping it.
    /// It ends after [`Update::Finished`] or after the first error. Failures that pass by themselves are retried
    /// ([`crate::Options::max_retries`]) unless a block had been completed: then the error says so
    /// ([`Error::after_output`]) and the caller decides.
    pub fn stream(
        &self,
        request: &Request,
        conversation: &Conversation,
    ) -> impl Stream<Item = Result<Update, Error>> + Send + 'static + use<> {
        let inner = self.inner.clone();
        let body = request.render(conversation);
        let (betas, model) = (request.betas.clone(), request.model.clone());
        async_stream::stream! {
            let body = match body {
                Ok(body) => body,
                Err(err) => {
                    yield Err(err);
                    return;
                }
            };
            let limit = inner.options.silence_limit;
            let measured = Measured::begin(&inner, model);
            let mut attempt = 0;
            loop {
                let asked_at = Instant::now();
                let (err, asked) = match inner.post(body.clone(), &betas).await {
                    Err(failed) => failed,
                    Ok(answer) => {
                        let request_id = header(answer.headers(), "request-id");
                        let mut fold = Fold::default();
                        let mut decoder = Decoder::default();
                        let mut updates = Vec::new();
                        let mut bytes = Box::pin(answer.bytes_stream());
                        let failed = loop {
                            let mut step = Ok(());
                            while step.is_ok() && let Some(frame) = decoder.next_frame() {
                                step = fold.frame(&frame, &mut updates);
                            }
                            for update in updates.drain(..) {
                                if let Update::Started { model, .. } = &update {
                                    measured.started(model, asked_at.elapsed());
                                }
                                yield Ok(update);
                            }
                            if let Err(err) = step {
                                break err;
                            }
                            if fold.is_stopped() {
                                drain(bytes).await;
                                let response = fold.into_response(request_id);
                                measured.finished(&response);
                                yield Ok(Update::Finished(response));
                                return;
                            }
                            let pushed = match tokio::time::timeout(limit, bytes.next()).await {
                                Ok(Some(Ok(chunk))) => decoder.push(&chunk),
                                Ok(Some(Err(err))) => {
                                    break Error::Truncated {
                                        after_output: fold.has_output(),
                                        source: Some(err.without_url()),
                                    };
                                }
                                Ok(None) => match fold.end_of_stream(&mut updates) {
                                    Ok(()) => Ok(()),
                                    Err(err) => break err,
                                },
                                Err(_) => break Error::Silence { limit, after_output: fold.has_output() },
                            };
                            if pushed.is_err() {
                                break Error::protocol("an event of the stream has no end").mark_output(fold.has_output());
                            }
                        };
                        (failed, None)
                    }
                };
                attempt += 1;
                if !err.is_retryable() || err.after_output() || attempt > inner.options.max_retries {
                    tracing::warn!(error = %err, request_id = err.request_id(), attempt, "the model did not answer");
                    measured.failed(&err);
                    yield Err(err);
                    return;
                }
                let delay = retry::delay(attempt, asked, inner.options.max_retry_delay, rand::random());
                tracing::info!(error = %err, request_id = err.request_id(), attempt, ?delay, "asking the model again");
                yield Ok(Update::Retrying { attempt, delay, reason: err.to_string() });
                tokio::time::sleep(delay).await;
            }
        }
    }
}

/// Reads a body whose message is over to its end, without making anyone wait: only then is its connection used again.
async fn drain(mut bytes: impl Stream<Item = reqwest::Result<Bytes>> + Send + Unpin + 'static) {
    const LONGEST: Duration = Duration::from_secs(2);
    // The end is nearly always on our side already, and the connection's task only has to get its turn to see it.
    for _ in 0..2 {
        match bytes.next().now_or_never() {
            Some(Some(Ok(_))) => {}
            Some(_) => return,
            None => tokio::task::yield_now().await,
        }
    }
    tokio::spawn(async move {
        let _ = tokio::time::timeout(LONGEST, async { while let Some(Ok(_)) = bytes.next().await {} }).await;
    });
}
