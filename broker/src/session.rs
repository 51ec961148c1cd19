//! One socket: its member, its subscriptions, and its frames.
//!
//! A session is one task. Inside it run, side by side: the reader, the worker, the outbox, the clock for pings and
//! token expiry, and the drain. A slow handler therefore delays neither a ping nor other members' messages. Frames of
//! one channel are handled in order; channels do not wait for each other.
//!
//! A session knows no message types. Whatever is not one of the broker's own frames goes to the router, and effects are
//! applied elsewhere.
//!
//! Invariant: when [`run`] returns, the session has left every channel it was in, however it ended. Frames received
//! before the end are still handled, for up to `FINISH_WITHIN`.
//!
//! Start with [`run`] and `Session::live`; `work.rs` handles frames, `keyed_queue.rs` orders them, `answers.rs` answers
//! them, and `handover.rs` connects reader and worker.

mod answers;
mod channels;
mod closing;
mod dismissal;
#[cfg(feature = "conformance")]
mod echo;
mod frame_header;
mod handover;
mod keyed_queue;
mod live;
mod member;
mod permits;
mod roster;
mod socket;
mod state;
mod subscription;
mod unfinished;
mod work;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout};

use crate::config::Limits;
use crate::hub::{Class, Outbox};
use crate::identity::IdentityError;
use crate::model::{Principal, SessionId, Timestamp};
use crate::protocol::{ClientFrame, Close, MAX_FRAME, MAX_READ, Welcome, WireFrame, parse};

pub use dismissal::Dismissal;
use handover::{Ended, Handover};
pub use live::LiveSessions;
use member::Member;
pub use permits::{SocketLimits, SocketPermits};
pub use roster::Roster;
#[cfg(feature = "fuzzing")]
pub use socket::fuzzing;
use socket::{End, Inbound, Reader, Takes};
use state::Session;
pub use state::{Arrival, Scope, Services};
pub use unfinished::Unfinished;
use work::Worker;

/// How long a socket without a token has to send its `auth` frame.
const AUTH_WITHIN: Duration = Duration::from_secs(5);

/// How long frames received before the end of a socket may take to finish.
const FINISH_WITHIN: Duration = Duration::from_secs(5);

pub async fn run(services: Arc<Services>, arrival: Arrival) {
    let Arrival { stream, early, scope, token, address } = arrival;
    #[cfg(feature = "conformance")]
    if scope == Scope::Echo {
        return echo::run(stream, early, address).await;
    }
    let (read, write) = stream.into_split();
    let outbox = Arc::new(Outbox::new(Some(write), services.limits.outbound_bytes));
    let takes = Takes { most: MAX_READ, binary: false };
    let mut reader = Reader::new(read, early, takes, (Arc::clone(&services.unfinished), address));
    reader.take_over().await;
    let session = Session {
        id: SessionId(services.clock.uuid()),
        services,
        outbox: Arc::clone(&outbox),
        scope,
        address,
        expires_at: AtomicI64::new(i64::MAX),
        awaiting_pong: AtomicBool::new(false),
        reading: AtomicBool::new(true),
        out_of_time: AtomicBool::new(false),
    };
    let end = {
        let mut live = Box::pin(session.live(&mut reader, token));
        tokio::select! {
            // `live` first, so that everything it produces in one poll goes out in one write.
            biased;
            end = &mut live => end,
            // The close is out, or the socket is broken. The session notices that as well; let it leave its channels.
            () = outbox.run() => live.await,
        }
    };
    closing::close(&outbox, &mut reader, end).await;
}

/// Counts the session in the metric while it lives.
struct Counted;

impl Counted {
    fn new() -> Self {
        crate::metrics::SESSIONS.handle().increment(1.0);
        Self
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        crate::metrics::SESSIONS.handle().decrement(1.0);
    }
}

