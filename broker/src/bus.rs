//! The bus: carries what was committed on this node to the other nodes.
//!
//! The bus is a hint. What it loses costs latency, never a durable frame: each has a `seq`, and a node that
//! notices a gap reads the store. Publishing therefore never waits and never fails. The bus does not interpret
//! messages, and never returns a message to the node that published it.

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::mpsc;

use crate::model::ChannelKey;

mod inbox;
pub mod memory;
pub mod redis;

/// Messages that may wait on their way in, and as many on their way out. More are dropped and counted.
pub const QUEUE: usize = 8_192;

#[derive(Debug, thiserror::Error)]
pub enum BusError {
    /// The address is malformed.
    #[error("failed to read the bus address: {0}")]
    Address(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Nothing answers there, or the connection broke.
    #[error("failed to reach the bus at {address}: {source}")]
    Unreachable {
        /// Host and port, without credentials.
        address: String,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

#[derive(Debug, Clone)]
pub enum Incoming {
    /// A message of a channel that this node is subscribed to.
    Message(ChannelKey, Bytes),
    /// Another node has changed the plugin catalogue.
    Announced,
    /// Messages may have been lost, and announcements with them: the bus was away and is back, or the inbox was full.
    Reconnected,
}

/// The receiving end of a bus, one for each node.
pub type Inbox = mpsc::Receiver<Incoming>;

#[async_trait]
pub trait Bus: Send + Sync + 'static {
    /// Queues a message for the other nodes subscribed to the channel. Never waits. If the queue is full or the
    /// connection is broken, the message is dropped and counted in `switchboard_bus_dropped_total`.
    fn publish(&self, channel: &ChannelKey, message: Bytes);

    /// Tells all other nodes, whatever they are subscribed to, that the plugin catalogue has changed. Never waits.
    /// Several announcements may arrive as one. While the connection is broken, they wait for the next one.
    fn announce(&self);

    /// On return, messages of the channel arrive. Idempotent. Cancel-safe: the subscription takes effect even if the
    /// caller goes away or this fails, which happens after about a second without an answer. While the connection is
    /// broken this returns at once, and the subscription takes effect with the next connection.
    async fn subscribe(&self, channel: &ChannelKey) -> Result<(), BusError>;

    /// Ends a subscription, with the same guarantees.
    async fn unsubscribe(&self, channel: &ChannelKey) -> Result<(), BusError>;

    /// Whether there can be no other node, so that messages need not be encoded at all.
    fn is_alone(&self) -> bool;

    /// Whether the other nodes can be reached right now.
    fn is_connected(&self) -> bool;
}
