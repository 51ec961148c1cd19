//! Handles what Redis pushes: finds the channel, drops this node's own messages, passes the rest to the inbox.
//!
//! This runs inside the connection's own task, so it must not block. The wanted subscriptions live here because they
//! outlive any connection; the link passes them to Redis.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use parking_lot::Mutex;
use redis::{PushInfo, PushKind, Value};

use super::super::inbox::{InboxSender, dropped};
use super::seal::{BusKeys, NodeId, Unopened};
use crate::model::{ChannelKey, Clock};
use crate::telemetry::Throttle;

/// The Redis channel for announcements of a changed plugin catalogue. Every connection subscribes to it.
pub(super) const CATALOGUE: &str = "switchboard:catalogue";

pub(super) fn redis_channel(channel: &ChannelKey) -> String {
    format!("switchboard:ch:{channel}")
}

pub(super) struct Receiver {
    node: NodeId,
    keys: BusKeys,
    clock: Clock,
    sender: InboxSender,
    throttle: Throttle,
    subscriptions: Mutex<Subscriptions>,
}

#[derive(Default)]
struct Subscriptions {
    wanted: HashMap<String, ChannelKey>,
    /// Names whose wanted state has changed and has not been passed to Redis yet.
    changed: HashSet<String>,
}

impl Receiver {
    pub(super) fn new(keys: BusKeys, clock: Clock, sender: InboxSender) -> Self {
        let (node, throttle) = (clock.random(), Throttle::default());
        Self { node, keys, clock, sender, throttle, subscriptions: Mutex::default() }
    }

    /// A message of this node for a Redis channel.
    pub(super) fn seal(&self, channel: &str, message: &[u8]) -> Vec<u8> {
        self.keys.seal(&self.node, channel, self.clock.now(), message)
    }

    /// Records whether a channel is wanted from now on.
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

    pub(super) fn wants(&self, name: &str) -> bool {
        self.subscriptions.lock().wanted.contains_key(name)
    }

    /// Takes the Redis channels whose wanted state has changed since the last call.
    pub(super) fn take_changed(&self) -> HashSet<String> {
        std::mem::take(&mut self.subscriptions.lock().changed)
    }

    /// All wanted Redis channels. Clears the recorded changes, which these include.
    pub(super) fn all_wanted(&self) -> Vec<String> {
        let mut subscriptions = self.subscriptions.lock();
        subscriptions.changed.clear();
        subscriptions.wanted.keys().cloned().collect()
    }

    /// Something may have been missed.
    pub(super) fn missed(&self) {
        self.sender.missed();
    }

    /// Handles one push. Ignores whatever is not a message, was sent by this node, or is not wanted any more.
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
            if self.opened(name, &message).is_some() {
                self.sender.announced();
            }
            return;
        }
        let Some(channel) = self.subscriptions.lock().wanted.get(name).cloned() else { return };
        if let Some(content) = self.opened(name, &message) {
            self.sender.message(channel, Bytes::from(message).slice(content..));
        }
    }

    /// Where the content of a message begins. A message that no node of this cluster sent is counted and dropped.
    fn opened(&self, name: &str, message: &[u8]) -> Option<usize> {
        let opened = self.keys.open(name, self.clock.now(), message);
        let reason = match opened {
            Ok(content) => return Some(content),
            Err(Unopened::Forged) => "forged",
            Err(Unopened::Stale) => "stale",
        };
        dropped(reason, 1);
        if let Some(others) = self.throttle.may_log() {
            tracing::warn!(
                channel = name,
                reason,
                others,
                "dropped a message on the bus that cannot be from a node with this broker's secret and time"
            );
        }
        None
    }
}