impl Session {
    /// Runs from authentication to the end. All channels have been left when this returns.
    async fn live(&self, reader: &mut Reader, token: Option<String>) -> End {
        // One-time steps are boxed, so that an idle socket does not reserve space for them in its future.
        let principal = match Box::pin(self.authenticate(reader, token)).await {
            Ok(principal) => principal,
            Err(end) => return end,
        };
        let _permit = match self.services.permits.take(&principal, self.address) {
            Ok(permit) => permit,
            Err(reason) => return self.one_too_many(reason),
        };
        self.expires_at.store(principal.expires_at.0, Ordering::Relaxed);
        let live = self.services.live.add(&principal, self.id, &self.outbox);
        let frames = self.services.rates.frames_of(&principal.tenant, &principal.user.id, self.address);
        let member = Member { session: self, principal, live, frames, revoked: Arc::default() };
        let handover = Handover::default();
        let mut worker = Worker::new(&member, &handover);
        if let Err(close) = Box::pin(worker.open()).await {
            Box::pin(worker.leave_all()).await;
            return End::Close(close);
        }
        let counted = Counted::new();
        let end = {
            let mut work = Box::pin(worker.run());
            let reading = std::pin::pin!(self.read(reader, &handover));
            let end = tokio::select! {
                biased;
                ended = handover.pass(reading, work.as_mut()) => match ended {
                    Ended::Worker(close) => Err(close.map_or(End::Gone, End::Close)),
                    Ended::Reader(end) => Ok(end),
                },
                close = self.watch_clock() => Ok(End::Close(close)),
                () = self.outbox.closing() => Ok(End::Gone),
                () = self.drained() => Ok(End::Close(Close::Draining)),
            };
            match end {
                Err(end) => end,
                // Frames received before the end are still handled. A job is never dropped half-way, because that would
                // leave a subscription that nobody gives up. Each of its steps is bounded.
                Ok(end) => {
                    handover.end();
                    if timeout(FINISH_WITHIN, &mut work).await.is_err() {
                        self.out_of_time.store(true, Ordering::Relaxed);
                        work.await;
                    }
                    end
                }
            }
        };
        drop(counted);
        Box::pin(worker.leave_all()).await;
        end
    }

    async fn authenticate(&self, reader: &mut Reader, token: Option<String>) -> Result<Principal, End> {
        let token = match token {
            Some(token) => token,
            None => {
                let Some(_waiting) = self.services.permits.unauthenticated(self.address) else {
                    return Err(self.one_too_many("unauthenticated"));
                };
                timeout(AUTH_WITHIN, self.auth_frame(reader)).await.map_err(|_| End::Close(Close::AuthTimeout))??
            }
        };
        self.services.identity.principal(&token).await.map_err(|error| match error {
            IdentityError::Refused => End::Close(Close::Unauthenticated),
            IdentityError::Busy(_) => End::Close(Close::Overloaded),
            IdentityError::Store(error) => {
                tracing::warn!(%error, "failed to identify the client of a socket");
                End::Close(Close::Overloaded)
            }
        })
    }

    fn one_too_many(&self, reason: &'static str) -> End {
        crate::metrics::SESSIONS_DROPPED.add([reason], 1);
        self.services.permits.log_full(reason, self.address);
        End::Close(Close::ConnectionLimit)
    }

    async fn auth_frame(&self, reader: &mut Reader) -> Result<String, End> {
        loop {
            match reader.next().await? {
                Inbound::Text(text) => match parse(text) {
                    Ok(ClientFrame::Auth { token, .. }) => return Ok(token),
                    _ => return Err(End::Close(Close::Unauthenticated)),
                },
                Inbound::Ping(payload) => self.outbox.push(WireFrame::pong(&payload), Class::Ephemeral),
                Inbound::Pong => {}
                #[cfg(feature = "conformance")]
                Inbound::Binary(_) => return Err(End::Close(Close::Unsupported)),
            }
        }
    }

