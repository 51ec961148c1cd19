//! Delivers frames to the sessions here and to other nodes, and lets sessions join and leave channels.
//!
//! [`Relay::publish`] sends frames to the bus and to this node's feed, and never waits. [`Relay::join`] adds a session
//! to the hub before it subscribes to the bus and reads the store's position, so nothing committed later can pass it
//! by.
//!
//! The bus is only a hint. If it fails, the channel works on, and what other nodes publish comes from the store.
//!
//! Invariant: joining and leaving a channel are serialized by a keyed lock, so the node's bus subscription matches
//! whether the hub has the channel. Publishing takes no such lock.
//!
//! Start with [`Relay::publish`] and [`Relay::join`].

use std::sync::{Arc, OnceLock};

use tokio::sync::{Semaphore, watch};

use super::envelope;
use super::keyed_lock::KeyedLock;
use crate::bus::Bus;
use crate::hub::{Class, Delivery, Feed, Hub, Subscriber, Then};
use crate::model::{Audience, ChannelKey, Message, SessionId, UserId};
use crate::protocol::{MessageFrame, WireFrame};
use crate::store::{Store, StoreError};

/// Channels under repair at once.
const REPAIRS: usize = 8;

/// Statements of checks under way at once.
const CHECKS: usize = 4;

/// A message from another node is handed to this many sessions by the task that received it: about as many writes as
/// spawning a task costs.
const HANDED_OUT_HERE: usize = 8;

/// The number of this node's batch that is storing something of a channel and has not published it yet.
pub(super) type BatchOf = Box<dyn Fn(&ChannelKey) -> Option<u64> + Send + Sync>;

/// Connects store, bus and hub.
pub struct Relay {
    pub(super) hub: Arc<Hub>,
    pub(super) bus: Arc<dyn Bus>,
    pub(super) store: Arc<dyn Store>,
    pub(super) repairs: Semaphore,
    pub(super) checks: Semaphore,
    /// Changes when the bus may have lost messages of any channel.
    suspect: watch::Sender<()>,
    /// Counts up when the plugin catalogue may have changed.
    announced: watch::Sender<u64>,
    /// Serializes joining and leaving of one channel, so that its bus subscription always matches the hub. Held across
    /// one call to the bus and one to the store; other channels are not affected.
    joins: KeyedLock,
    pub(super) batch_of: OnceLock<BatchOf>,
}

impl std::fmt::Debug for Relay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Relay").finish_non_exhaustive()
    }
}

impl Relay {
    /// A relay that receives nothing yet, and the signal that the bus may have lost messages.
    pub(super) fn new(hub: Arc<Hub>, bus: Arc<dyn Bus>, store: Arc<dyn Store>) -> (Arc<Self>, watch::Receiver<()>) {
        let (suspect, suspicions) = watch::channel(());
        let relay = Arc::new(Self {
            hub,
            bus,
            store,
            repairs: Semaphore::new(REPAIRS),
            checks: Semaphore::new(CHECKS),
            suspect,
            announced: watch::Sender::new(0),
            joins: KeyedLock::default(),
            batch_of: OnceLock::new(),
        });
        (relay, suspicions)
    }

    /// The bus may have lost messages of any channel.
    pub(super) fn suspect_all(&self) {
        self.suspect.send_replace(());
        self.note_announcement();
    }

    /// The plugin catalogue may have changed.
    pub(super) fn note_announcement(&self) {
        self.announced.send_modify(|count| *count += 1);
    }

    /// Sends frames to the other nodes and the sessions here, in this order. Calls `placed` once the frames are in the
    /// feed, so that nothing published from then on comes before them, and `then` once sessions here have been sent
    /// them. Never waits.
    pub fn publish(
        self: &Arc<Self>,
        channel: &ChannelKey,
        deliveries: Vec<Delivery>,
        placed: impl FnOnce(),
        then: Then,
    ) {
        if !deliveries.is_empty() && !self.bus.is_alone() {
            self.bus.publish(channel, envelope::frames(&deliveries));
        }
        self.deliver(channel, deliveries, placed, Some(then));
    }

    /// Sets how to find the batch of this node that has something of a channel in hand. A repair waits for that batch
    /// instead of reading from the store what this node is about to publish.
    pub fn know_batches(&self, batch_of: impl Fn(&ChannelKey) -> Option<u64> + Send + Sync + 'static) {
        let known = self.batch_of.set(Box::new(batch_of)).is_ok();
        debug_assert!(known, "it is said twice");
    }

    /// Cuts a member's sessions off from a channel, on all nodes.
    pub fn revoke(&self, channel: &ChannelKey, user: &UserId) {
        self.bus.publish(channel, envelope::revoke(user));
        self.hub.revoke(channel, user);
    }

    /// Tells all nodes, including this one, that the plugin catalogue has changed. Never waits. It may be lost like
    /// everything on the bus, so it may only make nodes look sooner.
    pub fn announce(&self) {
        self.bus.announce();
        self.note_announcement();
    }

