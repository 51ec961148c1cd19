//! Fills the holes of a feed from the store, or ends a feed that cannot be filled.
//!
//! A feed has at most one repair under way, and few of them read at once. What a repair delivers goes through the feed as
//! everything else does, so it may meet the bus half-way.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::delivery::{Relay, message_frame};
use crate::hub::{Feed, Gap};
use crate::model::ChannelKey;
use crate::store::{Span, StoreError};

/// How long a hole waits for a bus message that is only late.
const PATIENCE: Duration = Duration::from_millis(50);

/// How long a hole waits at most for a batch of this node that may be what is missing: as long as its senders do. Read from
/// the store, their messages would come without the ids that they gave them.
const OWN: Duration = Duration::from_secs(4);

/// How often it is looked whether that batch is published.
const LOOK: Duration = Duration::from_millis(10);

/// How long after a read of the store that did not fill a hole it is tried again; after failures twice as long each time.
const RETRY: Duration = Duration::from_millis(500);

/// The longest wait after a failure.
const RETRY_MAX: Duration = Duration::from_secs(4);

/// How many reads in a row may find nothing for a hole. A message is on the bus after it is in the store, so a hole that
/// stays is none of this store's: a foreign message on the bus.
const FRUITLESS: u32 = 10;

/// How many messages one read of the store brings.
const PAGE: u32 = 200;

impl Relay {
    /// Reads what a feed is missing from the store, in the background, once at a time. Only what stays missing: where several
    /// nodes publish, the newest messages are always on their way, and each hole has the time of a late message.
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
                // A hole that was seen while the claim was held is ours.
                match feed.claim_repair() {
                    Some(again) => claim = again,
                    None => return,
                }
            }
            drop(claim);
            // So is one that was seen after the last look.
            if feed.gap().is_some() && relay.hub.has(&channel, &feed) {
                relay.repair(&channel, &feed);
            }
        });
    }

    /// Waits until the batch of this node that is under way in a channel is published, if there is one and it matters.
    async fn own_batch(&self, channel: &ChannelKey, matters: impl Fn() -> bool) {
        let under_way = || self.batch_of.get().and_then(|batch_of| batch_of(channel));
        let Some(batch) = under_way() else { return };
        let by = Instant::now() + OWN;
        while matters() && under_way() == Some(batch) && Instant::now() < by {
            sleep(LOOK).await;
        }
    }

    /// Ends feeds that do not go on where they were: their sockets close with `position lost`, and who comes next
    /// begins where the store is.
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
        tracing::error!(channels = ended.len(), sockets, %example, why, "channels do not go on where they were");
        metrics::counter!("switchboard_sessions_dropped_total", "reason" => "position_lost").increment(sockets as u64);
        let relay = Arc::clone(self);
        tokio::spawn(async move {
            for channel in ended {
                relay.unsubscribe_if_empty(&channel).await;
            }
        });
    }

    /// Reads from the store until nothing is missing up to a `seq`, or until it is clear that nothing will come.
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
                        metrics::counter!("switchboard_frames_held_dropped_total", "reason" => reason)
                            .increment(dropped);
                        tracing::error!(%channel, dropped, "gave up a hole that the store has nothing for");
                        return;
                    }
                    sleep(RETRY).await;
                }
                Err(error) => {
                    // That the store is away is said by the check of positions, once and not for each channel.
                    if !error.is_unavailable() {
                        tracing::warn!(%error, %channel, "failed to read what a channel is missing; trying again");
                    }
                    sleep(wait).await;
                    wait = (wait * 2).min(RETRY_MAX);
                }
            }
        }
    }

    /// Delivers what the store has of what is missing up to a `seq`.
    async fn catch_up(self: &Arc<Self>, channel: &ChannelKey, feed: &Arc<Feed>, until: u64) -> Result<(), StoreError> {
        let _turn = self.repairs.acquire().await.expect("the semaphore is never closed");
        while let Some(Gap { after, .. }) = feed.gap().filter(|gap| gap.after < until && feed.has_room()) {
            let missed = self.store.messages(&channel.tenant, channel.channel, Span::After(after), PAGE).await?;
            let Some(first) = missed.first() else { return Ok(()) };
            if first.seq > after + 1 {
                // A reader sees a number only after all before it: this one was taken out, and will not come.
                self.lose(vec![(channel.clone(), Arc::clone(feed))], "the store has a hole in its numbering");
                return Ok(());
            }
            metrics::counter!("switchboard_gap_repairs_total").increment(1);
            for message in &missed {
                feed.deliver(message_frame(message, None));
            }
        }
        Ok(())
    }
}
