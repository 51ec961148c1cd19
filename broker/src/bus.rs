//! Carries what was committed on this node to the other nodes.
//!
//! The bus is a hint: what it loses costs latency, never a message, because every durable frame has a `seq` and a node
//! that sees a hole reads the store. So publishing never waits and never fails the sender. The bus knows no frame's
//! meaning, and a message that this node published never comes back to it.

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::mpsc;

use crate::model::ChannelKey;

mod inbox;
pub mod memory;
pub mod redis;

/// How many messages may wait on their way in, and as many on their way out; beyond that they are dropped and counted.
pub const QUEUE: usize = 8_192;

/// Why a node cannot use its bus.
#[derive(Debug, thiserror::Error)]
pub enum BusError {
    /// The address does not read as one.
    #[error("failed to read the bus address: {0}")]
    Address(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Nothing answers there, or the connection broke.
    #[error("failed to reach the bus at {address}: {source}")]
    Unreachable {
        /// Host and port, without credentials.
        address: String,
        /// What the connection said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// What comes from other nodes.
#[derive(Debug, Clone)]
pub enum Incoming {
    /// A message of a channel that this node is subscribed to.
    Message(ChannelKey, Bytes),
    /// Another node has changed the catalogue of plugins.
    Announced,
    /// The bus was away and is back: anything may have been missed, also an announcement.
    Reconnected,
}

/// The receiving end of a bus. There is one a node.
pub type Inbox = mpsc::Receiver<Incoming>;

/// Messages between nodes.
#[async_trait]
pub trait Bus: Send + Sync + 'static {
    /// Queues a message for the other nodes that are subscribed to the channel. Never waits; a full queue or a broken
    /// connection drops it and counts it in `switchboard_bus_dropped_total`.
    fn publish(&self, channel: &ChannelKey, message: Bytes);

    /// Tells all other nodes, whatever they are subscribed to, that the catalogue of plugins was changed. Never waits. Several
    /// announcements may arrive as one; while the connection is broken, they go out when it is back.
    fn announce(&self);

    /// From the return on, messages of the channel come in. Subscribing twice is once. While the connection is
    /// broken this returns at once, and the subscription takes effect when the connection is back. So it does when this
    /// fails, which it does after about a second without an answer, and when the caller goes away.
    async fn subscribe(&self, channel: &ChannelKey) -> Result<(), BusError>;

    /// Ends a subscription, in the same way.
    async fn unsubscribe(&self, channel: &ChannelKey) -> Result<(), BusError>;

    /// Whether there can be no other node, so that there is nothing to prepare a message for.
    fn is_alone(&self) -> bool;

    /// Whether the other nodes can be reached right now.
    fn is_connected(&self) -> bool;
}
