//! What a server may ask of us and tell us: next to nothing.
//!
//! It may not have the model think for it, nor ask people questions: nobody is there to see them. It may say that its
//! tools have changed and that it is still at work.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use rmcp::{
    ClientHandler, RoleClient,
    model::{ClientCapabilities, ClientConfig, Implementation, ProgressNotificationParam, ProtocolVersion},
    service::NotificationContext,
};
use tokio::{sync::watch, time::Instant};

/// What a server has told us since it was asked last.
#[derive(Debug, Clone)]
pub(crate) struct Handler {
    has_changed: Arc<AtomicBool>,
    heard_at: Arc<watch::Sender<Instant>>,
}

impl Handler {
    pub(crate) fn new() -> Self {
        Self { has_changed: Arc::default(), heard_at: Arc::new(watch::Sender::new(Instant::now())) }
    }

    /// Takes note that the server's tools have changed.
    pub(crate) fn note_change(&self) {
        self.has_changed.store(true, Ordering::Relaxed);
    }

    /// Tells whether they have, once.
    pub(crate) fn take_change(&self) -> bool {
        self.has_changed.swap(false, Ordering::Relaxed)
    }

    /// Gives when the server said last that it is at work.
    pub(crate) fn heard_at(&self) -> Instant {
        *self.heard_at.borrow()
    }
}

impl ClientHandler for Handler {
    fn get_info(&self) -> ClientConfig {
        let us = Implementation::new("atelier", env!("CARGO_PKG_VERSION"));
        let mut config = ClientConfig::new(ClientCapabilities::default(), us);
        // For servers that are greeted in the older way; the newer one says it itself.
        config.protocol_version = ProtocolVersion::LATEST_WITH_INITIALIZE;
        config
    }

    async fn on_progress(&self, _: ProgressNotificationParam, _: NotificationContext<RoleClient>) {
        self.heard_at.send_replace(Instant::now());
    }

    async fn on_tool_list_changed(&self, _: NotificationContext<RoleClient>) {
        self.note_change();
    }

    async fn on_resource_list_changed(&self, _: NotificationContext<RoleClient>) {}

    async fn on_prompt_list_changed(&self, _: NotificationContext<RoleClient>) {}
}
