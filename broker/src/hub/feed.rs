//! One channel's stream of frames on this node: in order, each durable one exactly once.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use super::{Delivery, Subscriber, locked};
use crate::model::{Epoch, SessionId, UserId};

/// How many durable frames may wait for one before them. Beyond it they are dropped here and read from the store when
/// the hole is filled.
const MAX_HELD: usize = 1_024;

/// A hole in a channel's sequence: there is a later frame, and those after this position have not come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// The last `seq` that was delivered.
    pub after: u64,
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
    ready: VecDeque<Delivery>,
    /// Someone is handing out `ready`; whoever comes meanwhile adds to it and goes.
    delivering: bool,
}

impl Feed {
    /// Starts the sequence: everything up to here is in the store and nobody waits for it. No epoch: the store has no
    /// such channel. Opening an open feed does nothing.
    pub fn open_at(&self, epoch: Option<Epoch>, position: u64) {
        let mut state = locked(&self.state);
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
        locked(&self.state).epoch.clone()
    }

    /// Epoch and position at one moment; `None` before the feed is open.
    pub fn place(&self) -> Option<(Option<Epoch>, u64)> {
        let state = locked(&self.state);
        state.position.map(|position| (state.epoch.clone(), position))
    }

    /// The last durable frame delivered here; `None` before the feed is open.
    pub fn position(&self) -> Option<u64> {
        locked(&self.state).position
    }

    /// What is missing, if frames wait for one that has not come, or the store has more.
    pub fn gap(&self) -> Option<Gap> {
        locked(&self.state).gap()
    }

    /// Notes that the store has messages up to a `seq`. Returns what is missing here; of that, the last ones may still
    /// be on their way.
    pub fn expect(&self, end: u64) -> Option<Gap> {
        let mut state = locked(&self.state);
        state.end = state.end.max(end);
        state.gap()
    }

    /// The members whose sessions are here, each once.
    pub fn users(&self) -> Vec<UserId> {
        let subscribers = Arc::clone(&locked(&self.state).subscribers);
        let mut users: Vec<UserId> = subscribers.iter().map(|subscriber| subscriber.user.clone()).collect();
        users.sort_unstable();
        users.dedup();
        users
    }

    /// Drops the frames that wait for one that will not come, and says how many. The sequence goes on where it is.
    pub fn give_up(&self) -> usize {
        let mut state = locked(&self.state);
        state.end = 0;
        std::mem::take(&mut state.held).len()
    }

    /// How many sessions are here.
    pub fn len(&self) -> usize {
        locked(&self.state).subscribers.len()
    }

    /// Whether no session is here.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Claims the repair of this feed. `false`: someone is at it.
    pub fn begin_repair(&self) -> bool {
        !self.repairing.swap(true, Ordering::AcqRel)
    }

    /// Ends a claim.
    pub fn end_repair(&self) {
        self.repairing.store(false, Ordering::Release);
    }

    /// Gives a frame to the channel's sessions here, or holds it until those before it have come. Returns what is missing,
    /// when this frame shows a hole.
    pub fn deliver(&self, delivery: Delivery) -> Option<Gap> {
        let mut state = locked(&self.state);
        match (delivery.seq, state.position) {
            (None, _) => state.ready.push_back(delivery),
            (Some(seq), Some(position)) if seq <= position => return None,
            (Some(seq), Some(position)) if seq == position + 1 => {
                state.ready.push_back(delivery);
                state.position = Some(seq);
                state.release();
            }
            (Some(seq), position) => {
                if state.held.len() < MAX_HELD {
                    state.held.insert(seq, delivery);
                } else {
                    // Once those before it have come, this one is missing.
                    state.end = state.end.max(seq);
                    metrics::counter!("switchboard_frames_held_dropped_total", "reason" => "gap").increment(1);
                }
                return position.map(|after| Gap { after });
            }
        }
        drop(state);
        self.hand_out();
        None
    }

    pub(super) fn add(&self, subscriber: Arc<Subscriber>) {
        Arc::make_mut(&mut locked(&self.state).subscribers).push(subscriber);
    }

    /// `true`: none is left.
    pub(super) fn remove(&self, session: SessionId) -> bool {
        let mut state = locked(&self.state);
        Arc::make_mut(&mut state.subscribers).retain(|subscriber| subscriber.session != session);
        state.subscribers.is_empty()
    }

    pub(super) fn revoke(&self, user: &UserId) {
        let subscribers = Arc::clone(&locked(&self.state).subscribers);
        for subscriber in subscribers.iter().filter(|subscriber| subscriber.user == *user) {
            subscriber.revoke();
        }
    }

    /// Closes the sockets of all sessions here: this feed cannot be carried on. Returns how many.
    pub(super) fn close(&self) -> usize {
        let subscribers = Arc::clone(&locked(&self.state).subscribers);
        for subscriber in subscribers.iter() {
            subscriber.lose();
        }
        subscribers.len()
    }

    /// One thread at a time hands out, so that all sessions see one order; the others do not wait for it.
    fn hand_out(&self) {
        let mut state = locked(&self.state);
        if state.delivering {
            return;
        }
        state.delivering = true;
        while let Some(delivery) = state.ready.pop_front() {
            let subscribers = Arc::clone(&state.subscribers);
            drop(state);
            for subscriber in subscribers.iter() {
                subscriber.deliver(&delivery);
            }
            drop(subscribers);
            state = locked(&self.state);
        }
        state.delivering = false;
    }
}

impl State {
    fn gap(&self) -> Option<Gap> {
        let after = self.position?;
        (!self.held.is_empty() || self.end > after).then_some(Gap { after })
    }

    /// Moves what was waiting for the present position on.
    fn release(&mut self) {
        while let Some(position) = self.position {
            let Some(delivery) = self.held.remove(&(position + 1)) else { break };
            self.position = Some(position + 1);
            self.ready.push_back(delivery);
        }
    }
}
