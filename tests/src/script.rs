//! A model that does what the message says: the replies are in the message itself.
//!
//! So each test tells its own story in one place, many threads can tell different ones, and a server that was killed and
//! started again gets the same answers: what comes next follows from the conversation, not from a counter.

use scripted_claude::{Reply, Script};

/// Gives the message that makes the model answer with these replies, one after each round of tool results.
pub fn message(replies: &[Reply]) -> String {
    serde_json::to_string(replies).expect("replies are JSON")
}

/// The script that follows such messages. Any other message is answered by its own text.
pub(crate) fn follow_messages() -> Script {
    Script::from_fn("messages", |asked| match serde_json::from_str::<Vec<Reply>>(&asked.user_text) {
        Ok(replies) => replies.get(asked.round).cloned().unwrap_or_else(|| Reply::text("There is nothing more to do.")),
        Err(_) => Reply::text(&asked.user_text),
    })
}
