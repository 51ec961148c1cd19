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
    nodes: AtomicUsize,
    subscribers: RwLock<HashMap<ChannelKey, Vec<Arc<Inlet>>>>,
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
        self.0.nodes.fetch_add(1, Ordering::Relaxed);
        (MemoryBus { exchange: Arc::clone(&self.0), inlet: Arc::new(inlet) }, inbox)
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
        let subscribers = self.exchange.read();
        let Some(inlets) = subscribers.get(channel) else { return };
        for inlet in inlets.iter().filter(|inlet| !Arc::ptr_eq(inlet, &self.inlet)) {
            inlet.message(channel.clone(), message.clone());
        }
    }

    async fn subscribe(&self, channel: &ChannelKey) -> Result<(), BusError> {
        let mut subscribers = self.exchange.write();
        let inlets = subscribers.entry(channel.clone()).or_default();
        if !inlets.iter().any(|inlet| Arc::ptr_eq(inlet, &self.inlet)) {
            inlets.push(Arc::clone(&self.inlet));
        }
        Ok(())
    }

    async fn unsubscribe(&self, channel: &ChannelKey) -> Result<(), BusError> {
        let mut subscribers = self.exchange.write();
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

impl Drop for MemoryBus {
    fn drop(&mut self) {
        self.exchange.nodes.fetch_sub(1, Ordering::Relaxed);
        self.exchange.write().retain(|_, inlets| {
            inlets.retain(|inlet| !Arc::ptr_eq(inlet, &self.inlet));
            !inlets.is_empty()
        });
    }
}

impl Switchboard {
    fn read(&self) -> RwLockReadGuard<'_, HashMap<ChannelKey, Vec<Arc<Inlet>>>> {
        self.subscribers.read().expect("nothing panics while it holds this lock")
    }

    fn write(&self) -> RwLockWriteGuard<'_, HashMap<ChannelKey, Vec<Arc<Inlet>>>> {
        self.subscribers.write().expect("nothing panics while it holds this lock")
    }
}
