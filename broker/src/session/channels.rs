//! A session's place in a channel: taking it, what is sent on arrival, and giving it up.

use std::collections::HashSet;
use std::sync::Arc;

use super::work::Worker;
use crate::effects::refusal;
use crate::hub::{Feed, Subscriber};
use crate::model::{ChannelKey, Epoch, Message, UserId};
use crate::protocol::{
    ChannelInfo, ChannelState, MemberInfo, Refusal, STATE_BYTES, STATE_MEMBERS, STATE_MESSAGES, WireFrame,
};
use crate::store::Span;

/// A channel that a session is in.
pub(super) struct Seat {
    pub(super) key: ChannelKey,
    pub(super) epoch: Epoch,
    pub(super) feed: Arc<Feed>,
    pub(super) subscriber: Arc<Subscriber>,
}

/// What a channel looked like at the moment of joining.
pub(super) struct State {
    pub(super) frame: WireFrame,
    pub(super) seq: u64,
    /// Whether this is the member's first session in the channel.
    pub(super) first: bool,
}

impl Worker<'_> {
    /// Takes a place in a channel that the member belongs to. From here on frames wait for [`Subscriber::go_live`]; they
    /// begin after the state, whatever was committed while it was read.
    pub(super) async fn take_seat(&self, key: ChannelKey) -> Result<(Seat, State), Refusal> {
        let (session, services) = (self.session, &self.session.services);
        let user = &self.principal.user.id;
        let member = services.store.role(&key.tenant, key.channel, user).await.map_err(|error| refusal(&error))?;
        if member.is_none() {
            return Err(Refusal::unknown_channel());
        }
        let subscriber =
            Arc::new(Subscriber::new(session.id, user.clone(), Arc::clone(&session.outbox), Arc::clone(&self.revoked)));
        let joined = services.relay.join(&key, Arc::clone(&subscriber)).await;
        let feed = joined.map_err(|error| refusal(&error))?;
        // Present before the state is read: the newcomer sees itself online, and when another session of the member
        // leaves meanwhile, that is no leaving.
        let first = match services.presence.enter(&key, &self.principal.user, session.id).await {
            Ok(first) => first,
            Err(error) => {
                tracing::warn!(%error, "a member's arrival is not noted");
                false
            }
        };
        match self.state(&key, first).await {
            Ok((epoch, state)) => Ok((Seat { key, epoch, feed, subscriber }, state)),
            Err(refused) => {
                services.relay.leave(&key, session.id).await;
                let _ = services.presence.leave(&key, &self.principal.user, session.id).await;
                Err(refused)
            }
        }
    }

    /// Has a member's arrival announced.
    pub(super) async fn announce(&self, seat: &Seat) {
        let (services, user) = (&self.session.services, &self.principal.user);
        services.router.notify(&seat.key, &services.joined, user, self.session.id).await;
    }

    /// Gives up a place, and has a member's last one announced to those who stay.
    pub(super) async fn leave(&self, seat: Seat) {
        let (services, user) = (&self.session.services, &self.principal.user);
        services.relay.leave(&seat.key, self.session.id).await;
        match services.presence.leave(&seat.key, user, self.session.id).await {
            Ok(true) => services.router.notify(&seat.key, &services.left, user, self.session.id).await,
            Ok(false) => {}
            Err(error) => tracing::warn!(%error, "a member's leaving is not noted"),
        }
    }

    async fn state(&self, key: &ChannelKey, first: bool) -> Result<(Epoch, State), Refusal> {
        let services = &self.session.services;
        let (store, tenant, id) = (&services.store, &key.tenant, key.channel);
        // The channel is read first: what is committed after it has a larger `seq` and comes as a frame.
        let channel = store.channel(tenant, id).await.map_err(|error| refusal(&error))?;
        let channel = channel.ok_or_else(Refusal::unknown_channel)?;
        // So is the membership: one that was ended before the session was in the hub has nobody here to be told.
        let (role, messages, members, count, online) = tokio::join!(
            store.role(tenant, id, &self.principal.user.id),
            store.messages(tenant, id, Span::Before(channel.seq.saturating_add(1)), STATE_MESSAGES),
            store.channel_members(tenant, id, None, STATE_MEMBERS),
            store.member_count(tenant, id),
            services.presence.present(key, STATE_MEMBERS as usize),
        );
        if role.map_err(|error| refusal(&error))?.is_none() {
            return Err(Refusal::unknown_channel());
        }
        let messages = messages.map_err(|error| refusal(&error))?;
        let members = members.map_err(|error| refusal(&error))?;
        let count = count.map_err(|error| refusal(&error))?;
        let online: HashSet<UserId> = match online {
            Ok(users) => users.into_iter().map(|user| user.id).collect(),
            Err(error) => {
                tracing::warn!(%error, "a channel's state is sent without who is online");
                HashSet::new()
            }
        };
        let frame = WireFrame::json(&ChannelState {
            channel: ChannelInfo::new(&channel, count),
            members: members.iter().map(|m| MemberInfo::new(m, online.contains(&m.user.id))).collect(),
            messages: newest(&messages, STATE_BYTES),
            epoch: &channel.epoch,
            seq: channel.seq,
        });
        Ok((channel.epoch, State { frame, seq: channel.seq, first }))
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
