//! A feed: one channel's frames on this node, in order, each durable frame exactly once.
//!
//! Frames arrive from the committer, the bus and repairs, in any order and more than once. A feed accepts a durable
//! frame only as the successor of the last one, holds later ones, drops repeated ones, and reports a [`Gap`] when
//! something is missing. It reads nothing from the store; the relay repairs gaps.
//!
//! Accepting and handing out are separate steps. One caller at a time hands out; others only add to `ready` and return,
//! so every session sees the same order and nobody waits for a slow hand-out.
//!
//! Invariants: `position` never goes back, and everything up to it was accepted in order. A feed keeps its epoch for
//! life. Nothing stays in `ready`: whoever accepts a frame also hands out, and handing out ends only under the lock,
//! with `ready` empty.
//!
//! Memory is bounded by [`MAX_HELD`] and [`MAX_READY`]. Start with [`Feed::accept`] and [`Feed::hand_out`].

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{Delivery, Subscriber, Then};
use crate::model::{Epoch, SessionId, UserId};
use parking_lot::Mutex;

/// Durable frames that may be held behind a gap. More are dropped here and read from the store when the gap is filled.
const MAX_HELD: usize = 1_024;

/// Frames that may wait to be handed out, as happens in a large channel. Beyond this, durable frames are dropped here
/// and read from the store once there is room, and ephemeral ones are shed.
const MAX_READY: usize = 8_192;

/// Frames handed to one session before the next session gets its share.
const ROUND: usize = 64;

/// Sessions that are served without yielding to other tasks.
const SESSIONS_AT_ONCE: usize = 256;

/// Sessions of a large channel that are served before yielding: about a sixth of a millisecond of writes.
const SESSIONS_A_TURN: usize = 64;

/// A gap in a channel's sequence: later frames exist, but the one after `after` has not come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// The last `seq` accepted in order.
    pub after: u64,
    /// The last `seq` missing before the first held frame, or the last one the store is known to have.
    pub until: u64,
}

/// A channel's sessions on this node, and how far its frames have come.
#[derive(Debug, Default)]
pub struct Feed {
    state: Mutex<State>,
    repairing: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    /// Copy-on-write: a delivery may be reading the old list.
    subscribers: Arc<Vec<Arc<Subscriber>>>,
    /// The numbering that this feed follows; it never changes once set. `None` before the feed is open, and if
    /// the store did not have the channel.
    epoch: Option<Epoch>,
    /// The last `seq` accepted in order. `None` until the feed is opened at the store's position.
    position: Option<u64>,
    /// The last `seq` that the store is known to have, if that is more than has come.
    end: u64,
    held: BTreeMap<u64, Delivery>,
    ready: VecDeque<Ready>,
    /// Somebody is handing out `ready`. Others only add to it.
    delivering: bool,
}

/// An entry of `ready`: a frame, or a callback that follows the frames before it.
enum Ready {
    Frame(Delivery),
    Then(Then),
}

impl std::fmt::Debug for Ready {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Ready::Frame(delivery) => delivery.fmt(f),
            Ready::Then(_) => f.write_str("Then"),
        }
    }
}

impl Feed {
    /// Starts the sequence: everything up to `position` is in the store, and no session here is waiting for it. Without
    /// an epoch the store has no such channel. Does nothing if the feed is open already.
    pub fn open_at(&self, epoch: Option<Epoch>, position: u64) {
        let mut state = self.state.lock();
        if state.position.is_none() {
            state.epoch = epoch;
            state.position = Some(position);
            state.held = state.held.split_off(&(position + 1));
            state.release();
            drop(state);
            self.hand_out();
        }
    }

    /// `None` before the feed is open, and if the store had no such channel then.
    pub fn epoch(&self) -> Option<Epoch> {
        self.state.lock().epoch.clone()
    }

    /// Epoch and position, read together. `None` before the feed is open.
    pub fn place(&self) -> Option<(Option<Epoch>, u64)> {
        let state = self.state.lock();
        state.position.map(|position| (state.epoch.clone(), position))
    }

    /// The last `seq` accepted in order. `None` before the feed is open.
    pub fn position(&self) -> Option<u64> {
        self.state.lock().position
    }