    /// Reads until the client is gone, and passes its frames to the worker.
    async fn read(&self, reader: &mut Reader, frames: &Handover) -> End {
        loop {
            match reader.next().await {
                Ok(Inbound::Text(text)) => {
                    // While the session is full, the socket is not read. A pong waiting in it unread is not the
                    // client's fault.
                    self.reading.store(false, Ordering::Relaxed);
                    frames.give(text).await;
                    self.reading.store(true, Ordering::Relaxed);
                }
                Ok(Inbound::Ping(payload)) => self.outbox.push(WireFrame::pong(&payload), Class::Ephemeral),
                Ok(Inbound::Pong) => self.awaiting_pong.store(false, Ordering::Relaxed),
                #[cfg(feature = "conformance")]
                Ok(Inbound::Binary(_)) => return End::Close(Close::Unsupported),
                Err(end) => return end,
            }
        }
    }

    /// Sends pings, waits for pongs, and watches the token's expiry.
    async fn watch_clock(&self) -> Close {
        let Limits { ping_interval, pong_timeout, .. } = self.services.limits;
        let mut next_ping = Instant::now() + ping_interval;
        let mut pong_by = None;
        loop {
            let token_ends = Instant::now() + self.until_token_ends();
            let next = pong_by.unwrap_or(next_ping).min(token_ends);
            sleep_until(next).await;
            // A refresh may have moved the expiry meanwhile.
            if self.until_token_ends().is_zero() {
                return Close::TokenExpired;
            }
            let now = Instant::now();
            match pong_by {
                Some(by) if now >= by => {
                    let silent = self.awaiting_pong.load(Ordering::Relaxed) && self.reading.load(Ordering::Relaxed);
                    if silent {
                        return Close::NoPong;
                    }
                    pong_by = None;
                }
                None if now >= next_ping => {
                    self.awaiting_pong.store(true, Ordering::Relaxed);
                    self.outbox.push(WireFrame::ping(), Class::Durable);
                    pong_by = Some(now + pong_timeout);
                    next_ping += ping_interval;
                }
                _ => {}
            }
        }
    }

    fn until_token_ends(&self) -> Duration {
        let end = Timestamp(self.expires_at.load(Ordering::Relaxed)).plus(self.services.limits.token_grace);
        self.services.clock.now().until(end)
    }

    /// Returns when the broker drains and this socket's delay is over. Each socket picks a random delay within the
    /// given time, so that clients do not all reconnect to the other nodes at once.
    async fn drained(&self) {
        let mut draining = self.services.draining.clone();
        let Ok(spread) = draining.wait_for(Option::is_some).await.map(|spread| spread.unwrap_or_default()) else {
            // The sender is gone: nobody can ask for a drain any more.
            return std::future::pending().await;
        };
        let share = f64::from(u32::from_le_bytes(self.services.clock.random())) / f64::from(u32::MAX);
        tokio::time::sleep(spread.mul_f64(share)).await;
    }

    /// The first frame on a socket for many channels.
    fn welcome(&self, principal: &Principal) {
        let ttl = self.services.clock.now().until(principal.expires_at).as_secs();
        let frame = WireFrame::json(&Welcome {
            session: self.id,
            user: &principal.user,
            ttl,
            ping: self.services.limits.ping_interval.as_secs(),
            max_bytes: MAX_FRAME,
        });
        self.outbox.push(frame, Class::Durable);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size_of_run<A, B, F>(_: impl FnOnce(A, B) -> F) -> usize {
        size_of::<F>()
    }

    fn size_of_life<F>(_: impl FnOnce(&'static Session, &'static mut Reader) -> F) -> usize {
        size_of::<F>()
    }

    /// Most sockets are silent most of the time, and there are many.
    #[test]
    fn a_socket_at_rest_is_small() {
        let run = size_of_run(run);
        let life = size_of_life(|session, reader| session.live(reader, None));
        let (session, reader, outbox) = (size_of::<Session>(), size_of::<Reader>(), size_of::<Outbox>());
        println!("run {run}, life {life}, session {session}, reader {reader}, outbox {outbox} bytes");
        assert!(run + life + outbox <= 3_000, "run {run}, life {life}, outbox {outbox} bytes");
    }
}
