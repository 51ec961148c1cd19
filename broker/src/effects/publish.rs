//! Tells of what was stored: this node's sessions, the other nodes, and whoever watches.
//!
//! The committer calls it for each channel in the order of its batches. What it is told with was put together before the
//! commit, so that nobody who asked for it is needed any more.

use std::sync::Arc;

use super::committer::{Flush, Publish, Then, Told};
use crate::hub::{Class, Delivery, Outbox};
use crate::model::{Audience, ChannelKey, ClientId, Event, Message, SessionId, Signal, User};
use crate::plugin::Settling;
use crate::protocol::{Notice, Reading, WireFrame};
use crate::relay::{Relay, said};

/// What is told of messages that were just stored: where they are, and how many calls of `stored` lie between them and an
/// event, 0 for those of an event itself. Those of a channel come in the order of `seq`. It must not wait.
pub(super) type AfterCommit = Arc<dyn Fn(&ChannelKey, &[Message], u8) + Send + Sync>;

/// What is to be told of the effects of one event, beside what was stored.
#[derive(Debug)]
pub(super) struct Story {
    /// Who the event is from.
    pub(super) user: User,
    /// The socket that gets its own message with its own id.
    pub(super) echo: Option<(SessionId, ClientId)>,
    pub(super) signals: Vec<Signal>,
    /// How many calls of `stored` lie between it and an event.
    pub(super) depth: u8,
    /// Reads of what the session sends next wait for this to be dropped.
    pub(super) settling: Option<Settling>,
}

impl Story {
    /// Of an event, without signals.
    pub(super) fn of(event: &Event, depth: u8) -> Self {
        let echo = event.session.zip(event.client_id.clone());
        Self { user: event.user.clone(), echo, signals: Vec::new(), depth, settling: None }
    }
}

/// Tells the relay, and what follows a commit.
pub(super) struct Publisher {
    pub(super) relay: Arc<Relay>,
    pub(super) after_commit: AfterCommit,
}

impl Flush for Outbox {
    fn flush(&self) {
        Outbox::flush(self);
    }
}

impl Publish<Story> for Publisher {
    fn publish(&self, channel: &ChannelKey, told: Vec<Told<Story>>, then: Then) {
        let mut deliveries = Vec::with_capacity(told.len());
        let (mut watched, mut settled) = (Vec::new(), Vec::new());
        for Told { what, committed } in told {
            let Story { user, echo, signals, depth, settling } = what;
            if let Some(committed) = committed {
                let echo = echo.as_ref().map(|(session, id)| (*session, id));
                deliveries.extend(committed.messages.iter().map(|message| said(message, echo)));
                for read in &committed.reads {
                    let frame = WireFrame::json(&Reading {
                        kind: &read.kind,
                        channel: channel.channel,
                        seq: read.seq,
                        user: &user,
                        message_id: read.message,
                        read_at: read.read_at,
                    });
                    let audience = Audience::Channel;
                    deliveries.push(Delivery { seq: None, class: Class::Durable, audience, frame, echo: None });
                }
                if !committed.messages.is_empty() {
                    watched.push((committed.messages, depth));
                }
            }
            deliveries.extend(signals.into_iter().map(|signal| notice(channel, signal)));
            settled.extend(settling);
        }
        self.relay.publish(channel, deliveries, then);
        // Only now: what the session sends next must not overtake this.
        drop(settled);
        for (messages, depth) in watched {
            (self.after_commit)(channel, &messages, depth);
        }
    }
}

fn notice(channel: &ChannelKey, signal: Signal) -> Delivery {
    let frame = WireFrame::json(&Notice { kind: &signal.kind, channel: channel.channel, payload: &signal.payload });
    Delivery { seq: None, class: Class::Ephemeral, audience: signal.audience, frame, echo: None }
}
