//! Takes what was committed to this node's hub and to the other nodes, and fills holes from the store.
//!
//! The hub says when a frame is missing; the bus may have lost it; the store has it. Nothing here decides what is sent or
//! to whom: it carries deliveries as they are.

mod envelope;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, Notify, Semaphore};

use crate::bus::{Bus, Inbox, Incoming};
use crate::hub::{Class, Delivery, Feed, Hub, Subscriber};
use crate::model::{Audience, ChannelKey, Message, SessionId, UserId};
use crate::protocol::{Said, WireFrame};
use crate::store::{Span, Store, StoreError};

/// How long a hole waits for a bus message that is only late.
const PATIENCE: Duration = Duration::from_millis(50);

/// How long after a read of the store that did not fill a hole it is tried again.
const RETRY: Duration = Duration::from_millis(500);

/// How many reads in a row may find nothing for a hole. A message is on the bus after it is in the store, so a hole that
/// stays is none of this store's: a foreign message on the bus, or a store that was set back.
const FRUITLESS: u32 = 10;

/// How often the members of channels with sessions here are compared with the store. It is what ends the access of a
/// removed member when the bus lost the word of it.
const CHECK_EVERY: Duration = Duration::from_secs(30);

/// How many messages one read of the store brings to fill a hole.
const PAGE: u32 = 200;

/// How many channels are being repaired at once.
const REPAIRS: usize = 8;

const JOIN_LOCKS: usize = 64;

/// Between store, bus and hub.
pub struct Relay {
    hub: Arc<Hub>,
    bus: Arc<dyn Bus>,
    store: Arc<dyn Store>,
    repairs: Arc<Semaphore>,
    /// Told when the bus may have lost anything of any channel.
    suspect: Arc<Notify>,
    /// Orders joining and leaving of one channel, so that the bus subscription of a channel always matches the hub. Held
    /// across a call to the bus and one to the store, hence asynchronous; other channels mostly take other locks.
    joins: [Mutex<()>; JOIN_LOCKS],
}

impl std::fmt::Debug for Relay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Relay").finish_non_exhaustive()
    }
}

impl Relay {
    /// Starts taking in what other nodes send. Ends when the bus does.
    pub fn start(hub: Arc<Hub>, bus: Arc<dyn Bus>, inbox: Inbox, store: Arc<dyn Store>) -> Arc<Self> {
        let relay = Arc::new(Self {
            hub,
            bus,
            store,
            repairs: Arc::new(Semaphore::new(REPAIRS)),
            suspect: Arc::default(),
            joins: std::array::from_fn(|_| Mutex::new(())),
        });
        tokio::spawn(receive(Arc::downgrade(&relay), inbox));
        tokio::spawn(check(Arc::downgrade(&relay), Arc::clone(&relay.suspect)));
        relay
    }

    /// Hands a delivery to the sessions here and to the other nodes. Never waits.
    pub fn publish(self: &Arc<Self>, channel: &ChannelKey, delivery: Delivery) {
        if !self.bus.is_alone() {
            self.bus.publish(channel, envelope::frame(&delivery));
        }
        self.deliver(channel, delivery);
    }

    /// Cuts a member's sessions off from a channel, on all nodes.
    pub fn revoke(&self, channel: &ChannelKey, user: &UserId) {
        self.bus.publish(channel, envelope::revoke(user));
        self.hub.revoke(channel, user);
    }

    /// Adds a session to a channel: when this returns, nothing committed from now on passes it by. The first session of
    /// a channel subscribes the node and opens the channel's sequence at the store's position.
    pub async fn join(
        self: &Arc<Self>,
        channel: &ChannelKey,
        subscriber: Arc<Subscriber>,
    ) -> Result<Arc<Feed>, StoreError> {
        let _joining = self.lock(channel).lock().await;
        let session = subscriber.session;
        let (feed, first) = self.hub.join(channel, subscriber);
        if first {
            let opened = self.open(channel, &feed).await;
            if let Err(error) = opened {
                self.hub.leave(channel, session);
                self.unsubscribe(channel).await;
                return Err(error);
            }
        }
        Ok(feed)
    }

    /// Takes a session out of a channel; the last one unsubscribes the node.
    pub async fn leave(&self, channel: &ChannelKey, session: SessionId) {
        let _leaving = self.lock(channel).lock().await;
        if self.hub.leave(channel, session) {
            self.unsubscribe(channel).await;
        }
    }

    async fn open(self: &Arc<Self>, channel: &ChannelKey, feed: &Feed) -> Result<(), StoreError> {
        if let Err(error) = self.bus.subscribe(channel).await {
            // The bus is a hint: without it the channel works, and what other nodes send comes from the store.
            tracing::warn!(%error, "failed to subscribe a channel to the bus");
        }
        let position = self.store.channel(&channel.tenant, channel.channel).await?.map_or(0, |channel| channel.seq);
        feed.open_at(position);
        // What came over the bus before the position was known may already show a hole.
        if feed.gap().is_some() {
            self.repair(channel);
        }
        Ok(())
    }

    async fn unsubscribe(&self, channel: &ChannelKey) {
        if let Err(error) = self.bus.unsubscribe(channel).await {
            tracing::warn!(%error, "failed to unsubscribe a channel from the bus");
        }
    }

    fn deliver(self: &Arc<Self>, channel: &ChannelKey, delivery: Delivery) {
        let class = if delivery.class == Class::Durable { "durable" } else { "ephemeral" };
        metrics::counter!("switchboard_deliveries_total", "class" => class).increment(1);
        if self.hub.deliver(channel, delivery).is_some() {
            self.repair(channel);
        }
    }

