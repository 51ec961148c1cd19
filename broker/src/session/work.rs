//! Works on a session's frames, one after the other.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::{Notify, mpsc};

use super::channels::Seat;
use super::{Scope, Session};
use crate::effects::refusal as store_refusal;
use crate::hub::Class;
use crate::identity::IdentityError;
use crate::model::{ChannelId, ChannelKey, ClientId, Principal};
use crate::protocol::{
    Ack, BadFrame, ClientFrame, Close, ErrorCode, ErrorFrame, EventFrame, Pong, Refusal, Subscribed, Unsubscribed,
    WireFrame, parse,
};
use crate::router::Routed;

/// The part of a session that acts. It alone knows which channels the session is in.
pub(super) struct Worker<'s> {
    pub(super) session: &'s Session,
    pub(super) principal: Principal,
    pub(super) revoked: Arc<Notify>,
    seats: HashMap<ChannelId, Seat>,
    queue: mpsc::Receiver<Box<str>>,
    /// On a socket for one channel, that channel.
    only: Option<ChannelId>,
}

impl<'s> Worker<'s> {
    pub(super) fn new(session: &'s Session, principal: Principal, queue: mpsc::Receiver<Box<str>>) -> Self {
        Self { session, principal, revoked: Arc::default(), seats: HashMap::new(), queue, only: None }
    }

    /// Says welcome, or joins the one channel that the socket is for.
    pub(super) async fn open(&mut self) -> Result<(), Close> {
        match &self.session.scope {
            Scope::Many => {
                self.session.welcome(&self.principal);
                Ok(())
            }
            Scope::One(name) => {
                let joined = match name.parse::<ChannelId>() {
                    Ok(channel) => {
                        self.only = Some(channel);
                        self.join(channel).await
                    }
                    Err(_) => Err(Refusal::unknown_channel()),
                };
                joined.map(|_| ()).map_err(|refusal| {
                    self.refuse(None, &refusal);
                    if refusal.code == ErrorCode::UnknownChannel { Close::Forbidden } else { Close::Overloaded }
                })
            }
        }
    }

    /// Works until the session must close, or until nothing more comes: `None`.
    pub(super) async fn run(&mut self) -> Option<Close> {
        let revoked = Arc::clone(&self.revoked);
        while !self.session.out_of_time.load(Ordering::Relaxed) {
            tokio::select! {
                frame = self.queue.recv() => match frame {
                    Some(text) => {
                        if let Some(close) = self.work_on(text.into()).await {
                            return Some(close);
                        }
                    }
                    None => return None,
                },
                () = revoked.notified() => {
                    if let Some(close) = self.leave_revoked().await {
                        return Some(close);
                    }
                }
            }
        }
        None
    }

    /// Leaves every channel.
    pub(super) async fn leave_all(&mut self) {
        for (_, seat) in std::mem::take(&mut self.seats) {
            self.leave(seat).await;
        }
    }

    async fn work_on(&mut self, text: String) -> Option<Close> {
        let frame = match parse(text) {
            Ok(frame) => frame,
            Err(BadFrame { id, refusal }) => {
                self.refuse(id.as_ref(), &refusal);
                return None;
            }
        };
        match frame {
            ClientFrame::Event(event) => self.handle(event).await,
            ClientFrame::Ping { id } => {
                self.send(&Pong {});
                self.acknowledge(id.as_ref());
            }
            ClientFrame::Subscribe { id, .. } | ClientFrame::Unsubscribe { id, .. } if self.only.is_some() => {
                self.refuse(id.as_ref(), &bad("this socket is for one channel; open /ws/ for several"));
            }
            ClientFrame::Subscribe { id, channel } => self.subscribe(id.as_ref(), channel).await,
            ClientFrame::Unsubscribe { id, channel } => match self.seats.remove(&channel) {
                None => self.refuse(id.as_ref(), &Refusal::unknown_channel()),
                Some(seat) => {
                    self.leave(seat).await;
                    self.send(&Unsubscribed { channel });
                    self.acknowledge(id.as_ref());
                }
            },
            ClientFrame::Auth { id, .. } => {
                self.refuse(id.as_ref(), &bad("this socket has its token; use auth.refresh"));
            }
            ClientFrame::AuthRefresh { id, token } => return self.refresh(id.as_ref(), &token).await,
        }
        None
    }