    /// What is missing, if frames are held or the store has more.
    pub fn gap(&self) -> Option<Gap> {
        self.state.lock().gap()
    }

    /// Notes that the store has messages up to `end`. Returns what is missing here; the newest of it may still be on
    /// its way.
    pub fn expect(&self, end: u64) -> Option<Gap> {
        let mut state = self.state.lock();
        state.end = state.end.max(end);
        state.gap()
    }

    /// The members with sessions here, without duplicates.
    pub fn users(&self) -> Vec<UserId> {
        let subscribers = Arc::clone(&self.state.lock().subscribers);
        let mut users: Vec<UserId> = subscribers.iter().map(|subscriber| subscriber.user.clone()).collect();
        users.sort_unstable();
        users.dedup();
        users
    }

    /// Drops the held frames, because the one before them will never come, and returns their number. The position
    /// stays.
    pub fn give_up(&self) -> usize {
        let mut state = self.state.lock();
        state.end = 0;
        std::mem::take(&mut state.held).len()
    }

    /// Whether there is room for frames read from the store.
    pub fn has_room(&self) -> bool {
        self.state.lock().ready.len() < MAX_READY / 2
    }

    pub fn len(&self) -> usize {
        self.state.lock().subscribers.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Claims the repair of this feed until the claim is dropped. `None`: somebody else holds it.
    pub fn claim_repair(self: &Arc<Self>) -> Option<RepairClaim> {
        (!self.repairing.swap(true, Ordering::AcqRel)).then(|| RepairClaim(Arc::clone(self)))
    }

    /// Accepts one frame and hands it out. Returns the gap that it reveals.
    pub fn deliver(&self, delivery: Delivery) -> Option<Gap> {
        let gap = self.accept(vec![delivery], None);
        self.hand_out();
        gap
    }

    /// Accepts frames in this order, holding those behind a gap. `then` is called once everything now in `ready` has
    /// been handed out. Returns the gap that the frames reveal. The caller must hand out afterwards.
    pub fn accept(&self, deliveries: Vec<Delivery>, then: Option<Then>) -> Option<Gap> {
        let mut state = self.state.lock();
        let mut gap = None;
        for delivery in deliveries {
            gap = state.accept(delivery).or(gap);
        }
        state.ready.extend(then.map(Ready::Then));
        gap
    }

    pub(super) fn add(&self, subscriber: Arc<Subscriber>) {
        Arc::make_mut(&mut self.state.lock().subscribers).push(subscriber);
    }

    /// Returns whether none is left.
    pub(super) fn remove(&self, session: SessionId) -> bool {
        let mut state = self.state.lock();
        Arc::make_mut(&mut state.subscribers).retain(|subscriber| subscriber.session != session);
        state.subscribers.is_empty()
    }

    pub(super) fn revoke(&self, user: &UserId) {
        let subscribers = Arc::clone(&self.state.lock().subscribers);
        for subscriber in subscribers.iter().filter(|subscriber| subscriber.user == *user) {
            subscriber.revoke();
        }
    }

    /// Closes the sockets of all sessions here, because the feed cannot continue. Returns their number.
    pub(super) fn close(&self) -> usize {
        let subscribers = Arc::clone(&self.state.lock().subscribers);
        for subscriber in subscribers.iter() {
            subscriber.lose();
        }
        subscribers.len()
    }

    /// Whether handing out takes long enough that it should yield in between.
    pub fn is_large(&self) -> bool {
        self.len() > SESSIONS_AT_ONCE
    }

    /// Hands out what is ready, unless somebody is doing so already. One at a time, so that all sessions see one order.
    pub fn hand_out(&self) {
        let Some(mut handing_out) = HandingOut::begin(self) else { return };
        while let Some(round) = handing_out.next() {
            for subscriber in round.subscribers.iter() {
                subscriber.deliver(&round.frames);
            }
            round.end();
        }
    }

    /// Like [`Feed::hand_out`], yielding in between, for a large channel.
    pub async fn hand_out_by_and_by(&self) {
        let Some(mut handing_out) = HandingOut::begin(self) else { return };
        while let Some(round) = handing_out.next() {
            for some in round.subscribers.chunks(SESSIONS_A_TURN) {
                for subscriber in some {
                    subscriber.deliver(&round.frames);
                }
                // Yield the processor as well: the next message may depend on another thread that shares it.
                std::thread::yield_now();
                tokio::task::yield_now().await;
            }
            round.end();
        }
    }
}

/// The exclusive right to repair a feed.
#[derive(Debug)]
pub struct RepairClaim(Arc<Feed>);

impl Drop for RepairClaim {
    fn drop(&mut self) {
        self.0.repairing.store(false, Ordering::Release);
    }
}

/// The exclusive right to hand out. Given up when nothing is ready, or on drop, as after a panic.
struct HandingOut<'a> {
    feed: &'a Feed,
    ended: bool,
}

