//! The bus between nodes of one process: what an embedded broker runs on, and what tests join nodes with.
//!
//! Nothing leaves the process, so it is always connected. It keeps no message: who is not subscribed gets none.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard};

use async_trait::async_trait;
use bytes::Bytes;

use super::inlet::Inlet;
use super::{Bus, BusError, Inbox};
use crate::model::ChannelKey;

/// Where the nodes of a process meet. Clones are the same exchange.
#[derive(Clone, Default)]
pub struct Exchange(Arc<Switchboard>);

#[derive(Default)]
struct Switchboard {
    /// As many as there are inlets, to be asked without the lock.
    nodes: AtomicUsize,
    inlets: RwLock<Inlets>,
}

#[derive(Default)]
struct Inlets {
    all: Vec<Arc<Inlet>>,
    subscribers: HashMap<ChannelKey, Vec<Arc<Inlet>>>,
}

impl Exchange {
    /// An exchange that nobody has joined.
    pub fn new() -> Self {
        Self::default()
    }

    /// Joins as one more node, until the bus is dropped.
    ///
    /// # Panics
    ///
    /// Outside of a Tokio runtime.
    pub fn join(&self) -> (MemoryBus, Inbox) {
        let (inlet, inbox) = Inlet::new();
        let inlet = Arc::new(inlet);
        self.0.nodes.fetch_add(1, Ordering::Relaxed);
        self.0.write().all.push(Arc::clone(&inlet));
        (MemoryBus { exchange: Arc::clone(&self.0), inlet }, inbox)
    }
}

/// One node's place in an [`Exchange`].
pub struct MemoryBus {
    exchange: Arc<Switchboard>,
    inlet: Arc<Inlet>,
}

#[async_trait]
impl Bus for MemoryBus {
    fn publish(&self, channel: &ChannelKey, message: Bytes) {
        if self.is_alone() {
            return;
        }
        let inlets = self.exchange.read();
        for inlet in self.others(inlets.subscribers.get(channel).into_iter().flatten()) {
            inlet.message(channel.clone(), message.clone());
        }
    }

    fn announce(&self) {
        self.others(&self.exchange.read().all).for_each(|inlet| inlet.announced());
    }

    async fn subscribe(&self, channel: &ChannelKey) -> Result<(), BusError> {
        let mut inlets = self.exchange.write();
        let inlets = inlets.subscribers.entry(channel.clone()).or_default();
        if !inlets.iter().any(|inlet| Arc::ptr_eq(inlet, &self.inlet)) {
            inlets.push(Arc::clone(&self.inlet));
        }
        Ok(())
    }

    async fn unsubscribe(&self, channel: &ChannelKey) -> Result<(), BusError> {
        let subscribers = &mut self.exchange.write().subscribers;
        if let Some(inlets) = subscribers.get_mut(channel) {
            inlets.retain(|inlet| !Arc::ptr_eq(inlet, &self.inlet));
            if inlets.is_empty() {
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
    fn others<'i>(&self, inlets: impl IntoIterator<Item = &'i Arc<Inlet>>) -> impl Iterator<Item = &'i Arc<Inlet>> {
        inlets.into_iter().filter(|inlet| !Arc::ptr_eq(inlet, &self.inlet))
    }
}

impl Drop for MemoryBus {
    fn drop(&mut self) {
        self.exchange.nodes.fetch_sub(1, Ordering::Relaxed);
        let mut inlets = self.exchange.write();
        inlets.all.retain(|inlet| !Arc::ptr_eq(inlet, &self.inlet));
        inlets.subscribers.retain(|_, inlets| {
            inlets.retain(|inlet| !Arc::ptr_eq(inlet, &self.inlet));
            !inlets.is_empty()
        });
    }
}

impl Switchboard {
    fn read(&self) -> RwLockReadGuard<'_, Inlets> {
        self.inlets.read().expect("nothing panics while it holds this lock")
    }

    fn write(&self) -> RwLockWriteGuard<'_, Inlets> {
        self.inlets.write().expect("nothing panics while it holds this lock")
    }
}