    async fn handle(&mut self, event: EventFrame) {
        let id = event.id.clone();
        let channel = match (self.only, event.channel) {
            (Some(only), None) => only,
            (Some(only), Some(named)) if only == named => only,
            (None, Some(named)) => named,
            (Some(_), Some(_)) => return self.refuse(id.as_ref(), &Refusal::unknown_channel()),
            (None, None) => return self.refuse(id.as_ref(), &bad("`channel` is missing")),
        };
        let Some(seat) = self.seats.get(&channel).filter(|seat| !seat.subscriber.is_gone()) else {
            return self.refuse(id.as_ref(), &Refusal::unknown_channel());
        };
        let router = &self.session.services.router;
        let routed = router.dispatch(&seat.key, &self.principal.user, Some(self.session.id), event).await;
        match (routed, id) {
            (Routed::Applied(applied), Some(id)) => {
                let (message, at, created_at) = match &applied.receipt {
                    Some(receipt) => (receipt.message, Some((&receipt.epoch, receipt.seq)), receipt.created_at),
                    None => {
                        let at = seat.feed.position().map(|seq| (&seat.epoch, seq));
                        (None, at, self.session.services.clock.now())
                    }
                };
                self.send(&Ack {
                    id: &id,
                    message_id: message,
                    channel: Some(channel),
                    epoch: at.map(|(epoch, _)| epoch),
                    seq: at.map(|(_, seq)| seq),
                    created_at,
                    duplicate: applied.duplicate,
                });
            }
            (Routed::Applied(_) | Routed::Dropped(_), None) => {}
            (Routed::Refused(refusal), id) => self.refuse(id.as_ref(), &refusal),
            (Routed::Dropped(refusal), Some(id)) => self.refuse(Some(&id), &refusal),
        }
    }

    async fn subscribe(&mut self, id: Option<&ClientId>, channel: ChannelId) {
        let limit = self.session.services.limits.subscriptions;
        if !self.seats.contains_key(&channel) && self.seats.len() >= limit {
            let refusal = Refusal::new(ErrorCode::LimitExceeded, "this socket is in as many channels as it may be");
            return self.refuse(id, &refusal);
        }
        // Subscribing again starts again: the client wants the state it has lost. The member has not left meanwhile.
        let before = self.seats.remove(&channel);
        if let Some(seat) = &before {
            self.session.services.relay.leave(&seat.key, self.session.id).await;
        }
        match self.join(channel).await {
            Err(refusal) => {
                if let Some(seat) = before {
                    self.leave(seat).await;
                }
                self.refuse(id, &refusal);
            }
            Ok(seq) => {
                if let Some(id) = id {
                    let epoch = self.seats.get(&channel).map(|seat| &seat.epoch);
                    self.send(&Ack {
                        id,
                        message_id: None,
                        channel: Some(channel),
                        epoch,
                        seq: Some(seq),
                        created_at: self.session.services.clock.now(),
                        duplicate: false,
                    });
                }
            }
        }
    }

    /// Joins a channel and sends what it looks like. Returns the `seq` up to which everything has been sent.
    async fn join(&mut self, channel: ChannelId) -> Result<u64, Refusal> {
        let key = ChannelKey { tenant: self.principal.tenant.clone(), channel };
        let (seat, state) = self.take_seat(key).await?;
        let seq = state.seq;
        self.session.outbox.push(state.frame, Class::Durable);
        if self.only.is_none() {
            self.send(&Subscribed { channel, epoch: &seat.epoch, seq, recovered: false });
        }
        seat.subscriber.go_live(seq);
        self.seats.insert(channel, seat);
        if state.first
            && let Some(seat) = self.seats.get(&channel)
        {
            self.announce(seat).await;
        }
        Ok(seq)
    }

    /// Cleans up after channels that the member was taken out of. On a socket for one channel that ends the socket.
    async fn leave_revoked(&mut self) -> Option<Close> {
        let gone: Vec<ChannelId> =
            self.seats.iter().filter(|(_, seat)| seat.subscriber.is_gone()).map(|(channel, _)| *channel).collect();
        for channel in gone {
            if let Some(seat) = self.seats.remove(&channel) {
                self.leave(seat).await;
                if self.only.is_some() {
                    return Some(Close::Forbidden);
                }
                self.send(&Unsubscribed { channel });
            }
        }
        None
    }

    async fn refresh(&self, id: Option<&ClientId>, token: &str) -> Option<Close> {
        match self.session.services.identity.principal(token).await {
            Ok(fresh) if fresh.tenant == self.principal.tenant && fresh.user.id == self.principal.user.id => {
                self.session.expires_at.store(fresh.expires_at.0, Ordering::Relaxed);
                self.acknowledge(id);
                None
            }
            Ok(_) => Some(Close::Forbidden),
            Err(IdentityError::Refused) => {
                let refusal = Refusal::new(ErrorCode::Unauthorized, "this token is not valid; the present one stays");
                self.refuse(id, &refusal);
                None
            }
            Err(IdentityError::Busy) => {
                self.refuse(id, &Refusal::unavailable());
                None
            }
            Err(IdentityError::Store(error)) => {
                self.refuse(id, &store_refusal(&error));
                None
            }
        }
    }

    fn acknowledge(&self, id: Option<&ClientId>) {
        if let Some(id) = id {
            let created_at = self.session.services.clock.now();
            self.send(&Ack {
                id,
                message_id: None,
                channel: None,
                epoch: None,
                seq: None,
                created_at,
                duplicate: false,
            });
        }
    }

    fn refuse(&self, id: Option<&ClientId>, refusal: &Refusal) {
        self.send(&ErrorFrame::new(id, refusal));
    }

    fn send(&self, frame: &impl serde::Serialize) {
        self.session.outbox.push(WireFrame::json(frame), Class::Durable);
    }
}

fn bad(message: &'static str) -> Refusal {
    Refusal::new(ErrorCode::BadRequest, message)
}
