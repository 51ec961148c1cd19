//! A session's place in a channel: taking it, what is sent on arrival, and giving it up.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::timeout;

use super::member::Member;
use super::roster::Attendance;
use super::subscription::Subscription;
use crate::effects::refusal;
use crate::hub::{Class, Subscriber};
use crate::model::{Channel, ChannelId, ChannelKey, Message, UserId};
use crate::protocol::{
    ChannelInfo, ChannelState, Close, ErrorCode, ErrorFrame, MAX_RECOVERED, MemberInfo, Refusal, STATE_BYTES,
    STATE_MEMBERS, STATE_MESSAGES, Since, Subscribed, WireFrame,
};
use crate::relay::message_frame;
use crate::store::Span;

/// How many messages one read of the store brings to a client that comes back.
const PAGE: u32 = 200;

/// How long a client that comes back may take to make room for the next message it has missed.
const ROOM_WITHIN: Duration = Duration::from_secs(5);

/// A place just taken.
pub(super) struct Arrival {
    pub(super) subscription: Subscription,
    /// Up to here the session has everything.
    pub(super) seq: u64,
    /// Whether this is the member's first session in the channel.
    pub(super) first: bool,
}

impl Member<'_> {
    /// Takes a place in a channel that the member belongs to, and sends what the client needs: what it has missed since
    /// a position, or what the channel looks like. Frames wait meanwhile and begin right after, whatever was committed
    /// while it was read. With `told`, the client hears where that is.
    pub(super) async fn join(&self, channel: ChannelId, since: Option<Since>, told: bool) -> Result<Arrival, Refusal> {
        let key = ChannelKey { tenant: self.principal.tenant.clone(), channel };
        let (session, services) = (self.session, &self.session.services);
        let user = &self.principal.user.id;
        let role = services.store.role(&key.tenant, channel, user).await.map_err(|error| refusal(&error))?;
        if role.is_none() {
            return Err(Refusal::unknown_channel());
        }
        let subscriber =
            Arc::new(Subscriber::new(session.id, user.clone(), Arc::clone(&session.outbox), Arc::clone(&self.revoked)));
        let attendance = Attendance::new(&services.roster, &key, &self.principal.user, session.id);
        let feed = match services.relay.join(&key, Arc::clone(&subscriber)).await {
            Ok(feed) => feed,
            Err(error) => {
                attendance.end();
                return Err(refusal(&error));
            }
        };
        // Present before the state is read: the newcomer sees itself online, and when another session of the member
        // leaves meanwhile, that is no leaving.
        let first = match services.presence.enter(&key, &self.principal.user, session.id).await {
            Ok(first) => first,
            Err(error) => {
                tracing::debug!(%error, "a member's arrival is not noted");
                false
            }
        };
        match self.bring_up(&key, since).await {
            Ok((Channel { epoch, seq, .. }, recovered)) => {
                if told {
                    self.send(&Subscribed { channel, epoch: &epoch, seq, recovered });
                }
                subscriber.go_live(seq);
                Ok(Arrival { subscription: Subscription { key, epoch, feed, subscriber, attendance }, seq, first })
            }
            Err(refused) => {
                attendance.withdraw().await;
                Err(refused)
            }
        }
    }

    /// Sends everything up to the channel's present end, one way or the other. Returns the channel at that moment, and
    /// whether the client has what it missed.
    async fn bring_up(&self, key: &ChannelKey, since: Option<Since>) -> Result<(Channel, bool), Refusal> {
        let (store, user) = (&self.session.services.store, &self.principal.user.id);
        // Both are read after the session is in the hub: what is committed later comes as a frame, and of a membership
        // that is ended later the session is told.
        let (channel, role) =
            tokio::join!(store.channel(&key.tenant, key.channel), store.role(&key.tenant, key.channel, user));
        let channel = channel.map_err(|error| refusal(&error))?;
        let role = role.map_err(|error| refusal(&error))?;
        let (Some(channel), Some(_)) = (channel, role) else { return Err(Refusal::unknown_channel()) };
        let recovered = match since {
            None => false,
            Some(since) => self.recover(key, &channel, &since).await?,
        };
        if !recovered {
            let state = self.state(key, &channel).await?;
            self.session.outbox.push(state, Class::Durable);
        }
        Ok((channel, recovered))
    }

    /// Sends the messages after a position, in order, up to the channel's present end. `false`: there is no way from
    /// that position to this end; the client has been told.
    async fn recover(&self, key: &ChannelKey, channel: &Channel, since: &Since) -> Result<bool, Refusal> {
        let known = since.epoch == channel.epoch.as_str();
        let missed = channel.seq.checked_sub(since.seq).filter(|missed| known && *missed <= MAX_RECOVERED);
        metrics::counter!("switchboard_resumes_total", "recovered" => if missed.is_some() { "yes" } else { "no" })
            .increment(1);
        if missed.is_none() {
            let message = "what came after this position cannot be sent one by one; the channel's state follows";
            let refusal = Refusal::new(ErrorCode::UnrecoverablePosition, message);
            self.send(&ErrorFrame::of(key.channel, &refusal));
            return Ok(false);
        }
        let mut position = since.seq;
        while position < channel.seq {
            let before = position;
            let page = self.session.services.store.messages(&key.tenant, key.channel, Span::After(position), PAGE);
            for message in page.await.map_err(|error| refusal(&error))? {
                if message.seq != position + 1 {
                    break;
                }
                position = message.seq;
                self.send_missed(message_frame(&message, None).frame).await?;
                if position == channel.seq {
                    return Ok(true);
                }
            }
            if position == before {
                tracing::error!(channel = %key, after = position, "the store has a hole in a channel");
                return Err(Refusal::new(
                    ErrorCode::Internal,
                    "the broker failed; its operator can read why in the log",
                ));
            }
        }
        Ok(true)
    }

    /// Sends on at the client's pace: what was missed may be more than the outbound queue holds.
    async fn send_missed(&self, frame: WireFrame) -> Result<(), Refusal> {
        let outbox = &self.session.outbox;
        if timeout(ROOM_WITHIN, outbox.has_room(frame.len())).await.is_err() {
            outbox.close(Close::SlowConsumer);
        }
        if outbox.is_closing() || self.session.out_of_time.load(Ordering::Relaxed) {
            return Err(Refusal::unavailable());
        }
        outbox.push(frame, Class::Durable);
        Ok(())
    }

    /// What a channel looks like.
    async fn state(&self, key: &ChannelKey, channel: &Channel) -> Result<WireFrame, Refusal> {
        let services = &self.session.services;
        let (store, tenant, id) = (&services.store, &key.tenant, key.channel);
        let (messages, members, count, online) = tokio::join!(
            store.messages(tenant, id, Span::Before(channel.seq.saturating_add(1)), STATE_MESSAGES),
            store.channel_members(tenant, id, None, STATE_MEMBERS),
            store.member_count(tenant, id),
            services.presence.present(key, STATE_MEMBERS as usize),
        );
        let messages = messages.map_err(|error| refusal(&error))?;
        let members = members.map_err(|error| refusal(&error))?;
        let count = count.map_err(|error| refusal(&error))?;
        let online: HashSet<UserId> = match online {
            Ok(users) => users.into_iter().map(|user| user.id).collect(),
            Err(error) => {
                tracing::debug!(%error, "a channel's state is sent without who is online");
                HashSet::new()
            }
        };
        Ok(WireFrame::json(&ChannelState {
            channel: ChannelInfo::new(channel, count),
            members: members.iter().map(|m| MemberInfo::new(m, online.contains(&m.user.id))).collect(),
            messages: newest(&messages, STATE_BYTES),
            epoch: &channel.epoch,
            seq: channel.seq,
        }))
    }
}

/// The newest messages that fit into so many bytes.
fn newest(messages: &[Message], mut bytes: usize) -> &[Message] {
    let fits = messages.iter().rev().take_while(|message| {
        let size = message.content.get().len() + message.attachments.get().len();
        let fits = size <= bytes;
        bytes = bytes.saturating_sub(size);
        fits
    });
    &messages[messages.len() - fits.count()..]
}
