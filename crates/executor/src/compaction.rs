//! Making room in the model's window: when, and how the conversation goes on afterwards.
//!
//! A compaction happens between turns only, when every call has its answer, and is one checkpoint: the entry that
//! replaces what is before it, the event, and what the summary cost. A crash before it repeats the summary, a crash after
//! it finds the entry; going on is the same either way, since both load the transcript anew. The system prompt of the
//! requests is from then on the newest that the model was told: the cache behind it is lost anyway, and no thinking is
//! left that is bound to the old one.

use std::pin::pin;

use claude::{Caching, Response, StopReason, Update};
use domain::{
    agent::Agent,
    event::{Event, LogLevel, Trigger},
    run::Outcome,
};
use futures::StreamExt;
use store::{context::ContextUsage, leases::Checkpoint, transcript::Entry};
use tokio::time::Instant;

use crate::{
    answer::Expectation,
    computer::Computer,
    conversation::{self, COMPACTION, Loaded, SYSTEM, TOOLS, USER},
    drive::Driver,
    error::End,
    summary::{self, Compaction, Facts},
};

/// Replies between two compactions by threshold. Where the window is full again at once, what fills it is not history.
const MIN_TURNS_BETWEEN: u32 = 3;

/// Requests above this are compacted however many tokens they are: the API takes 32 MB, and images are bytes above all.
const MAX_REQUEST_BYTES: usize = 24_000_000;

/// The longest summary, in tokens, thinking included.
const MAX_SUMMARY_TOKENS: u64 = 16_000;

/// The window of models that the catalogue does not know.
const UNKNOWN_WINDOW_TOKENS: u64 = 64_000;

/// Summaries tried, each over half as much, while the back end says that it is too much.
const MAX_TRIES: u32 = 4;

/// Bytes in a token, where nobody has counted: low, for text of any kind.
const BYTES_PER_TOKEN: u64 = 2;

/// How full the window is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Window {
    /// By the newest reply and what was written since; 0 where there is none.
    pub used_tokens: i64,
    /// Replies since the last compaction.
    pub turns_since: u32,
}

impl Window {
    /// From what earlier runs and attempts left.
    pub(crate) fn new(usage: Option<&ContextUsage>) -> Self {
        let used_tokens = usage.map_or(0, |usage| usage.tokens + usage.newer_bytes / 4);
        Self { used_tokens, turns_since: u32::MAX }
    }

    /// Takes a reply's own count.
    pub(crate) fn measure(&mut self, response: &Response) {
        let tokens = response.usage.prompt_tokens() + response.usage.output_tokens;
        self.used_tokens = i64::try_from(tokens).unwrap_or(i64::MAX);
        self.turns_since = self.turns_since.saturating_add(1);
    }
}

