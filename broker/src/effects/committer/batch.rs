//! The items of a batch, and what is published of them.

use tokio::time::Instant;

use super::pending::Promise;
use crate::model::{ChannelId, ChannelKey, PluginName};
use crate::protocol::Refusal;
use crate::store::{Commit, Committed};

pub trait Publish<T>: Send + Sync + 'static {
    /// Publishes what one batch did in a channel, in this order, and calls `then` once that is out. Must not block.
    fn publish(&self, channel: &ChannelKey, published: Vec<Published<T>>, then: Then);
}

#[derive(Debug)]
pub struct Published<T> {
    pub what: T,
    /// `None` for an item that stored nothing and only kept its place in the order.
    pub committed: Option<Committed>,
}

/// Runs once everything is published.
pub type Then = Box<dyn FnOnce() + Send>;

/// Publishes nothing, for committers that only store.
impl<T> Publish<T> for () {
    fn publish(&self, _: &ChannelKey, _: Vec<Published<T>>, then: Then) {
        then();
    }
}

/// What a commit holds while its batch is under way.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Held {
    /// A channel: its numbering and its messages.
    Channel(ChannelId),
    /// A plugin's keys.
    Plugin(PluginName),
}

pub(super) struct Waiting<T> {
    pub(super) channel: ChannelId,
    /// `None`: nothing to store; it only keeps its place behind earlier commits.
    pub(super) commit: Option<Commit>,
    pub(super) what: T,
    /// `None` if nobody waits for an outcome.
    pub(super) answer: Option<Promise>,
    pub(super) by: Instant,
}

impl<T> Waiting<T> {
    pub(super) fn needs(&self) -> impl Iterator<Item = Held> {
        let plugin = self.commit.as_ref().and_then(|commit| commit.kv.as_ref());
        std::iter::once(Held::Channel(self.channel)).chain(plugin.map(|(plugin, _)| Held::Plugin(plugin.clone())))
    }

    /// Drops an item that waited too long. Its caller was told to try again, and counted it.
    pub(super) fn give_up(self) {
        if let Some(gathered) = self.answer.and_then(|promise| promise.give(Err(Refusal::unavailable()))) {
            gathered.flush();
        }
    }
}
