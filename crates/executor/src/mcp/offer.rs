//! Which tools a request offers, and what follows when they are not those of the request before.
//!
//! Newer models bind their thinking to all that stood before it, tools first. Where a thread's tools have changed since
//! its last compaction, its older thinking is no longer accepted, so the API is told to drop it. Whether they have is to
//! be known after a crash and by later runs, too: the transcript has an entry for each set of tools that it goes on with.

use claude::{BlockBinding, Thinking};
use domain::event::LogLevel;
use store::leases::Checkpoint;

use crate::{
    computer::Computer,
    conversation::{Loaded, TOOLS},
    drive::Driver,
    error::End,
};

/// What lets a request say what is to become of thinking that is bound to something else.
const BETA: &str = "thinking-binding-controls-2026-08-01";

impl Driver<'_> {
    /// Starts the run's MCP servers as far as the first request needs them.
    pub(crate) async fn prepare_servers(&mut self, computer: &Computer) -> Result<(), End> {
        let servers = computer.servers();
        if !servers.is_empty() {
            self.signal
                .or(async {
                    servers.prepare(computer.context()).await;
                    servers.look(&self.parts.store, &self.run.environment_id).await
                })
                .await?;
        }
        // Before what was asked about in the last reply is acted upon.
        self.compare_tools(computer).await
    }

    /// Has a request offer the tools that there are by now.
    pub(crate) async fn offer_tools(
        &mut self,
        request: &mut claude::Request,
        loaded: &mut Loaded,
        computer: &Computer,
    ) -> Result<(), End> {
        let servers = computer.servers();
        if !servers.is_empty() {
            self.signal.or(servers.look(&self.parts.store, &self.run.environment_id)).await?;
        }
        for problem in servers.take_problems() {
            // An event is progress, and one that each attempt repeats is none.
            if self.run.fruitless_attempts <= 1 {
                self.log(LogLevel::Warning, "mcp_log", problem).await?;
            }
        }
        self.compare_tools(computer).await?;
        let digest = servers.digest();
        if loaded.tools != digest {
            loaded.have_tools_changed |= loaded.has_replies;
            let entry = (TOOLS, serde_json::to_string(&digest).expect("a string serialises"));
            // With the run's first entries, or by itself if these are written.
            match self.opening.is_empty() {
                true => {
                    self.checkpoint(Checkpoint { transcript: vec![entry], ..Checkpoint::default() }).await?;
                }
                false => self.opening.push(entry),
            }
            loaded.tools = digest;
        }
        request.tools = computer.definitions();
        let is_bound = self.parts.catalogue.find(&request.model).is_some_and(|model| model.thinking.is_bound);
        if loaded.have_tools_changed && is_bound && request.thinking.is_none() {
            request.thinking = Some(Thinking::Adaptive { display: None, block_binding: Some(BlockBinding::DropBlock) });
            request.betas.push(BETA.to_owned());
        }
        Ok(())
    }
}

/// Takes what only models with bound thinking understand out of a request for another.
pub(crate) fn unbind(request: &mut claude::Request) {
    request.thinking = None;
    request.betas.retain(|beta| beta != BETA);
}
