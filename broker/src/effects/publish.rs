//! Publishes what was stored: to this node's sessions, to the other nodes, and to post-commit hooks.
//!
//! The committer calls [`Publisher`] once for each channel of a batch, in batch order. Everything needed was put
//! together before the commit, so the session that caused the event may be gone.
//!
//! It never waits and stores nothing. It encodes each frame once and hands it to the relay.
//!
//! Invariant: hooks and the session's next reads are released only after the frames are in the channel's feed. Nothing
//! that they cause can overtake the message itself. Answers follow last, through `then`.

use std::sync::Arc;

use super::committer::{Flush, Publish, Published, Then};
use crate::hub::{Class, Delivery, Outbox};
use crate::model::{Audience, ChannelKey, ClientId, Event, Message, SessionId, Signal, User};
use crate::plugin::Settling;
use crate::protocol::{Notice, Reading, WireFrame};
use crate::relay::{Relay, message_frame};

/// Called with the messages that were just stored, in the order of `seq` within a channel. The number counts the hook
/// calls between them and an event; 0 for an event's own. Must not block.
pub(super) type AfterCommit = Arc<dyn Fn(&ChannelKey, &[Message], u8) + Send + Sync>;

/// What is published of an event's effects, besides what was stored.
#[derive(Debug)]
pub(super) struct Publication {
    pub(super) user: User,
    /// The session that sent the event, which gets its own message back with the id it chose.
    pub(super) echo: Option<(SessionId, ClientId)>,
    pub(super) signals: Vec<Signal>,
    /// Hook calls between this and an event.
    pub(super) depth: u8,
    /// Dropped once published, which releases the session's next reads.
    pub(super) settling: Option<Settling>,
}

impl Publication {
    /// The publication of an event without signals.
    pub(super) fn of(event: &Event, depth: u8) -> Self {
        let echo = event.session.zip(event.client_id.clone());
        Self { user: event.user.clone(), echo, signals: Vec::new(), depth, settling: None }
    }
}

pub(super) struct Publisher {
    pub(super) relay: Arc<Relay>,
    pub(super) after_commit: AfterCommit,
}

impl Flush for Outbox {
    fn flush(&self) {
        Outbox::flush(self);
    }
}

impl Publish<Publication> for Publisher {
    fn publish(&self, channel: &ChannelKey, published: Vec<Published<Publication>>, then: Then) {
        let mut deliveries = Vec::with_capacity(published.len());
        let (mut watched, mut settled) = (Vec::new(), Vec::new());
        for Published { what, committed } in published {
            let Publication { user, echo, signals, depth, settling } = what;
            if let Some(committed) = committed {
                let echo = echo.as_ref().map(|(session, id)| (*session, id));
                deliveries.extend(committed.messages.iter().map(|message| message_frame(message, echo)));
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
        let placed = || {
            // Not before the frames are in the feed: neither the session's next event nor a hook may overtake them.
            drop(settled);
            for (messages, depth) in watched {
                (self.after_commit)(channel, &messages, depth);
            }
        };
        self.relay.publish(channel, deliveries, placed, then);
    }
}

fn notice(channel: &ChannelKey, signal: Signal) -> Delivery {
    let frame = WireFrame::json(&Notice { kind: &signal.kind, channel: channel.channel, payload: &signal.payload });
    Delivery { seq: None, class: Class::Ephemeral, audience: signal.audience, frame, echo: None }
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;

    use serde_json::value::RawValue;
    use tokio::sync::oneshot;

    use super::*;
    use crate::bus::memory::Exchange;
    use crate::effects::committer::Committer;
    use crate::hub::Subscriber;
    use crate::model::{ChannelId, Clock, Draft, MessageId, Role};
    use crate::store::sqlite::Sqlite;
    use crate::store::{Commit, NewChannel, Outcome, Store};

    fn raw(text: &str) -> Box<RawValue> {
        RawValue::from_string(text.to_owned()).unwrap()
    }

    /// A stopping broker waits for its sessions, which wait for their answers, and then for hooks under way.
    #[tokio::test]
    async fn plugins_are_told_before_the_answer_and_what_they_say_comes_after_the_message() {
        let clock = Clock::system();
        let folder = std::env::temp_dir().join(format!("switchboard-{}", clock.uuid().simple()));
        let store: Arc<dyn Store> = Arc::new(Sqlite::open(&folder).await.unwrap());
        let channel = ChannelKey { tenant: "acme".parse().unwrap(), channel: ChannelId(clock.uuid()) };
        store.create_tenant(&channel.tenant, None, clock.now()).await.unwrap().unwrap();
        let alice = User { id: "7".parse().unwrap(), username: "alice".parse().unwrap() };
        store.create_member(&channel.tenant, &alice, None, clock.now()).await.unwrap();
        let (name, epoch, members) = ("lobby".into(), clock.epoch(), vec![(alice.id.clone(), Role::Owner)]);
        let new = NewChannel { id: channel.channel, name, epoch, members, at: clock.now() };
        store.create_channel(&channel.tenant, &new).await.unwrap();

        let (bus, inbox) = Exchange::new().join();
        let relay = Relay::start(Arc::default(), Arc::new(bus), inbox, Arc::clone(&store), clock.clone());
        let outbox = Arc::new(Outbox::new(None, 1 << 20));
        let subscriber =
            Subscriber::new(SessionId(clock.uuid()), alice.id.clone(), Arc::clone(&outbox), Arc::default());
        let subscriber = Arc::new(subscriber);
        relay.join(&channel, Arc::clone(&subscriber)).await.unwrap();
        subscriber.go_live(0);

        let order = Arc::new(Mutex::new(Vec::new()));
        let after_commit: AfterCommit = Arc::new({
            let (order, relay) = (Arc::clone(&order), Arc::clone(&relay));
            move |channel, messages, _| {
                order.lock().push("told");
                assert_eq!(messages.len(), 1);
                let (audience, kind) = (Audience::Channel, "seen".parse().unwrap());
                let signal = Signal { audience, kind, payload: raw("{}") };
                relay.publish(channel, vec![notice(channel, signal)], || (), Box::new(|| ()));
            }
        });
        let committer = Committer::publishing(store, Arc::new(Publisher { relay, after_commit }));
        let draft =
            Draft { kind: "chat.message".parse().unwrap(), content: raw("1"), reply_to: None, attachments: raw("[]") };
        let commit = Commit {
            channel: channel.channel,
            sender: alice.clone(),
            request: None,
            drafts: vec![(MessageId(clock.uuid()), draft)],
            reads: Vec::new(),
            amendments: Vec::new(),
            kv: None,
            at: clock.now(),
        };
        let publication = Publication { user: alice, echo: None, signals: Vec::new(), depth: 0, settling: None };
        let (answer, answered) = oneshot::channel();
        committer.queue(&channel.tenant, commit, publication).unwrap().then(Box::new({
            let order = Arc::clone(&order);
            move |outcome| {
                order.lock().push("answered");
                assert!(matches!(outcome, Ok(Outcome::Done(_))));
                answer.send(()).unwrap();
                None
            }
        }));
        answered.await.unwrap();
        // Let the batch's task do what it does after the answer.
        tokio::task::yield_now().await;
        assert_eq!(*order.lock(), ["told", "answered"]);
        let sent: Vec<_> =
            outbox.take().iter().map(|frame| String::from_utf8(frame.payload().to_vec()).unwrap()).collect();
        assert!(sent.len() == 2 && sent[0].contains("chat.message") && sent[1].contains("seen"), "{sent:?}");
        std::fs::remove_dir_all(folder).unwrap();
    }
}
