//! What a batch is made of, and what is published of it.

use tokio::time::Instant;

use super::pending::Promise;
use crate::model::{ChannelId, ChannelKey, PluginName};
use crate::protocol::Refusal;
use crate::store::{Commit, Committed};

/// Who tells of what was stored.
pub trait Publish<T>: Send + Sync + 'static {
    /// Tells of what one batch did in a channel, in this order, and calls `then` when that is out. It must not wait.
    fn publish(&self, channel: &ChannelKey, published: Vec<Published<T>>, then: Then);
}

/// What is to be published.
#[derive(Debug)]
pub struct Published<T> {
    /// What the caller gave for this.
    pub what: T,
    /// What was stored; none for what was only to keep its place behind what was.
    pub committed: Option<Committed>,
}

/// What follows when everything is published.
pub type Then = Box<dyn FnOnce() + Send>;

/// Publishes nothing.
impl<T> Publish<T> for () {
    fn publish(&self, _: &ChannelKey, _: Vec<Published<T>>, then: Then) {
        then();
    }
}

/// What a commit holds as long as its batch is under way.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Held {
    /// The numbers of a channel, and its messages.
    Channel(ChannelId),
    /// The keys of a plugin.
    Plugin(PluginName),
}

pub(super) struct Waiting<T> {
    pub(super) channel: ChannelId,
    /// None: there is nothing to store, and it only keeps its place behind what is stored before it.
    pub(super) commit: Option<Commit>,
    pub(super) what: T,
    /// Whoever waits for the outcome, if anybody does.
    pub(super) answer: Option<Promise>,
    pub(super) by: Instant,
}

impl<T> Waiting<T> {
    pub(super) fn needs(&self) -> impl Iterator<Item = Held> {
        let plugin = self.commit.as_ref().and_then(|commit| commit.kv.as_ref());
        std::iter::once(Held::Channel(self.channel)).chain(plugin.map(|(plugin, _)| Held::Plugin(plugin.clone())))
    }

    /// It has waited for so long that its caller was told to try again, and has counted it.
    pub(super) fn give_up(self) {
        if let Some(gathered) = self.answer.and_then(|promise| promise.give(Err(Refusal::unavailable()))) {
            gathered.flush();
        }
    }
}
