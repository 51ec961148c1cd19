//! What all sessions share, and what the parts of one session share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64};
use std::time::Duration;

use bytes::Bytes;
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::live::LiveSessions;
use super::permits::SocketPermits;
use super::roster::Roster;
use super::unfinished::Unfinished;
use crate::config::Limits;
use crate::hub::Outbox;
use crate::identity::Identity;
use crate::model::{ClientAddress, Clock, SessionId};
use crate::presence::Presence;
use crate::rates::Rates;
use crate::relay::Relay;
use crate::router::Router;
use crate::store::Store;

pub struct Services {
    pub identity: Arc<Identity>,
    pub router: Arc<Router>,
    pub relay: Arc<Relay>,
    pub store: Arc<dyn Store>,
    pub presence: Arc<dyn Presence>,
    pub clock: Clock,
    pub limits: Limits,
    pub permits: Arc<SocketPermits>,
    pub live: Arc<LiveSessions>,
    pub rates: Arc<Rates>,
    pub unfinished: Arc<Unfinished>,
    /// Set when the broker drains: the time over which its sockets close.
    pub draining: watch::Receiver<Option<Duration>>,
    pub roster: Arc<Roster>,
}

impl std::fmt::Debug for Services {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Services").finish_non_exhaustive()
    }
}

/// What a socket is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    One {
        /// As the client wrote it in the path.
        channel: String,
        /// The position to resume from, as the client wrote it.
        since: Option<String>,
    },
    /// Any number of channels, through `subscribe`.
    Many,
    /// Whatever comes is sent back.
    #[cfg(feature = "conformance")]
    Echo,
}

/// A socket after its handshake.
#[derive(Debug)]
pub struct Arrival {
    pub stream: TcpStream,
    /// Bytes that arrived right behind the handshake.
    pub early: Bytes,
    pub scope: Scope,
    /// The token sent with the handshake, if there was one.
    pub token: Option<String>,
    pub address: ClientAddress,
}

/// What the parts of one session share.
pub(super) struct Session {
    pub(super) services: Arc<Services>,
    pub(super) id: SessionId,
    pub(super) outbox: Arc<Outbox>,
    pub(super) scope: Scope,
    pub(super) address: ClientAddress,
    /// Milliseconds since the Unix epoch. `auth.refresh` moves it.
    pub(super) expires_at: AtomicI64,
    pub(super) awaiting_pong: AtomicBool,
    /// Whether the socket is being read. False while the session is full, when a pong may wait unread in the socket.
    pub(super) reading: AtomicBool,
    /// Set when frames that have not begun are to be given up.
    pub(super) out_of_time: AtomicBool,
}
