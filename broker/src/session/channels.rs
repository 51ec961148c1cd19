//! Joins a channel: subscribes, brings the client up to date, and goes live.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::timeout;

use super::member::Member;
use super::roster::Attendance;
use super::subscription::Subscription;
use crate::hub::{Class, Subscriber};
use crate::model::{Channel, ChannelId, ChannelKey, Message, UserId};
use crate::protocol::{
    ChannelInfo, ChannelState, Close, ErrorCode, ErrorFrame, MAX_RECOVERED, MemberInfo, Refusal, STATE_BYTES,
    STATE_MEMBERS, STATE_MESSAGES, Since, Subscribed, WireFrame,
};
use crate::relay::message_frame;
use crate::store::Span;

/// Messages per store read while a client catches up.
const PAGE: u32 = 200;

/// How long a client that catches up may take to make room for the next message.
const ROOM_WITHIN: Duration = Duration::from_secs(5);

/// A new subscription.
pub(super) struct Arrival {
    pub(super) subscription: Subscription,
    /// The client has everything up to here.
    pub(super) seq: u64,
    /// Whether this is the member's first session in the channel.
    pub(super) first: bool,
}

impl Member<'_> {
    /// Subscribes to a channel the member belongs to, and sends what the client needs: the messages since a position,
    /// or the channel's state. Live frames are held back until that is sent, so the client misses nothing and gets
    /// nothing twice. With `announced`, a `subscribed` frame says where live frames begin.
    pub(super) async fn join(
        &self,
        channel: ChannelId,
        since: Option<Since>,
        announced: bool,
    ) -> Result<Arrival, Refusal> {
        let key = ChannelKey { tenant: self.principal.tenant.clone(), channel };
        let (session, services) = (self.session, &self.session.services);
        let user = &self.principal.user.id;
        services.rates.join(&key.tenant, &self.principal.user.id, session.address).map_err(Refusal::from)?;
        let role = services.store.role(&key.tenant, channel, user).await?;
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
                return Err(error.into());
            }
        };
        // Enter presence before reading the state: the newcomer sees itself online, and if another session of the
        // member leaves meanwhile, no departure is announced.
        let first = match services.presence.enter(&key, &self.principal.user, session.id).await {
            Ok(first) => first,
            Err(error) => {
                tracing::debug!(%error, "failed to record a member's arrival");
                false
            }
        };
        match self.bring_up(&key, since).await {
            Ok((Channel { epoch, seq, .. }, recovered)) => {
                if announced {
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

    /// Sends everything up to the channel's current end: missed messages if possible, otherwise the state. Returns the
    /// channel as of that end, and whether missed messages were recovered.
    async fn bring_up(&self, key: &ChannelKey, since: Option<Since>) -> Result<(Channel, bool), Refusal> {
        let (store, user) = (&self.session.services.store, &self.principal.user.id);
        // Read both only once the session is in the hub. Later commits then arrive as frames, and a membership that
        // ends later revokes the subscription.
        let (channel, role) =
            tokio::join!(store.channel(&key.tenant, key.channel), store.role(&key.tenant, key.channel, user));
        let channel = channel?;
        let role = role?;
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

    /// Sends the messages after a position, in order, up to the channel's current end. `false` means that position and
    /// end are not connected or too far apart; the client has been announced.
    async fn recover(&self, key: &ChannelKey, channel: &Channel, since: &Since) -> Result<bool, Refusal> {
        let known = since.epoch == channel.epoch.as_str();
        let missed = channel.seq.checked_sub(since.seq).filter(|missed| known && *missed <= MAX_RECOVERED);
        crate::metrics::RESUMES.add([if missed.is_some() { "yes" } else { "no" }], 1);
        if missed.is_none() {
            let message =
                "the broker cannot send everything after this position one by one; the channel's state follows";
            let refusal = Refusal::new(ErrorCode::UnrecoverablePosition, message);
            self.send(&ErrorFrame::of(key.channel, &refusal));
            return Ok(false);
        }
        let mut position = since.seq;
        while position < channel.seq {
            let before = position;
            let page = self.session.services.store.messages(&key.tenant, key.channel, Span::After(position), PAGE);
            for message in page.await? {
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
                tracing::error!(channel = %key, after = position, "the store has a gap in a channel");
                return Err(Refusal::new(ErrorCode::Internal, "the broker failed; its log says why"));
            }
        }
        Ok(true)
    }

    /// Sends at the client's pace: there may be more missed messages than the outbox holds.
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

    async fn state(&self, key: &ChannelKey, channel: &Channel) -> Result<WireFrame, Refusal> {
        let services = &self.session.services;
        let (store, tenant, id) = (&services.store, &key.tenant, key.channel);
        let (messages, members, count, online) = tokio::join!(
            store.messages(tenant, id, Span::Before(channel.seq.saturating_add(1)), STATE_MESSAGES),
            store.channel_members(tenant, id, None, STATE_MEMBERS),
            store.member_count(tenant, id),
            services.presence.present(key, None, STATE_MEMBERS as usize),
        );
        let messages = messages?;
        let members = members?;
        let count = count?;
        let online: HashSet<UserId> = match online {
            Ok(users) => users.into_iter().map(|user| user.id).collect(),
            Err(error) => {
                tracing::debug!(%error, "sending a channel's state without the members who are online");
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

/// As many of the newest messages as fit into `bytes`.
fn newest(messages: &[Message], mut bytes: usize) -> &[Message] {
    let fits = messages.iter().rev().take_while(|message| {
        let size = message.content.get().len() + message.attachments.get().len();
        let fits = size <= bytes;
        bytes = bytes.saturating_sub(size);
        fits
    });
    &messages[messages.len() - fits.count()..]
}
