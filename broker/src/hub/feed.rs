//! One channel's stream of frames on this node: in order, each durable one exactly once.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{Delivery, Subscriber, Then};
use crate::model::{Epoch, SessionId, UserId};
use parking_lot::Mutex;

/// How many durable frames may wait for one before them. Beyond it they are dropped here and read from the store when
/// the hole is filled.
const MAX_HELD: usize = 1_024;

/// How many frames may be ready to be handed out. Those of a large channel are, by and by; beyond this, durable ones are dropped
/// here and read from the store when there is room, and ephemeral ones are shed.
const MAX_READY: usize = 8_192;

/// How many frames are handed to each session at once, before the next session's turn.
const ROUND: usize = 64;

/// How many sessions are handed frames before others of the same thread have a turn.
const SESSIONS_AT_ONCE: usize = 256;

/// To how many of them a large channel is handed out before others have their turn: a sixth of a millisecond of writes.
const SESSIONS_A_TURN: usize = 64;

/// A hole in a channel's sequence: there is a later frame, and those after this position have not come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// The last `seq` that was delivered.
    pub after: u64,
    /// The last one that is missing before one that has come, or that the store has.
    pub until: u64,
}

/// A channel's sessions on this node and the place its frames have reached.
#[derive(Debug, Default)]
pub struct Feed {
    state: Mutex<State>,
    repairing: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    /// Replaced rather than changed while a delivery is reading it.
    subscribers: Arc<Vec<Arc<Subscriber>>>,
    /// Which numbering this feed began in; it never takes frames of another. None while it is not open, and for a
    /// channel that the store did not have.
    epoch: Option<Epoch>,
    /// The last `seq` delivered; none until the feed was opened at the store's position.
    position: Option<u64>,
    /// The last `seq` that the store is known to have, when that is more than has come.
    end: u64,
    held: BTreeMap<u64, Delivery>,
    ready: VecDeque<Ready>,
    /// Someone is handing out `ready`; whoever comes meanwhile adds to it and goes.
    delivering: bool,
}

/// What is done in its turn.
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
    /// Starts the sequence: everything up to here is in the store and nobody waits for it. No epoch: the store has no
    /// such channel. Opening an open feed does nothing.
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

    /// The numbering that this feed follows; `None` before it is open, or when the store had no such channel then.
    pub fn epoch(&self) -> Option<Epoch> {
        self.state.lock().epoch.clone()
    }

    /// Epoch and position at one moment; `None` before the feed is open.
    pub fn place(&self) -> Option<(Option<Epoch>, u64)> {
        let state = self.state.lock();
        state.position.map(|position| (state.epoch.clone(), position))
    }

    /// The last durable frame delivered here; `None` before the feed is open.
    pub fn position(&self) -> Option<u64> {
        self.state.lock().position
    }

    /// What is missing, if frames wait for one that has not come, or the store has more.
    pub fn gap(&self) -> Option<Gap> {
        self.state.lock().gap()
    }

    /// Notes that the store has messages up to a `seq`. Returns what is missing here; of that, the last ones may still
    /// be on their way.
    pub fn expect(&self, end: u64) -> Option<Gap> {
        let mut state = self.state.lock();
        state.end = state.end.max(end);
        state.gap()
    }

    /// The members whose sessions are here, each once.
    pub fn users(&self) -> Vec<UserId> {
        let subscribers = Arc::clone(&self.state.lock().subscribers);
        let mut users: Vec<UserId> = subscribers.iter().map(|subscriber| subscriber.user.clone()).collect();
        users.sort_unstable();
        users.dedup();
        users
    }

    /// Drops the frames that wait for one that will not come, and says how many. The sequence goes on where it is.
    pub fn give_up(&self) -> usize {
        let mut state = self.state.lock();
        state.end = 0;
        std::mem::take(&mut state.held).len()
    }

    /// Whether what is read from the store finds room.
    pub fn has_room(&self) -> bool {
        self.state.lock().ready.len() < MAX_READY / 2
    }

    /// How many sessions are here.
    pub fn len(&self) -> usize {
        self.state.lock().subscribers.len()
    }

    /// Whether no session is here.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Claims the repair of this feed, until the claim is dropped. None: someone is at it.
    pub fn claim_repair(self: &Arc<Self>) -> Option<RepairClaim> {
        (!self.repairing.swap(true, Ordering::AcqRel)).then(|| RepairClaim(Arc::clone(self)))
    }

    /// Gives a frame to the channel's sessions here, or holds it until those before it have come. Returns what is missing,
    /// when this frame shows a hole.
    pub fn deliver(&self, delivery: Delivery) -> Option<Gap> {
        let gap = self.accept(vec![delivery], None);
        self.hand_out();
        gap
    }

    /// Takes frames in, in this order, to be handed out; those that others before them are missing for are held. `then` is
    /// called when what was ready until now is handed out. Returns what is missing, when these frames show a hole.
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

    /// `true`: none is left.
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

    /// Closes the sockets of all sessions here: this feed cannot be carried on. Returns how many.
    pub(super) fn close(&self) -> usize {
        let subscribers = Arc::clone(&self.state.lock().subscribers);
        for subscriber in subscribers.iter() {
            subscriber.lose();
        }
        subscribers.len()
    }

    /// Whether handing out takes so long that others should have turns meanwhile.
    pub fn is_large(&self) -> bool {
        self.len() > SESSIONS_AT_ONCE
    }

    /// Hands out what is ready. One at a time does, so that all sessions see one order; others do not wait for it.
    pub fn hand_out(&self) {
        let Some(mut turn) = HandingOut::begin(self) else { return };
        while let Some(round) = turn.next() {
            for subscriber in round.subscribers.iter() {
                subscriber.deliver(&round.frames);
            }
            round.end();
        }
    }

    /// The same for a large channel.
    pub async fn hand_out_by_and_by(&self) {
        let Some(mut turn) = HandingOut::begin(self) else { return };
        while let Some(round) = turn.next() {
            for some in round.subscribers.chunks(SESSIONS_A_TURN) {
                for subscriber in some {
                    subscriber.deliver(&round.frames);
                }
                // Other threads of this processor go first, too: it may be one of them that the next message waits for.
                std::thread::yield_now();
                tokio::task::yield_now().await;
            }
            round.end();
        }
    }
}

/// The right to repair a feed.
#[derive(Debug)]
pub struct RepairClaim(Arc<Feed>);

impl Drop for RepairClaim {
    fn drop(&mut self) {
        self.0.repairing.store(false, Ordering::Release);
    }
}

/// The right to hand out, given back when nothing is ready, or with this value.
struct HandingOut<'a> {
    feed: &'a Feed,
    ended: bool,
}

/// What is handed out at once.
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
            // Under the same lock as the look at what is ready, so that nothing is left for nobody.
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
                None => metrics::counter!("switchboard_frames_shed_total", "reason" => "behind").increment(1),
                Some(seq) => {
                    self.end = self.end.max(seq);
                    metrics::counter!("switchboard_frames_held_dropped_total", "reason" => "behind").increment(1);
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
                    // Once those before it have come, this one is missing.
                    self.end = self.end.max(seq);
                    metrics::counter!("switchboard_frames_held_dropped_total", "reason" => "gap").increment(1);
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

    /// Moves what was waiting for the present position on.
    fn release(&mut self) {
        while let Some(position) = self.position {
            let Some(delivery) = self.held.remove(&(position + 1)) else { break };
            self.position = Some(position + 1);
            self.ready.push_back(Ready::Frame(delivery));
        }
    }
}