    /// Reads what a channel's feed is missing from the store, in the background, once at a time.
    fn repair(self: &Arc<Self>, channel: &ChannelKey) {
        let Some(feed) = self.hub.feed(channel) else { return };
        if !feed.begin_repair() {
            return;
        }
        let (relay, channel) = (Arc::clone(self), channel.clone());
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(PATIENCE).await;
                relay.fill(&channel, &feed).await;
                feed.end_repair();
                // A hole that was seen after the last look and before the claim ended is ours.
                if feed.gap().is_none() || relay.hub.feed(&channel).is_none() || !feed.begin_repair() {
                    return;
                }
            }
        });
    }

    /// Reads from the store until no frame waits for one before it, or until it is clear that none will come.
    async fn fill(self: &Arc<Self>, channel: &ChannelKey, feed: &Feed) {
        let mut fruitless = 0;
        while self.hub.feed(channel).is_some() && feed.gap().is_some() {
            let before = feed.position();
            match self.catch_up(channel, feed).await {
                Ok(()) if feed.gap().is_none() || feed.position() > before => fruitless = 0,
                Ok(()) => {
                    fruitless += 1;
                    if fruitless == FRUITLESS {
                        let dropped = feed.give_up() as u64;
                        let reason = "never_filled";
                        metrics::counter!("switchboard_frames_held_dropped_total", "reason" => reason)
                            .increment(dropped);
                        tracing::error!(%channel, dropped, "gave up a hole that the store has nothing for");
                        return;
                    }
                    tokio::time::sleep(RETRY).await;
                }
                Err(error) => {
                    tracing::warn!(%error, "failed to read what a channel is missing; trying again");
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    /// Delivers everything after the feed's position that the store has.
    async fn catch_up(self: &Arc<Self>, channel: &ChannelKey, feed: &Feed) -> Result<(), StoreError> {
        let _turn = self.repairs.acquire().await.expect("the semaphore is never closed");
        while let Some(position) = feed.position() {
            let missed = self.store.messages(&channel.tenant, channel.channel, Span::After(position), PAGE).await?;
            if missed.is_empty() {
                return Ok(());
            }
            metrics::counter!("switchboard_gap_repairs_total").increment(1);
            for message in &missed {
                feed.deliver(said(message, None));
            }
        }
        Ok(())
    }

    /// Cuts off the sessions here of those who are no longer in the channel.
    async fn check_members(&self, channel: &ChannelKey, feed: &Feed) -> Result<(), StoreError> {
        let here = feed.users();
        let members = self.store.members_among(&channel.tenant, channel.channel, &here).await?;
        for user in here.iter().filter(|user| !members.contains(user)) {
            self.hub.revoke(channel, user);
        }
        Ok(())
    }

    fn lock(&self, channel: &ChannelKey) -> &Mutex<()> {
        let mut hasher = DefaultHasher::new();
        channel.hash(&mut hasher);
        let index = usize::try_from(hasher.finish() % JOIN_LOCKS as u64).expect("less than the number of locks");
        &self.joins[index]
    }
}

/// The delivery of a durable message. The socket it came from gets its own copy.
pub fn said(message: &Message, echo: Option<(SessionId, &crate::model::ClientId)>) -> Delivery {
    let said = Said { kind: &message.kind, channel: message.channel, seq: message.seq, message };
    let frame = WireFrame::json(&said);
    let echo =
        echo.map(|(session, id)| (session, WireFrame::text(&crate::protocol::with_client_id(&frame.payload(), id))));
    Delivery { seq: Some(message.seq), class: Class::Durable, audience: Audience::Channel, frame, echo }
}

async fn receive(relay: std::sync::Weak<Relay>, mut inbox: Inbox) {
    while let Some(incoming) = inbox.recv().await {
        let Some(relay) = relay.upgrade() else { return };
        match incoming {
            Incoming::Message(channel, bytes) => match envelope::open(&bytes) {
                Some(envelope::Opened::Frame(delivery)) => relay.deliver(&channel, delivery),
                Some(envelope::Opened::Revoke(user)) => relay.hub.revoke(&channel, &user),
                None => tracing::warn!("a message on the bus is not this broker's; is another program using it?"),
            },
            // Elsewhere: the inbox must not fill up meanwhile, which would make everything suspect again.
            Incoming::Reconnected => relay.suspect.notify_one(),
        }
    }
}

/// Compares the members of each channel with the store now and then, and everything when the bus may have lost some of
/// it.
async fn check(relay: std::sync::Weak<Relay>, suspect: Arc<Notify>) {
    let mut pace = tokio::time::interval(CHECK_EVERY);
    pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let everything = tokio::select! {
            () = suspect.notified() => true,
            _ = pace.tick() => false,
        };
        let Some(relay) = relay.upgrade() else { return };
        for channel in relay.hub.channels() {
            let Some(feed) = relay.hub.feed(&channel) else { continue };
            let mut checked = relay.check_members(&channel, &feed).await;
            if everything && checked.is_ok() {
                checked = relay.catch_up(&channel, &feed).await;
            }
            if let Err(error) = checked {
                tracing::warn!(%error, %channel, "failed to check a channel against the store");
                // With the store away the other channels fare no better, and what was missed is still to be read. Any
                // other failure is this channel's own.
                if matches!(error, StoreError::Unavailable(_)) {
                    if everything {
                        tokio::time::sleep(RETRY).await;
                        suspect.notify_one();
                    }
                    break;
                }
            }
        }
    }
}
