//! Fan-out within this node: from one frame to the sessions of a channel.
//!
//! A frame was encoded before it comes here; every recipient gets the same bytes. The hub keeps a channel's durable
//! frames in the order of their `seq` and says when one is missing. It does no I/O but the direct write to a socket that
//! is ready for it, never waits, and knows neither the store nor the bus.

mod feed;
mod outbox;
mod subscriber;

use std::collections::HashMap;
use std::collections::hash_map::{DefaultHasher, Entry};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

pub use feed::{Feed, Gap, RepairClaim};
pub use outbox::{Class, Outbox};
pub use subscriber::Subscriber;

use crate::model::{Audience, ChannelId, ChannelKey, SessionId, TenantSlug, UserId};
use crate::protocol::WireFrame;
use parking_lot::{Mutex, MutexGuard};

const SHARDS: usize = 16;

/// A frame on its way to the sessions of a channel.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// A durable frame's place in the channel; none for a frame that keeps no place.
    pub seq: Option<u64>,
    /// What may happen to it at a slow client.
    pub class: Class,
    /// Who gets it.
    pub audience: Audience,
    /// The bytes for everyone.
    pub frame: WireFrame,
    /// The bytes for the socket that caused it, when they differ.
    pub echo: Option<(SessionId, WireFrame)>,
}

/// What follows when frames have been handed out. It must not wait.
pub type Then = Box<dyn FnOnce() + Send>;

/// This node's table of channels with live sessions.
#[derive(Debug, Default)]
pub struct Hub {
    shards: [Mutex<HashMap<ChannelKey, Arc<Feed>>>; SHARDS],
}

impl Hub {
    /// Adds a session to a channel. From now on it misses nothing: until [`Subscriber::go_live`] its frames wait. Returns
    /// the channel's feed, and whether this is the first session of it here.
    pub fn join(&self, channel: &ChannelKey, subscriber: Arc<Subscriber>) -> (Arc<Feed>, bool) {
        let mut shard = self.shard(channel);
        match shard.entry(channel.clone()) {
            Entry::Occupied(entry) => {
                entry.get().add(subscriber);
                (Arc::clone(entry.get()), false)
            }
            Entry::Vacant(entry) => {
                let feed = Arc::new(Feed::default());
                feed.add(subscriber);
                entry.insert(Arc::clone(&feed));
                (feed, true)
            }
        }
    }

    /// Takes a session out of a channel. `true`: it was the last one here, and the channel's feed is gone.
    pub fn leave(&self, channel: &ChannelKey, session: SessionId) -> bool {
        let mut shard = self.shard(channel);
        match shard.get(channel) {
            Some(feed) if feed.remove(session) => shard.remove(channel).is_some(),
            _ => false,
        }
    }

    /// The feed of a channel that has sessions here.
    pub fn feed(&self, channel: &ChannelKey) -> Option<Arc<Feed>> {
        self.shard(channel).get(channel).cloned()
    }

    /// Cuts a member's sessions off from a channel at once; each session is told and cleans up after itself.
    pub fn revoke(&self, channel: &ChannelKey, user: &UserId) {
        if let Some(feed) = self.feed(channel) {
            feed.revoke(user);
        }
    }

    /// Ends a feed that cannot be carried on: it leaves the table, so that who comes next begins anew, and the sockets
    /// of its sessions close with `position lost`. Returns how many; `None` when it is not the channel's feed any more.
    pub fn end(&self, channel: &ChannelKey, feed: &Arc<Feed>) -> Option<usize> {
        let mut shard = self.shard(channel);
        if !shard.get(channel).is_some_and(|present| Arc::ptr_eq(present, feed)) {
            return None;
        }
        shard.remove(channel);
        drop(shard);
        Some(feed.close())
    }

    /// Whether a feed is still the channel's.
    pub fn has(&self, channel: &ChannelKey, feed: &Arc<Feed>) -> bool {
        self.shard(channel).get(channel).is_some_and(|present| Arc::ptr_eq(present, feed))
    }

    /// The channels with sessions here, by tenant.
    pub fn channels(&self) -> HashMap<TenantSlug, Vec<(ChannelId, Arc<Feed>)>> {
        let mut tenants: HashMap<_, Vec<_>> = HashMap::new();
        for shard in &self.shards {
            for (key, feed) in shard.lock().iter() {
                match tenants.get_mut(&key.tenant) {
                    Some(channels) => channels.push((key.channel, Arc::clone(feed))),
                    None => drop(tenants.insert(key.tenant.clone(), vec![(key.channel, Arc::clone(feed))])),
                }
            }
        }
        tenants
    }

    fn shard(&self, channel: &ChannelKey) -> MutexGuard<'_, HashMap<ChannelKey, Arc<Feed>>> {
        let mut hasher = DefaultHasher::new();
        channel.hash(&mut hasher);
        let index = usize::try_from(hasher.finish() % SHARDS as u64).expect("less than the number of shards");
        self.shards[index].lock()
    }
}

/// Locks, also after a panic elsewhere: every critical section here leaves its data whole at each step.
#[cfg(test)]
mod tests;
