//! Answers a session's frames, in the order of each channel.
//!
//! Whoever has an answer sends it: the worker for what it knows at once, and the committer for what it has stored,
//! right behind the echo and without waking the session. The worker is woken only while it listens, because something
//! waits for an answer to be given.
//!
//! Nothing here decides what the answer is. It turns a [`Routed`] into an ack or an error frame and pushes it to the
//! outbox; the frame goes out with the next flush.
//!
//! Invariant: within one key, answers leave in the order of their frames, each exactly once. That holds because the
//! queue is advanced and the frame is pushed under one lock.
//!
//! Start with [`Answers::give`].

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::keyed_queue::{Key, KeyedQueue};
use super::subscription::Subscription;
use crate::effects::{Flush, given_up};
use crate::hub::{Class, Outbox};
use crate::model::{ClientId, Clock};
use crate::protocol::{Ack, ErrorFrame, Refusal, WireFrame};
use crate::router::Routed;

/// The frames a session has in hand, and the outbox that answers go to.
pub(super) struct Answers<T> {
    state: Mutex<State<T>>,
    outbox: Arc<Outbox>,
    clock: Clock,
    /// Wakes the worker after an answer, while it listens.
    given: Notify,
}

struct State<T> {
    queue: KeyedQueue<T, Addressee, Routed>,
    /// Whether the worker wants to hear of answers, to start what waits behind them.
    is_listening: bool,
    /// Keys in which answers were given since the worker last looked.
    given: Vec<Key>,
}

/// The frame that an answer belongs to.
pub(super) struct Addressee {
    /// `None` if the session has no subscription to the channel.
    pub(super) subscription: Option<Arc<Subscription>>,
    pub(super) id: Option<ClientId>,
}

impl<T> Answers<T> {
    pub(super) fn new(outbox: Arc<Outbox>, clock: Clock) -> Arc<Self> {
        let state = State { queue: KeyedQueue::new(), is_listening: false, given: Vec::new() };
        Arc::new(Self { state: Mutex::new(state), outbox, clock, given: Notify::new() })
    }

    /// Runs `act` on the queue under the lock. No answer goes out meanwhile.
    pub(super) fn queue<R>(&self, act: impl FnOnce(&mut KeyedQueue<T, Addressee, Routed>) -> R) -> R {
        act(&mut self.state.lock().queue)
    }

    /// Records the answer to a frame, and pushes every answer that is now next in its key. They go out with the next
    /// flush.
    pub(super) fn give(&self, key: Key, number: u64, routed: Routed) {
        let mut state = self.state.lock();
        // Under the lock, so that no later answer can overtake these.
        for (addressee, routed) in state.queue.answered(key, number, routed) {
            self.say(&addressee, routed);
        }
        if state.is_listening {
            if !state.given.contains(&key) {
                state.given.push(key);
            }
            self.given.notify_one();
        }
    }

    /// Like [`Answers::give`], for the committer: the caller must flush what is returned.
    pub(super) fn bring(&self, key: Key, number: u64, routed: Routed) -> Option<Arc<dyn Flush>> {
        self.give(key, number, routed);
        Some(Arc::<Outbox>::clone(&self.outbox))
    }

    /// Looks at the queue and sets whether the worker listens from now on, both under one lock.
    pub(super) fn look<R>(&self, look: impl FnOnce(&KeyedQueue<T, Addressee, Routed>) -> (bool, R)) -> R {
        let mut state = self.state.lock();
        let (is_listening, seen) = look(&state.queue);
        state.is_listening = is_listening;
        seen
    }

    /// Waits for keys in which answers were given. Cancel-safe: keys not taken stay for the next call.
    pub(super) async fn given(&self) -> Vec<Key> {
        loop {
            let given = std::mem::take(&mut self.state.lock().given);
            if !given.is_empty() {
                return given;
            }
            self.given.notified().await;
        }
    }

    /// Answers the frames whose time is up as unavailable. Returns when the next one is due.
    pub(super) fn give_up(&self, now: Instant) -> Option<Instant> {
        let overdue = self.state.lock().queue.overdue(now);
        given_up(overdue.len() as u64);
        for (key, number) in overdue {
            self.give(key, number, Routed::Refused(Refusal::unavailable()));
        }
        self.state.lock().queue.next_overdue()
    }

    fn say(&self, Addressee { subscription, id }: &Addressee, routed: Routed) {
        let frame = match (subscription, routed) {
            (_, Routed::Refused(refusal)) => WireFrame::json(&ErrorFrame::new(id.as_ref(), &refusal)),
            (_, Routed::Dropped(refusal)) if id.is_some() => WireFrame::json(&ErrorFrame::new(id.as_ref(), &refusal)),
            (Some(subscription), Routed::Applied(applied)) => {
                let Some(id) = id else { return };
                let (message_id, at, created_at) = match &applied.receipt {
                    Some(receipt) => (receipt.message, Some((&receipt.epoch, receipt.seq)), receipt.created_at),
                    None => {
                        (None, subscription.feed.position().map(|seq| (&subscription.epoch, seq)), self.clock.now())
                    }
                };
                let (epoch, seq) = at.unzip();
                let (channel, duplicate) = (Some(subscription.key.channel), applied.duplicate);
                WireFrame::json(&Ack { id, message_id, channel, epoch, seq, created_at, duplicate })
            }
            _ => return,
        };
        // Buffered, so that it leaves in one write with the echo before it and the answers after it.
        self.outbox.push_soon(frame, Class::Durable);
    }
}
