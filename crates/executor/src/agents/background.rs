//! Agents in the background: driven beside the turns of the run that called them, and told about between them.
//!
//! A run is not over before they are: when its model has nothing else to do, it is told what they came to, and goes on from
//! there. Telling is a checkpoint that marks them as told, so none is told twice and none is forgotten.

use std::sync::{Arc, atomic::Ordering};

use domain::{
    RunId,
    run::{Run, RunStatus},
};
use store::{leases::Checkpoint, permissions::Parking};

use super::{Agents, Unfinished, said};
use crate::{
    conversation::{self, USER},
    drive::Driver,
    error::End,
    stop::Stop,
};

/// The most that is told of one, in characters.
const MAX_TOLD_CHARS: usize = 60_000;

/// Whether to wait for agents in the background.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wait {
    /// The model is asked again anyway.
    No,
    /// It has nothing else to do.
    UntilOneEnds,
}

impl Agents {
    /// Drives an agent in the background, unless that is done already.
    pub(super) fn keep(self: &Arc<Self>, run: RunId) {
        self.has_background.store(true, Ordering::Relaxed);
        if !self.state().in_background.insert(run.clone()) {
            return;
        }
        let agents = self.clone();
        self.tasks.spawn(async move {
            loop {
                match agents.finish(&run, &agents.setup.tree).await {
                    Err(Unfinished::Left(End::Stop(Stop::Waiting))) => tokio::select! {
                        () = agents.closing.cancelled() => return,
                        () = tokio::time::sleep(agents.parts.options.poll) => {}
                    },
                    Err(Unfinished::Left(end)) => {
                        agents.state().left.get_or_insert(end);
                        break;
                    }
                    Err(Unfinished::ForModel(text)) => {
                        agents.state().left.get_or_insert(End::failed("internal_error", text));
                        break;
                    }
                    Ok(_) => break,
                }
            }
            agents.changed.notify_one();
        });
    }

    /// Tells whether some may not have been told about.
    pub(crate) fn has_background(&self) -> bool {
        self.has_background.load(Ordering::Relaxed)
    }
}

impl Driver<'_> {
    /// Tells the model what agents in the background have come to. Tells whether there was anything.
    pub(crate) async fn tell_of_agents(
        &mut self,
        conversation: &mut claude::Conversation,
        wait: Wait,
    ) -> Result<bool, End> {
        let Some(agents) = self.agents.clone().filter(|agents| agents.has_background()) else { return Ok(false) };
        loop {
            let called = self.parts.store.list_subagents(&self.run.id).await?;
            let is_untold = |run: &Run| run.place.as_ref().is_some_and(|place| place.is_background && !place.is_told);
            let (over, under_way): (Vec<_>, Vec<_>) =
                called.into_iter().filter(is_untold).partition(|run| run.status.is_over());
            if !over.is_empty() {
                self.tell(&over, conversation).await?;
                return Ok(true);
            }
            if under_way.is_empty() {
                agents.has_background.store(false, Ordering::Relaxed);
                return Ok(false);
            }
            if wait == Wait::No {
                return Ok(false);
            }
            if let Some(end) = agents.state().left.take() {
                return Err(end);
            }
            if self.soft.is_cancelled() {
                return Err(Stop::ShuttingDown.into());
            }
            if under_way.iter().all(|run| run.status == RunStatus::Waiting) {
                match self.parts.store.park_for_agents(self.lease).await? {
                    Parking::Parked => return Err(Stop::Waiting.into()),
                    Parking::Decided => {}
                    Parking::CancelRequested => return Err(self.signal.stopped().await.into()),
                }
            }
            tokio::select! {
                stop = self.signal.stopped() => return Err(stop.into()),
                () = agents.changed.notified() => {}
                () = self.soft.cancelled() => {}
                () = tokio::time::sleep(self.parts.options.poll) => {}
            }
        }
    }

    async fn tell(&mut self, over: &[Run], conversation: &mut claude::Conversation) -> Result<(), End> {
        // What the run was asked comes before what it is told.
        let mut transcript = std::mem::take(&mut self.opening);
        for run in over {
            let (text, _) = said(run);
            let text = self.redactor.redact(text);
            let text: String = text.chars().take(MAX_TOLD_CHARS).collect();
            let what = run.options.subagent.as_ref().map(|task| task.description.as_str()).unwrap_or_default();
            let note = format!(
                "<system-reminder>\nThe agent {} ({what}), which you called in the background, has ended. Its last \
                 message:\n</system-reminder>",
                run.id
            );
            let entry = conversation::texts(&[&note, &text]);
            conversation::push(conversation, USER, &entry)?;
            transcript.push((USER, entry));
        }
        let told = over.iter().map(|run| run.id.clone()).collect();
        self.checkpoint(Checkpoint { transcript, told, ..Checkpoint::default() }).await
    }
}
