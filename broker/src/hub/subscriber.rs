//! One session's subscription to a channel's feed.
//!
//! The state goes from joining to live to gone, or directly to gone, and never back.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::{Class, Delivery, Outbox};
use crate::model::{SessionId, UserId};
use crate::protocol::{Close, WireFrame};

const JOINING: u8 = 0;
const LIVE: u8 = 1;
const GONE: u8 = 2;

/// Frames held for a session that is still reading the channel's state. Beyond this, ephemeral ones are shed. A join
/// during which more durable frames arrive ends with `position lost`, and the client joins again.
const MAX_WAITING: usize = 1_024;

/// A session in a channel. While it joins, frames are held; then those that its snapshot did not contain are sent; from
/// there on every frame goes straight to its outbox.
#[derive(Debug)]
pub struct Subscriber {
    pub session: SessionId,
    pub user: UserId,
    outbox: Arc<Outbox>,
    /// Notified when this subscriber is revoked, so that its session cleans up.
    revoked: Arc<Notify>,
    state: AtomicU8,
    after: AtomicU64,
    waiting: Mutex<Vec<Delivery>>,
}

impl Subscriber {
    pub fn new(session: SessionId, user: UserId, outbox: Arc<Outbox>, revoked: Arc<Notify>) -> Self {
        Self {
            session,
            user,
            outbox,
            revoked,
            state: AtomicU8::new(JOINING),
            after: AtomicU64::new(0),
            waiting: Mutex::default(),
        }
    }

    /// Goes live: the session has been sent everything up to `after`. Sends the held frames after that, and lets all
    /// further frames through.
    pub fn go_live(&self, after: u64) {
        // The lock orders this with a delivery that saw the joining state: its frames are either in the list emptied
        // here, or it finds the session live.
        let mut waiting = self.waiting.lock();
        self.after.store(after, Ordering::Release);
        self.send(&std::mem::take(&mut *waiting));
        let _ = self.state.compare_exchange(JOINING, LIVE, Ordering::AcqRel, Ordering::Acquire);
    }

    /// Whether the session was cut off.
    pub fn is_gone(&self) -> bool {
        self.state.load(Ordering::Acquire) == GONE
    }

    /// Sends frames, in one write if the socket takes it, or holds them until the session is live.
    pub(super) fn deliver(&self, deliveries: &[Delivery]) {
        match self.state.load(Ordering::Acquire) {
            LIVE => self.send(deliveries),
            JOINING => {
                let mut waiting = self.waiting.lock();
                match self.state.load(Ordering::Acquire) {
                    JOINING => {
                        for delivery in deliveries.iter().filter(|delivery| delivery.audience.includes(&self.user)) {
                            self.wait(&mut waiting, delivery);
                        }
                    }
                    LIVE => self.send(deliveries),
                    _ => {}
                }
            }
            _ => {}
        }
    }

    pub(super) fn revoke(&self) {
        self.state.store(GONE, Ordering::Release);
        self.revoked.notify_one();
    }

    /// Cuts the session off and closes its socket: further frames would not follow what it was sent.
    pub(super) fn lose(&self) {
        self.state.store(GONE, Ordering::Release);
        self.outbox.close(Close::PositionLost);
    }

    /// Holds a frame. If too many arrive during a join, as when all clients of a node arrive at once and are announced
    /// to each other, ephemeral ones are shed.
    fn wait(&self, waiting: &mut Vec<Delivery>, delivery: &Delivery) {
        if waiting.len() >= MAX_WAITING {
            let before = waiting.len();
            let ephemeral = class(delivery) == Class::Ephemeral;
            if !ephemeral {
                waiting.retain(|delivery| class(delivery) == Class::Durable);
            }
            let shed = before - waiting.len() + usize::from(ephemeral);
            crate::metrics::FRAMES_SHED.add(["joining"], shed as u64);
            if ephemeral {
                return;
            }
        }
        if waiting.len() < MAX_WAITING {
            waiting.push(delivery.clone());
        } else {
            self.outbox.close(Close::PositionLost);
        }
    }

    fn send(&self, deliveries: &[Delivery]) {
        let after = self.after.load(Ordering::Acquire);
        let is_mine =
            |delivery: &&Delivery| delivery.audience.includes(&self.user) && delivery.seq.is_none_or(|seq| seq > after);
        let mut mine = deliveries.iter().filter(is_mine);
        let (Some(first), second) = (mine.next(), mine.next()) else { return };
        let (frame, is_echo) = self.frame_of(first);
        let Some(second) = second else {
            return match is_echo {
                // The ack follows; send both in one write.
                true => self.outbox.push_soon(frame.clone(), class(first)),
                false => self.outbox.push(frame.clone(), class(first)),
            };
        };
        let rest = [first, second].into_iter().chain(mine);
        let (mut frames, mut has_echo) = (Vec::with_capacity(deliveries.len()), false);
        for delivery in rest {
            let (frame, is_echo) = self.frame_of(delivery);
            frames.push((frame.clone(), class(delivery)));
            has_echo |= is_echo;
        }
        self.outbox.push_all(frames, has_echo);
    }

    /// The bytes for this session, and whether they are its own echo.
    fn frame_of<'a>(&self, delivery: &'a Delivery) -> (&'a WireFrame, bool) {
        match &delivery.echo {
            Some((session, frame)) if *session == self.session => (frame, true),
            _ => (&delivery.frame, false),
        }
    }
}

/// A frame with a `seq` is always durable, whatever its class says.
fn class(delivery: &Delivery) -> Class {
    if delivery.seq.is_some() { Class::Durable } else { delivery.class }
}
