//! A member on a socket: what it does in a channel, and how it is answered.
//!
//! Which channels the session is in, and the order of its frames, are kept elsewhere.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::Notify;

use super::live::LiveEntry;
use super::state::Session;
use super::subscription::Subscription;
use crate::hub::Class;
use crate::identity::IdentityError;
use crate::model::{ChannelId, ClientId, Epoch, Principal};
use crate::plugin::Earlier;
use crate::protocol::{Ack, Close, ErrorCode, ErrorFrame, EventFrame, Refusal, Since, Unsubscribed, WireFrame};
use crate::rates::FrameMeter;
use crate::router::Dispatched;

/// The authenticated member of a session.
pub(super) struct Member<'s> {
    pub(super) session: &'s Session,
    pub(super) principal: Principal,
    pub(super) live: LiveEntry,
    pub(super) frames: FrameMeter,
    /// Notified when the member is removed from a channel.
    pub(super) revoked: Arc<Notify>,
}

impl Member<'_> {
    /// Dispatches a frame to its handler. The handler's reads wait for `earlier`.
    pub(super) async fn handle(
        &self,
        subscription: &Subscription,
        event: EventFrame,
        earlier: Option<&Earlier>,
    ) -> Dispatched {
        let router = &self.session.services.router;
        router.dispatch(&subscription.key, &self.principal.user, Some(self.session.id), event, earlier).await
    }

    /// Joins a channel. If the session is in it already, it leaves first: the client wants to catch up on what it
    /// missed. That announces neither an arrival nor a departure of the member.
    pub(super) async fn subscribe(
        &self,
        id: Option<&ClientId>,
        channel: ChannelId,
        since: Option<Since>,
        before: Option<Arc<Subscription>>,
    ) -> Option<Arc<Subscription>> {
        if let Some(subscription) = &before {
            self.session.services.relay.leave(&subscription.key, self.session.id).await;
        }
        match self.join(channel, since, true).await {
            Ok(arrival) => {
                if let Some(subscription) = before {
                    subscription.attendance.end();
                }
                if let Some(id) = id {
                    self.send(&Ack {
                        id,
                        message_id: None,
                        channel: Some(channel),
                        epoch: Some(&arrival.subscription.epoch),
                        seq: Some(arrival.seq),
                        created_at: self.session.services.clock.now(),
                        duplicate: false,
                    });
                }
                if arrival.first {
                    arrival.subscription.attendance.announce().await;
                }
                Some(Arc::new(arrival.subscription))
            }
            Err(refusal) => {
                if let Some(subscription) = before {
                    subscription.attendance.leave().await;
                }
                self.refuse(id, &refusal);
                None
            }
        }
    }

    /// Leaves a channel and confirms it.
    pub(super) async fn unsubscribe(&self, subscription: &Subscription) {
        subscription.attendance.leave().await;
        self.send(&Unsubscribed { channel: subscription.key.channel });
    }

    /// Takes a new token. Returns a close if it belongs to somebody else.
    pub(super) async fn refresh(&self, id: Option<&ClientId>, token: &str) -> Option<Close> {
        match self.session.services.identity.principal(token).await {
            Ok(fresh) if fresh.tenant == self.principal.tenant && fresh.user.id == self.principal.user.id => {
                self.session.expires_at.store(fresh.expires_at.0, Ordering::Relaxed);
                self.live.renew(&fresh);
                self.acknowledge(id);
                return None;
            }
            Ok(_) => return Some(Close::Forbidden),
            Err(IdentityError::Refused) => {
                let refusal =
                    Refusal::new(ErrorCode::Unauthorized, "this token is not valid; the current one stays in use");
                self.refuse(id, &refusal);
            }
            Err(IdentityError::Busy(_)) => self.refuse(id, &Refusal::unavailable()),
            Err(IdentityError::Store(error)) => self.refuse(id, &error.into()),
        }
        None
    }

    /// Acknowledges a frame that concerns no channel.
    pub(super) fn acknowledge(&self, id: Option<&ClientId>) {
        if let Some(id) = id {
            let created_at = self.session.services.clock.now();
            let epoch: Option<&Epoch> = None;
            self.send(&Ack { id, message_id: None, channel: None, epoch, seq: None, created_at, duplicate: false });
        }
    }

    pub(super) fn refuse(&self, id: Option<&ClientId>, refusal: &Refusal) {
        self.send(&ErrorFrame::new(id, refusal));
    }

    pub(super) fn send(&self, frame: &impl serde::Serialize) {
        self.session.outbox.push(WireFrame::json(frame), Class::Durable);
    }
}
