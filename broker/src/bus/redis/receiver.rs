//! Handles what Redis pushes: finds the channel, drops this node's own messages, passes the rest to the inbox.
//!
//! This runs inside the connection's own task, so it must not block. The wanted subscriptions live here because they
//! outlive any connection; the link passes them to Redis.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use parking_lot::Mutex;
use redis::{PushInfo, PushKind, Value};

use super::super::inbox::InboxSender;
use crate::model::ChannelKey;

/// Precedes each message and identifies the node that sent it.
type NodeId = [u8; 16];

/// The Redis channel for announcements of a changed plugin catalogue. Every connection subscribes to it.
pub(super) const CATALOGUE: &str = "switchboard:catalogue";

pub(super) fn redis_channel(channel: &ChannelKey) -> String {
    format!("switchboard:ch:{channel}")
}

pub(super) struct Receiver {
    node: NodeId,
    sender: InboxSender,
    subscriptions: Mutex<Subscriptions>,
}

#[derive(Default)]
struct Subscriptions {
    wanted: HashMap<String, ChannelKey>,
    /// Names whose wanted state has changed and has not been passed to Redis yet.
    changed: HashSet<String>,
}

impl Receiver {
    pub(super) fn new(node: NodeId, sender: InboxSender) -> Self {
        Self { node, sender, subscriptions: Mutex::default() }
    }

    /// Prefixes a message with this node's id.
    pub(super) fn mark(&self, message: &[u8]) -> Vec<u8> {
        [&self.node, message].concat()
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
            return self.sender.announced();
        }
        let Some(channel) = self.subscriptions.lock().wanted.get(name).cloned() else { return };
        self.sender.message(channel, Bytes::from(message).slice(size_of::<NodeId>()..));
    }
}
