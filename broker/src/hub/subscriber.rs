//! One session's place in one channel.

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

/// How many frames may wait for a session that is still reading the channel's state. Beyond it ephemeral ones are shed;
/// a join that takes longer than this many messages ends with `position lost`, and the client joins anew.
const MAX_WAITING: usize = 1_024;

/// A session in a channel. While it is joining, frames wait; then those that its snapshot did not hold are sent, and
/// from there on each frame goes straight to its outbox.
#[derive(Debug)]
pub struct Subscriber {
    /// Which socket.
    pub session: SessionId,
    /// Whose.
    pub user: UserId,
    outbox: Arc<Outbox>,
    /// Told when this subscriber is revoked, so that the session cleans up.
    revoked: Arc<Notify>,
    state: AtomicU8,
    after: AtomicU64,
    waiting: Mutex<Vec<Delivery>>,
}

impl Subscriber {
    /// A session that is joining.
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

    /// The session has been sent everything up to a `seq`: sends on what came after it meanwhile, and lets the rest
    /// through from now on.
    pub fn go_live(&self, after: u64) {
        // The lock orders this against a delivery that saw the joining state: it either waits in the list we empty,
        // or finds the session live.
        let mut waiting = self.waiting.lock();
        self.after.store(after, Ordering::Release);
        self.send(&std::mem::take(&mut *waiting));
        let _ = self.state.compare_exchange(JOINING, LIVE, Ordering::AcqRel, Ordering::Acquire);
    }

    /// Whether this session was cut off.
    pub fn is_gone(&self) -> bool {
        self.state.load(Ordering::Acquire) == GONE
    }

    /// Sends frames on that came together, in one write if the socket takes it, or keeps them until the session is live.
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

    /// Hears nothing more, and its socket closes: what comes next has no place after what it was sent.
    pub(super) fn lose(&self) {
        self.state.store(GONE, Ordering::Release);
        self.outbox.close(Close::PositionLost);
    }

    /// Keeps a frame for later. When many come during a join, as when a whole node's clients arrive at once and are
    /// announced to each other, the ephemeral ones are shed.
    fn wait(&self, waiting: &mut Vec<Delivery>, delivery: &Delivery) {
        if waiting.len() >= MAX_WAITING {
            let before = waiting.len();
            let ephemeral = class(delivery) == Class::Ephemeral;
            if !ephemeral {
                waiting.retain(|delivery| class(delivery) == Class::Durable);
            }
            let shed = before - waiting.len() + usize::from(ephemeral);
            metrics::counter!("switchboard_frames_shed_total", "reason" => "joining").increment(shed as u64);
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
                // Whoever said it gets its ack next.
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

    /// The bytes for this session, and whether they are its own.
    fn frame_of<'a>(&self, delivery: &'a Delivery) -> (&'a WireFrame, bool) {
        match &delivery.echo {
            Some((session, frame)) if *session == self.session => (frame, true),
            _ => (&delivery.frame, false),
        }
    }
}

/// What has a place in the channel is durable, whatever else is said of it.
fn class(delivery: &Delivery) -> Class {
    if delivery.seq.is_some() { Class::Durable } else { delivery.class }
}
