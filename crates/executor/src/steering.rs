//! Notes to the run: taken between turns, in the checkpoint that appends them to the transcript.

use domain::event::{Event, SteeringMode};
use store::leases::Checkpoint;

use crate::{
    conversation::{self, USER},
    drive::Driver,
    error::End,
};

/// Which notes are a reason to give the model anything now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    /// Any: the model is asked again anyway.
    Any,
    /// Only one that is to be followed: the run is about to end.
    ToFollow,
}

impl Driver<'_> {
    /// Gives the model what people have said since it was last asked. Tells whether there was anything.
    pub(crate) async fn take_notes(
        &mut self,
        conversation: &mut claude::Conversation,
        reason: Reason,
    ) -> Result<bool, End> {
        if !self.lease.has_steers() {
            return Ok(false);
        }
        let notes = self.parts.store.list_steering(&self.run.id).await?;
        let is_to_follow = notes.iter().any(|note| note.mode == SteeringMode::Checkpoint);
        if notes.is_empty() || (reason == Reason::ToFollow && !is_to_follow) {
            return Ok(false);
        }
        // What the run was asked comes before what was said later.
        let mut transcript = std::mem::take(&mut self.opening);
        for note in &notes {
            let introduction = match note.mode {
                SteeringMode::Checkpoint => "The user has sent this while you were working. Follow it from here on:",
                SteeringMode::Fyi => "The user has sent this for your information. It changes nothing by itself:",
            };
            let introduction = format!("<system-reminder>\n{introduction}\n</system-reminder>");
            let entry = conversation::texts(&[&introduction, &note.content]);
            conversation::push(conversation, USER, &entry)?;
            transcript.push((USER, entry));
        }
        let events = notes.iter().map(|note| Event::SteeringDelivered { steering: note.clone() }).collect();
        self.checkpoint(Checkpoint { transcript, events, steering: notes, ..Checkpoint::default() }).await?;
        Ok(true)
    }
}
