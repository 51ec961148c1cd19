//! The sending end of an [`Inbox`], used by both bus adapters.
//!
//! It never waits. Messages that do not fit are dropped and counted, and a notice follows once there is room.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt;
use tokio::sync::{Notify, mpsc};
use tokio::task::AbortHandle;

use super::{Inbox, Incoming, QUEUE};
use crate::model::ChannelKey;

/// Feeds one node's inbox. Dropping it ends the inbox.
pub(super) struct InboxSender {
    inbox: mpsc::Sender<Incoming>,
    missed: Arc<Notify>,
    notices: AbortHandle,
}

impl InboxSender {
    /// Creates an inbox of [`QUEUE`] messages and its sender. Needs a running Tokio runtime.
    pub(super) fn new() -> (Self, Inbox) {
        let (inbox, outlet) = mpsc::channel(QUEUE);
        let missed = Arc::new(Notify::new());
        let notices = tokio::spawn(give_notice(inbox.clone(), Arc::clone(&missed))).abort_handle();
        (Self { inbox, missed, notices }, outlet)
    }

    /// Passes a message on, or drops and counts it if the inbox is full.
    pub(super) fn message(&self, channel: ChannelKey, message: Bytes) {
        // If the inbox is closed, the node has stopped reading and misses nothing.
        if let Err(mpsc::error::TrySendError::Full(_)) = self.inbox.try_send(Incoming::Message(channel, message)) {
            dropped("inbox_full", 1);
            self.missed();
        }
    }

    /// Passes on that the plugin catalogue has changed. If the inbox is full, [`Incoming::Reconnected`] follows later
    /// instead.
    pub(super) fn announced(&self) {
        if let Err(mpsc::error::TrySendError::Full(_)) = self.inbox.try_send(Incoming::Announced) {
            self.missed();
        }
    }

    /// Something was missed: the inbox gets [`Incoming::Reconnected`] as soon as it has room.
    pub(super) fn missed(&self) {
        self.missed.notify_one();
    }
}

impl Drop for InboxSender {
    fn drop(&mut self) {
        self.notices.abort();
    }
}

/// Counts messages that will not arrive.
pub(super) fn dropped(reason: &'static str, messages: usize) {
    crate::metrics::BUS_DROPPED.add([reason], messages as u64);
}

/// Sends one notice for everything missed before there was room. What is missed later gets its own.
async fn give_notice(inbox: mpsc::Sender<Incoming>, missed: Arc<Notify>) {
    loop {
        missed.notified().await;
        let Ok(room) = inbox.reserve().await else { return };
        // Whatever was missed while waiting for room left a permit; this notice covers it.
        let _ = missed.notified().now_or_never();
        room.send(Incoming::Reconnected);
    }
}
