//! A member at a socket: what is done for it in a channel, and how it is answered.
//!
//! Nothing here keeps which channels the session is in, or the order of its frames.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::Notify;

use super::state::Session;
use super::subscription::Subscription;
use crate::effects::refusal as store_refusal;
use crate::hub::Class;
use crate::identity::IdentityError;
use crate::model::{ChannelId, ClientId, Epoch, Principal};
use crate::plugin::Earlier;
use crate::protocol::{Ack, Close, ErrorCode, ErrorFrame, EventFrame, Refusal, Since, Unsubscribed, WireFrame};
use crate::router::Dispatched;

/// Who is behind a session, known from the token to the end.
pub(super) struct Member<'s> {
    pub(super) session: &'s Session,
    pub(super) principal: Principal,
    /// Told when the member was taken out of a channel.
    pub(super) revoked: Arc<Notify>,
}

impl Member<'_> {
    /// Takes a frame to its handler. What it reads has in it what is `earlier`.
    pub(super) async fn handle(
        &self,
        subscription: &Subscription,
        event: EventFrame,
        earlier: Option<&Earlier>,
    ) -> Dispatched {
        let router = &self.session.services.router;
        router.dispatch(&subscription.key, &self.principal.user, Some(self.session.id), event, earlier).await
    }

    /// Joins a channel, after leaving it if the session is in it: the client wants what it has lost. The member itself
    /// does not come or go by that.
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

    /// Leaves a channel and says so.
    pub(super) async fn unsubscribe(&self, subscription: &Subscription) {
        subscription.attendance.leave().await;
        self.send(&Unsubscribed { channel: subscription.key.channel });
    }

    /// Takes a new token. `Some`: it is somebody else's.
    pub(super) async fn refresh(&self, id: Option<&ClientId>, token: &str) -> Option<Close> {
        match self.session.services.identity.principal(token).await {
            Ok(fresh) if fresh.tenant == self.principal.tenant && fresh.user.id == self.principal.user.id => {
                self.session.expires_at.store(fresh.expires_at.0, Ordering::Relaxed);
                self.acknowledge(id);
                return None;
            }
            Ok(_) => return Some(Close::Forbidden),
            Err(IdentityError::Refused) => {
                let refusal = Refusal::new(ErrorCode::Unauthorized, "this token is not valid; the present one stays");
                self.refuse(id, &refusal);
            }
            Err(IdentityError::Busy(_)) => self.refuse(id, &Refusal::unavailable()),
            Err(IdentityError::Store(error)) => self.refuse(id, &store_refusal(&error)),
        }
        None
    }

    /// Answers a frame that is no channel's affair.
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
