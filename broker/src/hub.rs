//! The hub: fan-out of frames to the sessions of a channel on this node.
//!
//! A frame is encoded before it gets here, and every recipient is sent the same bytes. The hub keeps a channel's
//! durable frames in the order of their `seq` and reports when one is missing. Its only I/O is the direct write to a
//! socket that is ready. It never waits, and knows neither the store nor the bus.
//!
//! Invariant: a channel has a feed in the table exactly while it has sessions here, or until the feed is ended. A
//! session added before the store is read misses nothing that is committed later.
//!
//! Channels are sharded by hash; a shard's lock covers only the table. Where both are taken, the shard's lock comes
//! before a feed's.
//!
//! Start with [`Hub::join`], then `feed.rs` for the order of frames and `outbox.rs` for the way to the socket.

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

/// A frame for the sessions of a channel.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// The place of a durable frame in the channel; `None` for a frame without one.
    pub seq: Option<u64>,
    pub class: Class,
    pub audience: Audience,
    /// The bytes for every recipient.
    pub frame: WireFrame,
    /// Different bytes for the socket that caused the frame.
    pub echo: Option<(SessionId, WireFrame)>,
}

/// Runs once frames have been handed out. Must not block.
pub type Then = Box<dyn FnOnce() + Send>;

/// The channels that have sessions on this node.
#[derive(Debug, Default)]
pub struct Hub {
    shards: [Mutex<HashMap<ChannelKey, Arc<Feed>>>; SHARDS],
}

impl Hub {
    /// Adds a session to a channel. It misses nothing from here on: its frames are held until [`Subscriber::go_live`].
    /// Returns the channel's feed, and whether the feed is new.
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

    /// Removes a session from a channel. Returns whether it was the last one, so that the feed is gone.
    pub fn leave(&self, channel: &ChannelKey, session: SessionId) -> bool {
        let mut shard = self.shard(channel);
        match shard.get(channel) {
            // Both under the shard's lock, so no session can join the feed in between.
            Some(feed) if feed.remove(session) => shard.remove(channel).is_some(),
            _ => false,
        }
    }

    pub fn feed(&self, channel: &ChannelKey) -> Option<Arc<Feed>> {
        self.shard(channel).get(channel).cloned()
    }

    /// Cuts a member's sessions off from a channel at once. Each session is notified and cleans up after itself.
    pub fn revoke(&self, channel: &ChannelKey, user: &UserId) {
        if let Some(feed) = self.feed(channel) {
            feed.revoke(user);
        }
    }

    /// Ends a feed that cannot continue. It leaves the table, so that the next session starts a new one, and the
    /// sockets of its sessions close with `position lost`. Returns their number; `None` if the feed had been replaced
    /// already.
    pub fn end(&self, channel: &ChannelKey, feed: &Arc<Feed>) -> Option<usize> {
        let mut shard = self.shard(channel);
        if !shard.get(channel).is_some_and(|present| Arc::ptr_eq(present, feed)) {
            return None;
        }
        shard.remove(channel);
        drop(shard);
        Some(feed.close())
    }

    /// Whether this is still the channel's feed.
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

#[cfg(test)]
mod tests;
