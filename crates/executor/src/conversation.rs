//! From the stored transcript to the conversation that the model is sent, and what is still open in it.
//!
//! Entries are appended, never changed. Beside `user` and `assistant` there is the role `system`: the parts of the
//! system prompt as a JSON array of strings. The first such entry is what every request of the thread begins with; the
//! newest is what later runs compare theirs to. And there are entries that replace everything before them: `compaction`
//! by a summary, after which the newest instructions become the beginning; `clear` by nothing at all.

use claude::{
    Conversation, Role, ToolUse,
    blocks::{self, NewBlock},
};
use domain::{
    RunId,
    message::{self, Message},
};
use serde_json::value::RawValue;
use store::transcript::Entry;

use crate::{error::End, summary::Compaction, tools::ResultBlock};

pub(crate) const SYSTEM: &str = "system";
/// The tools from here on: not for the model, but for whoever must know whether they were the same before.
pub(crate) const TOOLS: &str = "tools";
pub(crate) const COMPACTION: &str = "compaction";
pub(crate) const CLEAR: &str = "clear";
pub(crate) const USER: &str = "user";
pub(crate) const ASSISTANT: &str = "assistant";

/// What a run without a message begins with.
const GO_ON: &str = "Your work ended before it was done: it was stopped, or it failed. Go on from where it stood. Look at \
                     the state first, and do not repeat what is done.";

/// A thread's conversation so far.
pub(crate) struct Loaded {
    pub conversation: Conversation,
    /// The system prompt of the thread's requests; `None` before the first.
    pub system: Option<Vec<String>>,
    /// The newest instructions the model was told.
    pub told: Option<Vec<String>>,
    /// What tells the tools of the MCP servers that the last request offered from others.
    pub tools: Option<String>,
    /// Whether there are replies that were made when other tools were offered.
    pub have_tools_changed: bool,
    /// Whether the model has said anything.
    pub has_replies: bool,
    /// Calls of the last reply that have no result.
    pub open_calls: Vec<ToolUse>,
    /// Whether this run has written anything yet.
    pub has_begun: bool,
    /// The text of the last entry, if that is a reply of this run with nothing open: what remains is to finish.
    pub last_reply: Option<String>,
}

impl Loaded {
    fn empty() -> Self {
        Self {
            conversation: Conversation::new(),
            system: None,
            told: None,
            tools: None,
            have_tools_changed: false,
            has_replies: false,
            open_calls: Vec::new(),
            has_begun: false,
            last_reply: None,
        }
    }
}

/// Reads a transcript.
pub(crate) fn load(entries: &[Entry], run: &RunId) -> Result<Loaded, End> {
    let mut loaded = Loaded::empty();
    let unreadable = || "the thread's transcript cannot be read";
    for entry in entries {
        if entry.role == CLEAR {
            let has_begun = loaded.has_begun;
            loaded = Loaded { has_begun, ..Loaded::empty() };
            continue;
        }
        if entry.role == COMPACTION {
            let compaction = Compaction::read(entry).map_err(End::caused("internal_error", unreadable()))?;
            let has_begun = loaded.has_begun || (entry.run_id == *run && compaction.is_within_run);
            let told = loaded.told.take();
            loaded = Loaded { has_begun, system: told.clone(), told, ..Loaded::empty() };
            push(&mut loaded.conversation, USER, compaction.blocks.get())?;
            continue;
        }
        if entry.role == SYSTEM {
            let parts: Vec<String> =
                serde_json::from_str(&entry.blocks).map_err(End::caused("internal_error", unreadable()))?;
            loaded.system.get_or_insert_with(|| parts.clone());
            loaded.told = Some(parts);
            continue;
        }
        if entry.role == TOOLS {
            let tools = serde_json::from_str(&entry.blocks).map_err(End::caused("internal_error", unreadable()))?;
            loaded.have_tools_changed |= loaded.has_replies && loaded.tools != tools;
            loaded.tools = tools;
            continue;
        }
        push(&mut loaded.conversation, &entry.role, &entry.blocks)?;
        let contents = blocks::look_into(&entry.blocks).map_err(End::caused("internal_error", unreadable()))?;
        // Answers alone are no beginning: a run may have closed the gaps of the one before it and then been cut off.
        loaded.has_begun |= entry.run_id == *run && contents.answers.is_empty();
        if entry.role == ASSISTANT {
            loaded.has_replies = true;
            loaded.last_reply = (entry.run_id == *run && contents.tool_uses.is_empty()).then_some(contents.text);
            loaded.open_calls = contents.tool_uses;
        } else {
            loaded.last_reply = None;
            loaded.open_calls.retain(|call| !contents.answers.contains(&call.id));
        }
    }
    Ok(loaded)
}

/// Appends an entry to the conversation.
pub(crate) fn push(conversation: &mut Conversation, role: &str, blocks: &str) -> Result<(), End> {
    let role = if role == ASSISTANT { Role::Assistant } else { Role::User };
    let broken = "the thread's transcript cannot be read";
    let blocks: &RawValue = serde_json::from_str(blocks).map_err(End::caused("internal_error", broken))?;
    conversation.push(role, blocks).map_err(End::caused("internal_error", broken))
}

/// Makes the entries by which a run begins: the reminder and the messages that caused it.
pub(crate) fn opening(
    reminder: &str,
    messages: &[Message],
    execution_content: Option<&str>,
    attached: &[ResultBlock],
    instruction: Option<&str>,
) -> Vec<(&'static str, String)> {
    let mut entries: Vec<(&'static str, String)> = Vec::new();
    let Some((last, before)) = messages.split_last() else {
        // Nobody said anything: the run goes on where the one before it ended.
        return vec![(USER, texts(&[reminder, GO_ON]))];
    };
    for message in before {
        match message.role {
            message::Role::User => entries.push((USER, text(&message.content))),
            message::Role::System => {
                let content = format!("<system-reminder>\n{}\n</system-reminder>", message.content);
                entries.push((USER, text(&content)));
            }
            // A conversation begins with the user. What an assistant is said to have said before that is told.
            message::Role::Assistant if entries.is_empty() => {
                let content = format!("<system-reminder>\nYou said before: {}\n</system-reminder>", message.content);
                entries.push((USER, text(&content)));
            }
            message::Role::Assistant => entries.push((ASSISTANT, text(&message.content))),
        }
    }
    let content = execution_content.unwrap_or(&last.content);
    let mut last = vec![NewBlock::Text { text: reminder }];
    last.extend(attached.iter().map(ResultBlock::to_block));
    last.push(NewBlock::Text { text: content });
    last.extend(instruction.map(|text| NewBlock::Text { text }));
    entries.push((USER, blocks::to_json(&last)));
    entries
}

/// Makes an entry of one text.
pub(crate) fn text(content: &str) -> String {
    texts(&[content])
}

/// Makes an entry of several texts.
pub(crate) fn texts(contents: &[&str]) -> String {
    let blocks: Vec<_> = contents.iter().map(|text| NewBlock::Text { text }).collect();
    blocks::to_json(&blocks)
}

/// Makes the entry that answers a call.
pub(crate) fn answer(call_id: &str, content: &str, is_error: bool) -> String {
    // The API refuses empty text.
    let content = if content.trim().is_empty() { "(no output)" } else { content };
    blocks::to_json(&[NewBlock::ToolResult {
        tool_use_id: call_id,
        content: vec![NewBlock::Text { text: content }],
        is_error,
    }])
}
