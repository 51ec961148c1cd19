//! The bus between nodes of one process, for an embedded broker and for tests.
//!
//! It is always connected and keeps no messages: a node that is not subscribed gets none.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::RwLock;

use super::inbox::InboxSender;
use super::{Bus, BusError, Inbox};
use crate::model::ChannelKey;

/// Connects the nodes of a process. Clones share one exchange.
#[derive(Clone, Default)]
pub struct Exchange(Arc<Switchboard>);

#[derive(Default)]
struct Switchboard {
    /// The number of senders, readable without the lock.
    nodes: AtomicUsize,
    senders: RwLock<Senders>,
}

#[derive(Default)]
struct Senders {
    all: Vec<Arc<InboxSender>>,
    subscribers: HashMap<ChannelKey, Vec<Arc<InboxSender>>>,
}

impl Exchange {
    pub fn new() -> Self {
        Self::default()
    }

    /// Joins as another node, until the bus is dropped.
    ///
    /// # Panics
    ///
    /// Outside of a Tokio runtime.
    pub fn join(&self) -> (MemoryBus, Inbox) {
        let (sender, inbox) = InboxSender::new();
        let sender = Arc::new(sender);
        self.0.nodes.fetch_add(1, Ordering::Relaxed);
        self.0.senders.write().all.push(Arc::clone(&sender));
        (MemoryBus { exchange: Arc::clone(&self.0), sender }, inbox)
    }
}

/// One node's end of an [`Exchange`].
pub struct MemoryBus {
    exchange: Arc<Switchboard>,
    sender: Arc<InboxSender>,
}

#[async_trait]
impl Bus for MemoryBus {
    fn publish(&self, channel: &ChannelKey, message: Bytes) {
        if self.is_alone() {
            return;
        }
        let senders = self.exchange.senders.read();
        for sender in self.others(senders.subscribers.get(channel).into_iter().flatten()) {
            sender.message(channel.clone(), message.clone());
        }
    }

    fn announce(&self) {
        self.others(&self.exchange.senders.read().all).for_each(|sender| sender.announced());
    }

    async fn subscribe(&self, channel: &ChannelKey) -> Result<(), BusError> {
        let mut senders = self.exchange.senders.write();
        let senders = senders.subscribers.entry(channel.clone()).or_default();
        if !senders.iter().any(|sender| Arc::ptr_eq(sender, &self.sender)) {
            senders.push(Arc::clone(&self.sender));
        }
        Ok(())
    }

    async fn unsubscribe(&self, channel: &ChannelKey) -> Result<(), BusError> {
        let subscribers = &mut self.exchange.senders.write().subscribers;
        if let Some(senders) = subscribers.get_mut(channel) {
            senders.retain(|sender| !Arc::ptr_eq(sender, &self.sender));
            if senders.is_empty() {
                subscribers.remove(channel);
            }
        }
        Ok(())
    }

    fn is_alone(&self) -> bool {
        self.exchange.nodes.load(Ordering::Relaxed) < 2
    }

    fn is_connected(&self) -> bool {
        true
    }
}

impl MemoryBus {
    fn others<'i>(
        &self,
        senders: impl IntoIterator<Item = &'i Arc<InboxSender>>,
    ) -> impl Iterator<Item = &'i Arc<InboxSender>> {
        senders.into_iter().filter(|sender| !Arc::ptr_eq(sender, &self.sender))
    }
}

impl Drop for MemoryBus {
    fn drop(&mut self) {
        self.exchange.nodes.fetch_sub(1, Ordering::Relaxed);
        let mut senders = self.exchange.senders.write();
        senders.all.retain(|sender| !Arc::ptr_eq(sender, &self.sender));
        senders.subscribers.retain(|_, senders| {
            senders.retain(|sender| !Arc::ptr_eq(sender, &self.sender));
            !senders.is_empty()
        });
    }
}
