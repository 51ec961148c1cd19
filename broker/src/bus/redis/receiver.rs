//! Takes what Redis pushes: finds the channel, drops this node's own messages, hands the rest to the sender.
//!
//! It runs inside the connection's own task, so it must not wait. It holds the subscriptions that are wanted, which
//! outlive any one connection; it does not bring them to Redis.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use parking_lot::Mutex;
use redis::{PushInfo, PushKind, Value};

use super::super::inbox::InboxSender;
use crate::model::ChannelKey;

/// Stands before each message and says which node sent it.
type NodeId = [u8; 16];

/// The Redis channel on which nodes say that the catalogue of plugins was changed. Every connection is subscribed to it.
pub(super) const CATALOGUE: &str = "switchboard:catalogue";

/// What the Redis channel of a channel is called.
pub(super) fn redis_channel(channel: &ChannelKey) -> String {
    format!("switchboard:ch:{channel}")
}

/// The incoming side of the bus.
pub(super) struct Receiver {
    node: NodeId,
    sender: InboxSender,
    subscriptions: Mutex<Subscriptions>,
}

#[derive(Default)]
struct Subscriptions {
    wanted: HashMap<String, ChannelKey>,
    /// What was asked for, or given up, and is not yet on its way to Redis.
    changed: HashSet<String>,
}

impl Receiver {
    /// Starts with no subscription.
    pub(super) fn new(node: NodeId, sender: InboxSender) -> Self {
        Self { node, sender, subscriptions: Mutex::default() }
    }

    /// Puts the sender's mark on a message.
    pub(super) fn mark(&self, message: &[u8]) -> Vec<u8> {
        [&self.node, message].concat()
    }

    /// Notes what is wanted from now on.
    pub(super) fn want(&self, channel: &ChannelKey, wanted: bool) {
        let name = redis_channel(channel);
        let mut subscriptions = self.subscriptions.lock();
        if wanted {
            subscriptions.wanted.insert(name.clone(), channel.clone());
        } else {
            subscriptions.wanted.remove(&name);
        }
        subscriptions.changed.insert(name);
    }

    /// Whether a Redis channel is wanted.
    pub(super) fn wants(&self, name: &str) -> bool {
        self.subscriptions.lock().wanted.contains_key(name)
    }

    /// The Redis channels of which something else is wanted since the last call.
    pub(super) fn take_changed(&self) -> HashSet<String> {
        std::mem::take(&mut self.subscriptions.lock().changed)
    }

    /// All Redis channels that are wanted, which makes up for all changes.
    pub(super) fn all_wanted(&self) -> Vec<String> {
        let mut subscriptions = self.subscriptions.lock();
        subscriptions.changed.clear();
        subscriptions.wanted.keys().cloned().collect()
    }

    /// Something may have been missed.
    pub(super) fn missed(&self) {
        self.sender.missed();
    }

    /// Takes one push. What is no message, is this node's own, or is not wanted any more goes nowhere.
    pub(super) fn take(&self, push: PushInfo) {
        if push.kind != PushKind::Message {
            return;
        }
        let Ok([Value::BulkString(name), Value::BulkString(message)]) = <[Value; 2]>::try_from(push.data) else {
            return;
        };
        let Some((sender, _)) = message.split_first_chunk() else { return };
        if *sender == self.node {
            return;
        }
        let Ok(name) = str::from_utf8(&name) else { return };
        if name == CATALOGUE {
            return self.sender.announced();
        }
        let Some(channel) = self.subscriptions.lock().wanted.get(name).cloned() else { return };
        self.sender.message(channel, Bytes::from(message).slice(size_of::<NodeId>()..));
    }
}
