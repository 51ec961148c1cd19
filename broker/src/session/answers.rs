//! Answers the frames of a session, in the order of each channel.
//!
//! Whoever brings an answer sends it: the worker what it knows at once, and the committer what it has stored, right behind the
//! echo and without waking the session. The session is told only of what it waits for.

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

/// What a session has in hand, and its way out.
pub(super) struct Answers<T> {
    state: Mutex<State<T>>,
    outbox: Arc<Outbox>,
    clock: Clock,
    /// Told of answers while the worker listens.
    given: Notify,
}

struct State<T> {
    queue: KeyedQueue<T, Addressee, Routed>,
    /// Whether the worker waits for answers, to go on with what stands behind them.
    is_listening: bool,
    /// The queue in which answers were given since.
    given: Vec<Key>,
}

/// Which frame is answered.
pub(super) struct Addressee {
    /// None: its session is in no such channel.
    pub(super) subscription: Option<Arc<Subscription>>,
    pub(super) id: Option<ClientId>,
}

impl<T> Answers<T> {
    pub(super) fn new(outbox: Arc<Outbox>, clock: Clock) -> Arc<Self> {
        let state = State { queue: KeyedQueue::new(), is_listening: false, given: Vec::new() };
        Arc::new(Self { state: Mutex::new(state), outbox, clock, given: Notify::new() })
    }

    /// Does something with what is in hand. Nothing may be answered meanwhile.
    pub(super) fn queue<R>(&self, act: impl FnOnce(&mut KeyedQueue<T, Addressee, Routed>) -> R) -> R {
        act(&mut self.state.lock().queue)
    }

    /// Gives the answer to a frame, or keeps it until those before it are given. It goes out with the next flush.
    pub(super) fn give(&self, key: Key, number: u64, routed: Routed) {
        let mut state = self.state.lock();
        // Under the lock, so that the next answer cannot overtake these.
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

    /// The same, for whoever is not the session: what is returned is to be flushed.
    pub(super) fn bring(&self, key: Key, number: u64, routed: Routed) -> Option<Arc<dyn Flush>> {
        self.give(key, number, routed);
        Some(Arc::<Outbox>::clone(&self.outbox))
    }

    /// Looks at what is in hand, and says whether the worker is to be told of answers from now on.
    pub(super) fn look<R>(&self, look: impl FnOnce(&KeyedQueue<T, Addressee, Routed>) -> (bool, R)) -> R {
        let mut state = self.state.lock();
        let (is_listening, seen) = look(&state.queue);
        state.is_listening = is_listening;
        seen
    }

    /// The queue in which answers were given, when there are any and the worker listens.
    pub(super) async fn given(&self) -> Vec<Key> {
        loop {
            let given = std::mem::take(&mut self.state.lock().given);
            if !given.is_empty() {
                return given;
            }
            self.given.notified().await;
        }
    }

    /// Answers that there is no answer to those frames whose time is over. Returns the time of the next one.
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
        // Together with the echo before it and the answers after it.
        self.outbox.push_soon(frame, Class::Durable);
    }
}
