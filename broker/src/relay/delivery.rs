//! Takes deliveries to the sessions here and to the other nodes, and sessions into channels and out of them.

use std::sync::{Arc, OnceLock};

use tokio::sync::{Semaphore, watch};

use super::envelope;
use super::keyed_lock::KeyedLock;
use crate::bus::Bus;
use crate::hub::{Class, Delivery, Feed, Hub, Subscriber, Then};
use crate::model::{Audience, ChannelKey, Message, SessionId, UserId};
use crate::protocol::{MessageFrame, WireFrame};
use crate::store::{Store, StoreError};

/// How many channels are being repaired at once.
const REPAIRS: usize = 8;

/// How many statements of checks are under way at once.
const CHECKS: usize = 4;

/// To how many sessions a message of another node is handed out by the task that takes it in: about as many writes as making a
/// task for it costs.
const HANDED_OUT_HERE: usize = 8;

/// The number of the batch of this node that is storing something of a channel and has not published it.
pub(super) type BatchOf = Box<dyn Fn(&ChannelKey) -> Option<u64> + Send + Sync>;

/// Between store, bus and hub.
pub struct Relay {
    pub(super) hub: Arc<Hub>,
    pub(super) bus: Arc<dyn Bus>,
    pub(super) store: Arc<dyn Store>,
    pub(super) repairs: Semaphore,
    pub(super) checks: Semaphore,
    /// Changes when the bus may have lost anything of any channel.
    suspect: watch::Sender<()>,
    /// Counts when the catalogue of plugins may have changed.
    announced: watch::Sender<u64>,
    /// Orders joining and leaving of one channel, so that the bus subscription of a channel always matches the hub. The
    /// lock is held across a call to the bus and one to the store; other channels do not wait for it.
    joins: KeyedLock,
    pub(super) batch_of: OnceLock<BatchOf>,
}

impl std::fmt::Debug for Relay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Relay").finish_non_exhaustive()
    }
}

impl Relay {
    /// A relay that takes nothing in yet, and what tells when the bus may have lost something.
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

    /// The bus may have lost anything of any channel.
    pub(super) fn suspect_all(&self) {
        self.suspect.send_replace(());
        self.note_announcement();
    }

    /// The catalogue of plugins may have been changed.
    pub(super) fn note_announcement(&self) {
        self.announced.send_modify(|count| *count += 1);
    }

    /// Hands deliveries to the sessions here and to the other nodes, in this order. Calls `placed` when they have their places,
    /// so that nothing published from then on comes before them, and after that `then`, when those here have been sent them or
    /// will be. Never waits.
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

    /// Says how to find out which batch of this node has something of a channel in hand. What this node is about to publish is
    /// not read from the store.
    pub fn know_batches(&self, batch_of: impl Fn(&ChannelKey) -> Option<u64> + Send + Sync + 'static) {
        let known = self.batch_of.set(Box::new(batch_of)).is_ok();
        debug_assert!(known, "it is said twice");
    }

    /// Cuts a member's sessions off from a channel, on all nodes.
    pub fn revoke(&self, channel: &ChannelKey, user: &UserId) {
        self.bus.publish(channel, envelope::revoke(user));
        self.hub.revoke(channel, user);
    }

    /// Tells all nodes, this one too, that the catalogue of plugins was changed. Never waits. A hint, as all that goes over
    /// the bus: it may be lost, and nothing may depend on it but how soon nodes look.
    pub fn announce(&self) {
        self.bus.announce();
        self.note_announcement();
    }

    /// Whether there can be no other node.
    pub fn is_alone(&self) -> bool {
        self.bus.is_alone()
    }

    /// Changes when a node, this one or another, has announced that it changed the catalogue of plugins, and when that may
    /// have been missed.
    pub fn announced(&self) -> watch::Receiver<u64> {
        self.announced.subscribe()
    }

    /// Adds a session to a channel: when this returns, nothing committed from now on passes it by. The first session of
    /// a channel subscribes the node and opens the channel's sequence at the store's position.
    pub async fn join(
        self: &Arc<Self>,
        channel: &ChannelKey,
        subscriber: Arc<Subscriber>,
    ) -> Result<Arc<Feed>, StoreError> {
        let ticket = self.joins.queue(channel);
        let _joining = ticket.lock().await;
        let session = subscriber.session;
        let (feed, _) = self.hub.join(channel, subscriber);
        // Mostly for the first; also when the one who was at it went away.
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

    /// Takes a session out of a channel; the last one unsubscribes the node.
    pub async fn leave(&self, channel: &ChannelKey, session: SessionId) {
        let ticket = self.joins.queue(channel);
        let _leaving = ticket.lock().await;
        if self.hub.leave(channel, session) {
            self.unsubscribe(channel).await;
        }
    }

    async fn open(self: &Arc<Self>, channel: &ChannelKey, feed: &Arc<Feed>) -> Result<(), StoreError> {
        if let Err(error) = self.bus.subscribe(channel).await {
            // The bus is a hint: without it the channel works, and what other nodes send comes from the store.
            tracing::debug!(%error, "a channel is not subscribed to the bus yet");
        }
        let found = self.store.channel(&channel.tenant, channel.channel).await?;
        let (epoch, position) = found.map_or((None, 0), |channel| (Some(channel.epoch), channel.seq));
        feed.open_at(epoch, position);
        // What came over the bus before the position was known may already show a hole.
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

    /// After a feed was ended: its sessions, when they leave, are not the last of anything any more.
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
                metrics::counter!("switchboard_deliveries_total", "class" => class).increment(count as u64);
            }
        }
        let Some(feed) = self.hub.feed(channel) else {
            placed();
            if let Some(then) = then {
                then();
            }
            return;
        };
        // What this node stored is told by the task that stored it, and only its channels wait for that. What comes from other
        // nodes comes to one task for all channels, which is not to be held up.
        let is_ours = then.is_some();
        let gap = feed.accept(deliveries, None);
        placed();
        // Behind the frames, and not before now: somebody else may be handing out.
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

/// The delivery of a durable message. The socket it came from gets its own copy.
pub fn message_frame(message: &Message, echo: Option<(SessionId, &crate::model::ClientId)>) -> Delivery {
    let body = MessageFrame { kind: &message.kind, channel: message.channel, seq: message.seq, message };
    let frame = WireFrame::json(&body);
    let echo =
        echo.map(|(session, id)| (session, WireFrame::text(&crate::protocol::with_client_id(&frame.payload(), id))));
    Delivery { seq: Some(message.seq), class: Class::Durable, audience: Audience::Channel, frame, echo }
}
