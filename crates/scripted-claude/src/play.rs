//! Sends a reply at its pace, with what the script lets go wrong on the way.

use std::time::Duration;

use bytes::Bytes;
use futures::Stream;
use serde_json::json;

use crate::gates::Gates;
use crate::reply::{Fault, error_body};
use crate::wire::frame;

/// Sends frames at their pace, with what the script lets go wrong.
pub(crate) fn play(
    gates: Gates,
    frames: Vec<String>,
    fault: Fault,
    delta_delay: Duration,
) -> impl Stream<Item = Result<Bytes, std::io::Error>> + Send + 'static {
    let delay = delta_delay + Duration::from_millis(fault.delta_delay_ms);
    async_stream::stream! {
        for (sent, next) in frames.into_iter().enumerate() {
            let gate = fault.hold.as_deref().filter(|_| fault.hold_after == Some(sent));
            if !gates.pass(gate).await {
                return;
            }
            if fault.silence_after == Some(sent) {
                gates.wait_until_closing().await;
                return;
            }
            if fault.truncate_after == Some(sent) {
                // What was sent before has to leave before the connection is broken.
                tokio::time::sleep(Duration::from_millis(5)).await;
                yield Err(std::io::Error::other("scripted break of the stream"));
                return;
            }
            if fault.end_after == Some(sent) {
                return;
            }
            if fault.invalid_json_after == Some(sent) {
                yield Ok(Bytes::from_static(b"event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"ind\n\n"));
            }
            if fault.error_after == Some(sent) {
                let kind = fault.error_type.as_deref().unwrap_or("overloaded_error");
                let error = error_body(kind, fault.message.as_deref().unwrap_or("Overloaded"), None, "req_scripted");
                yield Ok(frame("error", &error).into());
                return;
            }
            if !delay.is_zero() {
                tokio::time::sleep(delay).await;
            }
            let is_delta = next.starts_with("event: content_block_delta\n");
            let is_block_start = next.starts_with("event: content_block_start\n");
            let next = Bytes::from(next);
            yield Ok(next.clone());
            if fault.duplicate_frames && !is_delta {
                yield Ok(next);
            }
            if fault.unknown_frames {
                yield Ok(Bytes::from_static(b": a comment\n\ndata: {\"type\":\"nameless\"}\n\nevent: invented_later\ndata: not even json\n\n"));
                if is_block_start {
                    let delta = json!({ "type": "content_block_delta", "index": 0, "delta": { "type": "invented_delta", "x": 1 } });
                    yield Ok(frame("content_block_delta", &delta).into());
                }
            }
        }
    }
}