/// One portion to hand out.
struct Round {
    subscribers: Arc<Vec<Arc<Subscriber>>>,
    frames: Vec<Delivery>,
    then: Vec<Then>,
}

impl<'a> HandingOut<'a> {
    fn begin(feed: &'a Feed) -> Option<Self> {
        let mut state = feed.state.lock();
        if state.delivering || state.ready.is_empty() {
            return None;
        }
        state.delivering = true;
        Some(Self { feed, ended: false })
    }

    fn next(&mut self) -> Option<Round> {
        let mut state = self.feed.state.lock();
        if state.ready.is_empty() {
            // Under the lock that guards `ready`: whoever adds a frame next sees that nobody is handing out.
            (state.delivering, self.ended) = (false, true);
            return None;
        }
        let mut round = Round { subscribers: Arc::clone(&state.subscribers), frames: Vec::new(), then: Vec::new() };
        while round.frames.len() < ROUND
            && let Some(ready) = state.ready.pop_front()
        {
            match ready {
                Ready::Frame(delivery) => round.frames.push(delivery),
                Ready::Then(then) => round.then.push(then),
            }
        }
        Some(round)
    }
}

impl Drop for HandingOut<'_> {
    fn drop(&mut self) {
        if !self.ended {
            self.feed.state.lock().delivering = false;
        }
    }
}

impl Round {
    fn end(self) {
        self.then.into_iter().for_each(|then| then());
    }
}

impl State {
    fn accept(&mut self, delivery: Delivery) -> Option<Gap> {
        let is_new = |seq: u64| self.position.is_none_or(|position| seq > position);
        if self.ready.len() >= MAX_READY && delivery.seq.is_none_or(is_new) {
            match delivery.seq {
                None => crate::metrics::FRAMES_SHED.add(["behind"], 1),
                Some(seq) => {
                    self.end = self.end.max(seq);
                    crate::metrics::FRAMES_HELD_DROPPED.add(["behind"], 1);
                }
            }
            return self.gap();
        }
        match (delivery.seq, self.position) {
            (None, _) => self.ready.push_back(Ready::Frame(delivery)),
            (Some(seq), Some(position)) if seq <= position => {}
            (Some(seq), Some(position)) if seq == position + 1 => {
                self.ready.push_back(Ready::Frame(delivery));
                self.position = Some(seq);
                self.release();
            }
            (Some(seq), _) => {
                if self.held.len() < MAX_HELD {
                    self.held.insert(seq, delivery);
                } else {
                    // The frames before this one may yet come; then this one counts as missing.
                    self.end = self.end.max(seq);
                    crate::metrics::FRAMES_HELD_DROPPED.add(["gap"], 1);
                }
                return self.gap();
            }
        }
        None
    }

    fn gap(&self) -> Option<Gap> {
        let after = self.position?;
        match self.held.first_key_value() {
            Some((first, _)) => Some(Gap { after, until: first - 1 }),
            None => (self.end > after).then_some(Gap { after, until: self.end }),
        }
    }

    /// Moves held frames that follow the current position to `ready`.
    fn release(&mut self) {
        while let Some(position) = self.position {
            let Some(delivery) = self.held.remove(&(position + 1)) else { break };
            self.position = Some(position + 1);
            self.ready.push_back(Ready::Frame(delivery));
        }
    }
}
