//! Repairs gaps: fills a feed from the store, or ends a feed that cannot be filled.
//!
//! A gap first gets [`PATIENCE`], because most missing frames are merely late, and then waits for this node's own batch
//! if that may be what is missing. Only then is the store read. Repaired frames enter the feed like all others, so they
//! may meet the bus half-way without harm.
//!
//! A feed has at most one repair under way, and few repairs read the store at once. A repair never changes the order of
//! a feed and never skips a `seq`.
//!
//! Invariant: a gap noticed while a repair is under way is never forgotten. The claim is taken again after it is
//! dropped, and the gap is looked at once more after that.
//!
//! If the store itself lacks the next `seq`, it will never come: the feed is ended and its sockets close with `position
//! lost`. Start with `Relay::repair`.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::delivery::{Relay, message_frame};
use crate::hub::{Feed, Gap};
use crate::model::ChannelKey;
use crate::store::{Span, StoreError};

/// How long a gap waits for a bus message that is merely late.
const PATIENCE: Duration = Duration::from_millis(50);

/// How long a gap waits for this node's own batch that may be what is missing: as long as its senders wait. Read from
/// the store, these messages would reach their senders without the ids that they chose.
const OWN: Duration = Duration::from_secs(4);

/// How often to look whether that batch has been published.
const LOOK: Duration = Duration::from_millis(10);

/// The pause after a store read that did not fill the gap; doubled after each failure.
const RETRY: Duration = Duration::from_millis(500);

const RETRY_MAX: Duration = Duration::from_secs(4);

/// Consecutive reads that may find nothing. A message reaches the bus only after it is stored, so a gap that stays was
/// caused by a foreign message on the bus.
const FRUITLESS: u32 = 10;

/// Messages in one store read.
const PAGE: u32 = 200;

impl Relay {
    /// Fills the feed's gaps in the background, one repair at a time. Only reads what stays missing: with several
    /// publishing nodes the newest messages are always on their way, and each gap gets the time of a late message.
    pub(super) fn repair(self: &Arc<Self>, channel: &ChannelKey, feed: &Arc<Feed>) {
        let Some(mut claim) = feed.claim_repair() else { return };
        let (relay, channel, feed) = (Arc::clone(self), channel.clone(), Arc::clone(feed));
        tokio::spawn(async move {
            while let Some(hole) = feed.gap() {
                sleep(PATIENCE).await;
                let stays = || feed.gap().is_some_and(|now| now.after == hole.after);
                relay.own_batch(&channel, stays).await;
                if stays() {
                    relay.fill(&channel, &feed, hole.until).await;
                }
                drop(claim);
                if !relay.hub.has(&channel, &feed) {
                    return;
                }
                // A gap noticed while the claim was held is ours to fill.
                match feed.claim_repair() {
                    Some(again) => claim = again,
                    None => return,
                }
            }
            drop(claim);
            // And so is one noticed after the last look.
            if feed.gap().is_some() && relay.hub.has(&channel, &feed) {
                relay.repair(&channel, &feed);
            }
        });
    }

    /// Waits until the batch that this node has under way in a channel is published, if there is one, for as long as it
    /// matters.
    async fn own_batch(&self, channel: &ChannelKey, matters: impl Fn() -> bool) {
        let under_way = || self.batch_of.get().and_then(|batch_of| batch_of(channel));
        let Some(batch) = under_way() else { return };
        let by = Instant::now() + OWN;
        while matters() && under_way() == Some(batch) && Instant::now() < by {
            sleep(LOOK).await;
        }
    }

    /// Ends feeds that cannot continue. Their sockets close with `position lost`, and the next session starts at the
    /// store's position.
    pub(super) fn lose(self: &Arc<Self>, lost: Vec<(ChannelKey, Arc<Feed>)>, why: &'static str) {
        let mut ended = Vec::new();
        let mut sockets = 0;
        for (channel, feed) in lost {
            if let Some(closed) = self.hub.end(&channel, &feed) {
                sockets += closed;
                ended.push(channel);
            }
        }
        let Some(example) = ended.first() else { return };
        tracing::error!(channels = ended.len(), sockets, %example, why, "channels do not continue where they were");
        crate::metrics::SESSIONS_DROPPED.add(["position_lost"], sockets as u64);
        let relay = Arc::clone(self);
        tokio::spawn(async move {
            for channel in ended {
                relay.unsubscribe_if_empty(&channel).await;
            }
        });
    }

    /// Reads from the store until nothing up to `until` is missing, or until it is clear that nothing more will come.
    async fn fill(self: &Arc<Self>, channel: &ChannelKey, feed: &Arc<Feed>, until: u64) {
        let is_open = || feed.gap().is_some_and(|gap| gap.after < until);
        let (mut fruitless, mut wait) = (0, RETRY);
        while self.hub.has(channel, feed) && is_open() {
            if !feed.has_room() {
                sleep(PATIENCE).await;
                continue;
            }
            let before = feed.position();
            match self.catch_up(channel, feed, until).await {
                Ok(()) if !is_open() || feed.position() > before => (fruitless, wait) = (0, RETRY),
                Ok(()) => {
                    fruitless += 1;
                    if fruitless == FRUITLESS {
                        let dropped = feed.give_up() as u64;
                        let reason = "never_filled";
                        crate::metrics::FRAMES_HELD_DROPPED.add([reason], dropped);
                        tracing::error!(%channel, dropped, "gave up on a gap that the store cannot fill");
                        return;
                    }
                    sleep(RETRY).await;
                }
                Err(error) => {
                    // If the store is away, the position check logs that once, not for each channel.
                    if !error.is_unavailable() {
                        tracing::warn!(%error, %channel, "failed to read the missing messages of a channel; trying again");
                    }
                    sleep(wait).await;
                    wait = (wait * 2).min(RETRY_MAX);
                }
            }
        }
    }

    /// Delivers what the store has of the missing messages up to `until`.
    async fn catch_up(self: &Arc<Self>, channel: &ChannelKey, feed: &Arc<Feed>, until: u64) -> Result<(), StoreError> {
        let _turn = self.repairs.acquire().await.expect("the semaphore is never closed");
        while let Some(Gap { after, .. }) = feed.gap().filter(|gap| gap.after < until && feed.has_room()) {
            // No message beyond: it may be one that this node has stored and is about to publish, with its sender's id.
            let most = u32::try_from(until - after).unwrap_or(PAGE).min(PAGE);
            let missed = self.store.messages(&channel.tenant, channel.channel, Span::After(after), most).await?;
            let Some(first) = missed.first() else { return Ok(()) };
            if first.seq > after + 1 {
                // Readers see a `seq` only after all before it. This one was deleted and will not come.
                self.lose(vec![(channel.clone(), Arc::clone(feed))], "the store has a gap in its numbering");
                return Ok(());
            }
            crate::metrics::GAP_REPAIRS.handle().increment(1);
            for message in &missed {
                feed.deliver(message_frame(message, None));
            }
        }
        Ok(())
    }
}
