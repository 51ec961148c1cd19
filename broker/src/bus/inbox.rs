//! The sending end of an [`Inbox`]: what both adapters put in what came from other nodes through.
//!
//! It never waits. What a full inbox cannot take is dropped and counted, and made up for by a notice once there is
//! room. It does not know where messages come from.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt;
use metrics::counter;
use tokio::sync::{Notify, mpsc};
use tokio::task::AbortHandle;

use super::{Inbox, Incoming, QUEUE};
use crate::model::ChannelKey;

/// Feeds one node's inbox. When it is dropped, the inbox ends.
pub(super) struct InboxSender {
    inbox: mpsc::Sender<Incoming>,
    missed: Arc<Notify>,
    notices: AbortHandle,
}

impl InboxSender {
    /// Makes an inbox of [`QUEUE`] messages and what feeds it. Needs a running Tokio runtime.
    pub(super) fn new() -> (Self, Inbox) {
        let (inbox, outlet) = mpsc::channel(QUEUE);
        let missed = Arc::new(Notify::new());
        let notices = tokio::spawn(give_notice(inbox.clone(), Arc::clone(&missed))).abort_handle();
        (Self { inbox, missed, notices }, outlet)
    }

    /// Hands a message in, or drops and counts it when the inbox is full.
    pub(super) fn message(&self, channel: ChannelKey, message: Bytes) {
        // A closed inbox is a node that reads no more; nobody misses what it does not get.
        if let Err(mpsc::error::TrySendError::Full(_)) = self.inbox.try_send(Incoming::Message(channel, message)) {
            dropped("inbox_full", 1);
            self.missed();
        }
    }

    /// Says that the catalogue of plugins was changed; a full inbox gets [`Incoming::Reconnected`] instead, later.
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
    counter!("switchboard_bus_dropped_total", "reason" => reason).increment(messages as u64);
}

/// However much was missed before there was room, one notice says it. What is missed after that gets its own.
async fn give_notice(inbox: mpsc::Sender<Incoming>, missed: Arc<Notify>) {
    loop {
        missed.notified().await;
        let Ok(room) = inbox.reserve().await else { return };
        // What was missed during the wait for room has left a permit that would say the same again.
        let _ = missed.notified().now_or_never();
        room.send(Incoming::Reconnected);
    }
}