impl Driver<'_> {
    /// Compacts when the window is nearly full. Where that fails the run goes on: there is room yet.
    pub(crate) async fn compact_if_full(
        &mut self,
        request: &mut claude::Request,
        loaded: &mut Loaded,
    ) -> Result<(), End> {
        let threshold = self.parts.catalogue.find(&request.model).map(|model| self.parts.options.compact_at(model));
        let is_full = threshold.is_some_and(|threshold| self.window.used_tokens >= threshold)
            || loaded.conversation.size_bytes() > MAX_REQUEST_BYTES;
        // A paused reply goes back as it is.
        let is_between_turns = loaded.conversation.last_role() == Some(claude::Role::User);
        if is_full && is_between_turns && self.window.turns_since >= MIN_TURNS_BETWEEN {
            self.compact(request, loaded, Trigger::Auto, None).await?;
        }
        Ok(())
    }

    /// Compacts because the back end takes no more. `end` is how the run ends if that does not help.
    pub(crate) async fn make_room(
        &mut self,
        request: &mut claude::Request,
        loaded: &mut Loaded,
        end: End,
    ) -> Result<(), End> {
        // Right after a compaction another one would change nothing.
        if self.window.turns_since > 0 && self.compact(request, loaded, Trigger::Auto, None).await? {
            return Ok(());
        }
        Err(end)
    }

    /// Drives a run that is nothing but a compaction.
    pub(crate) async fn compact_only(
        &mut self,
        agent: Option<&Agent>,
        entries: &[Entry],
        computer: &Computer,
    ) -> Result<Outcome, End> {
        let done = Outcome::Completed { content: String::new() };
        if entries.iter().any(|entry| entry.role == COMPACTION && entry.run_id == self.run.id) {
            return Ok(done);
        }
        let mut loaded = conversation::load(entries, &self.run.id)?;
        self.close_gaps(&mut loaded, &mut Expectation::new(&self.run.options)?).await?;
        let system = loaded.system.clone().unwrap_or_default();
        let mut request = self.request(agent, system, computer);
        self.check_bounds().await?;
        let wishes = self.run.options.execution_content.clone();
        match self.compact(&mut request, &mut loaded, Trigger::Manual, wishes.as_deref()).await? {
            true => Ok(done),
            false => Err(End::failed("compaction_failed", "The conversation was not summarised; its log says why.")),
        }
    }

    /// Replaces the conversation so far by a summary. Tells whether it did; if not, all is as it was, and the log says why.
    async fn compact(
        &mut self,
        request: &mut claude::Request,
        loaded: &mut Loaded,
        trigger: Trigger,
        wishes: Option<&str>,
    ) -> Result<bool, End> {
        let broken = || End::caused("internal_error", "the thread's transcript cannot be read");
        let entries = self.parts.store.load_branch(&self.run.thread_id, self.branch()).await?;
        if summary::transcribe(&entries, 0).map_err(broken())?.is_none() {
            if trigger == Trigger::Manual {
                self.log(LogLevel::Info, "action_summary", "There is nothing to summarise.".into()).await?;
            }
            return Ok(false);
        }
        // Said once and not by every attempt: an event is progress, and one that each attempt repeats is none.
        if self.run.fruitless_attempts <= 1 {
            self.log(LogLevel::Info, "action_summary", "Summarising the conversation so far.".into()).await?;
        }
        let pre_tokens = match self.window.used_tokens {
            0 => i64::try_from(loaded.conversation.size_bytes() / 4).unwrap_or(i64::MAX),
            used => used,
        };
        // Whatever comes of it: not again at once.
        self.window.turns_since = 0;
        let asked_at = Instant::now();
        let Some((response, author)) = self.summarise(request, &entries, wishes).await? else { return Ok(false) };
        let turn = self.turn(&author, &response, asked_at);
        self.spend(turn.spent);
        self.count_turn();
        let is_usable = matches!(response.stop_reason, StopReason::EndTurn | StopReason::StopSequence)
            && !response.text.trim().is_empty();
        if !is_usable {
            let reason = response.stop_reason.as_str();
            let message = format!("The conversation could not be summarised: the model stopped with {reason}.");
            let event = Event::Log { level: LogLevel::Warning, topic: "action_summary".into(), message };
            let (turn, events) = (Some(turn), vec![event]);
            self.checkpoint(Checkpoint { events, turn, is_upkeep: true, ..Checkpoint::default() }).await?;
            return Ok(false);
        }
        let facts = Facts::of(&entries).map_err(broken())?;
        // What the run was asked is replaced too, unless it is still to be written.
        let entry = Compaction::new(trigger, self.opening.is_empty(), facts, &response.text);
        let system_bytes: usize = request.system.iter().map(String::len).sum();
        let post_tokens = i64::try_from((entry.blocks.get().len() + system_bytes) / 4).unwrap_or(i64::MAX);
        self.checkpoint(Checkpoint {
            transcript: vec![(COMPACTION, entry.to_json())],
            events: vec![Event::Compacted { trigger, pre_tokens, post_tokens }],
            turn: Some(turn),
            is_upkeep: true,
            ..Checkpoint::default()
        })
        .await?;
        // From here on exactly as after a crash.
        let entries = self.parts.store.load_branch(&self.run.thread_id, self.branch()).await?;
        *loaded = conversation::load(&entries, &self.run.id)?;
        for (role, blocks) in self.opening.iter().filter(|(role, _)| *role != SYSTEM && *role != TOOLS) {
            conversation::push(&mut loaded.conversation, role, blocks)?;
        }
        if let Some(system) = loaded.system.take() {
            request.system = system;
        }
        self.window.used_tokens = post_tokens;
        Ok(true)
    }

    /// Asks for the summary, over less each time it is too much. `None` if it could not be had; the log says why.
    async fn summarise(
        &mut self,
        request: &claude::Request,
        entries: &[Entry],
        wishes: Option<&str>,
    ) -> Result<Option<(Response, claude::Request)>, End> {
        let known = self.parts.catalogue.find(&request.model);
        let window = known.map_or(UNKNOWN_WINDOW_TOKENS, |model| model.context_tokens);
        let max_tokens =
            MAX_SUMMARY_TOKENS.min(window / 4).min(known.map_or(u64::MAX, |model| model.max_output_tokens));
        let author = claude::Request {
            model: request.model.clone(),
            max_tokens: u32::try_from(max_tokens).unwrap_or(u32::MAX),
            system: vec![summary::SYSTEM_PROMPT.to_owned()],
            // Nobody will send this prompt a second time.
            caching: Caching::Off,
            ..claude::Request::default()
        };
        let room = window.saturating_sub(max_tokens + 2_000) * BYTES_PER_TOKEN;
        let mut max_bytes = usize::try_from(room).unwrap_or(usize::MAX);
        let mut tries = 0;
        loop {
            tries += 1;
            let text = summary::transcribe(entries, max_bytes)
                .map_err(End::caused("internal_error", "the thread's transcript cannot be read"))?
                .unwrap_or_default();
            let mut conversation = claude::Conversation::new();
            conversation::push(&mut conversation, USER, &conversation::text(&summary::prompt(&text, wishes)))?;
            match self.ask_quietly(&author, &conversation).await? {
                Ok(response) => return Ok(Some((response, author))),
                Err(claude::Error::PromptTooLong { .. }) if tries < MAX_TRIES => {
                    max_bytes = text.len().min(max_bytes) / 2
                }
                Err(err) if err.after_output() && err.is_retryable() && tries < MAX_TRIES => {}
                Err(err) => {
                    let message = format!("The conversation could not be summarised: {err}.");
                    self.log(LogLevel::Warning, "action_summary", message).await?;
                    return Ok(None);
                }
            }
        }
    }

    /// Asks without showing what is said.
    async fn ask_quietly(
        &mut self,
        request: &claude::Request,
        conversation: &claude::Conversation,
    ) -> Result<Result<Response, claude::Error>, End> {
        let mut updates = pin!(self.parts.claude.stream(request, conversation));
        loop {
            match self.signal.or(updates.next()).await? {
                None => return Ok(Err(claude::Error::Truncated { after_output: true, source: None })),
                Some(Err(err)) => return Ok(Err(err)),
                Some(Ok(Update::Finished(response))) => return Ok(Ok(response)),
                Some(Ok(Update::Retrying { attempt, delay, reason })) => {
                    let seconds = delay.as_secs_f64();
                    let message = format!(
                        "The model cannot answer now ({reason}). Trying again in {seconds:.1} s (attempt {attempt})."
                    );
                    self.log(LogLevel::Warning, "model", message).await?;
                }
                Some(Ok(
                    Update::Started { .. }
                    | Update::Text(_)
                    | Update::Thinking(_)
                    | Update::ToolInput { .. }
                    | Update::Block(_),
                )) => {}
            }
        }
    }
}