    /// Whether there can be no other node.
    pub fn is_alone(&self) -> bool {
        self.bus.is_alone()
    }

    /// Changes when a node has announced a new plugin catalogue, or when such an announcement may have been lost.
    pub fn announced(&self) -> watch::Receiver<u64> {
        self.announced.subscribe()
    }

    /// Adds a session to a channel. When this returns, nothing committed from now on passes it by. The first session of
    /// a channel subscribes the node and opens the feed at the store's position.
    pub async fn join(
        self: &Arc<Self>,
        channel: &ChannelKey,
        subscriber: Arc<Subscriber>,
    ) -> Result<Arc<Feed>, StoreError> {
        let ticket = self.joins.queue(channel);
        let _joining = ticket.lock().await;
        let session = subscriber.session;
        let (feed, _) = self.hub.join(channel, subscriber);
        // Usually the first session does this; another one does if the first was cancelled before it got here.
        if feed.position().is_none()
            && let Err(error) = self.open(channel, &feed).await
        {
            if self.hub.leave(channel, session) {
                self.unsubscribe(channel).await;
            }
            return Err(error);
        }
        Ok(feed)
    }

    /// Removes a session from a channel. The last one unsubscribes the node.
    pub async fn leave(&self, channel: &ChannelKey, session: SessionId) {
        let ticket = self.joins.queue(channel);
        let _leaving = ticket.lock().await;
        if self.hub.leave(channel, session) {
            self.unsubscribe(channel).await;
        }
    }

    async fn open(self: &Arc<Self>, channel: &ChannelKey, feed: &Arc<Feed>) -> Result<(), StoreError> {
        if let Err(error) = self.bus.subscribe(channel).await {
            // The bus is only a hint: without it, what other nodes send comes from the store.
            tracing::debug!(%error, "a channel is not subscribed to the bus yet");
        }
        let found = self.store.channel(&channel.tenant, channel.channel).await?;
        let (epoch, position) = found.map_or((None, 0), |channel| (Some(channel.epoch), channel.seq));
        feed.open_at(epoch, position);
        // Frames from the bus that arrived before the position was known may already reveal a gap.
        if feed.gap().is_some() {
            self.repair(channel, feed);
        }
        Ok(())
    }

    async fn unsubscribe(&self, channel: &ChannelKey) {
        if let Err(error) = self.bus.unsubscribe(channel).await {
            tracing::debug!(%error, "a channel is still subscribed to the bus");
        }
    }

    /// Unsubscribes after a feed was ended: its sessions no longer count as the last ones when they leave.
    pub(super) async fn unsubscribe_if_empty(&self, channel: &ChannelKey) {
        let ticket = self.joins.queue(channel);
        let _leaving = ticket.lock().await;
        if self.hub.feed(channel).is_none() {
            self.unsubscribe(channel).await;
        }
    }

    pub(super) fn deliver(
        self: &Arc<Self>,
        channel: &ChannelKey,
        deliveries: Vec<Delivery>,
        placed: impl FnOnce(),
        then: Option<Then>,
    ) {
        let durable = deliveries.iter().filter(|delivery| delivery.class == Class::Durable).count();
        for (class, count) in [("durable", durable), ("ephemeral", deliveries.len() - durable)] {
            if count > 0 {
                crate::metrics::DELIVERIES.add([class], count as u64);
            }
        }
        let Some(feed) = self.hub.feed(channel) else {
            placed();
            if let Some(then) = then {
                then();
            }
            return;
        };
        // Frames stored by this node are handed out by the task that stored them, which only its own channels wait for.
        // Frames of other nodes arrive at one task for all channels, which must not be held up.
        let is_ours = then.is_some();
        let gap = feed.accept(deliveries, None);
        placed();
        // Added after the frames, even if somebody else is already handing them out, so it runs after them.
        feed.accept(Vec::new(), then);
        match feed.len() {
            0..=HANDED_OUT_HERE => feed.hand_out(),
            _ if is_ours && !feed.is_large() => feed.hand_out(),
            _ => {
                let feed = Arc::clone(&feed);
                tokio::spawn(async move { feed.hand_out_by_and_by().await });
            }
        }
        if gap.is_some() {
            self.repair(channel, &feed);
        }
    }
}

/// The delivery of a durable message, with separate bytes for the socket that sent it.
pub fn message_frame(message: &Message, echo: Option<(SessionId, &crate::model::ClientId)>) -> Delivery {
    let body = MessageFrame { kind: &message.kind, channel: message.channel, seq: message.seq, message };
    let frame = WireFrame::json(&body);
    let echo =
        echo.map(|(session, id)| (session, WireFrame::text(&crate::protocol::with_client_id(&frame.payload(), id))));
    Delivery { seq: Some(message.seq), class: Class::Durable, audience: Audience::Channel, frame, echo }
}
