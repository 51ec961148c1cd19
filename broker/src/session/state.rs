//! What all sessions work with, and what the parts of one session share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64};
use std::time::Duration;

use bytes::Bytes;
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::places::Places;
use super::roster::Roster;
use crate::config::Limits;
use crate::hub::Outbox;
use crate::identity::Identity;
use crate::model::{ClientAddress, Clock, SessionId};
use crate::presence::Presence;
use crate::relay::Relay;
use crate::router::Router;
use crate::store::Store;

/// What sessions work with.
pub struct Services {
    /// Who is behind a token.
    pub identity: Arc<Identity>,
    /// Where frames go.
    pub router: Arc<Router>,
    /// Where channels' frames come from.
    pub relay: Arc<Relay>,
    /// What a channel looks like.
    pub store: Arc<dyn Store>,
    /// Who is where.
    pub presence: Arc<dyn Presence>,
    /// Time and ids.
    pub clock: Clock,
    /// Bounds.
    pub limits: Limits,
    /// Who may have a socket.
    pub places: Arc<Places>,
    /// Set when the broker is going away: over which time its sockets are to close.
    pub draining: watch::Receiver<Option<Duration>>,
    /// Who is in which channel.
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
    /// One channel.
    One {
        /// Its name in the path, as the client wrote it.
        channel: String,
        /// The position to go on from, as the client wrote it.
        since: Option<String>,
    },
    /// Any number of channels, by `subscribe`.
    Many,
}

/// A socket whose handshake is done.
#[derive(Debug)]
pub struct Arrival {
    /// The connection.
    pub stream: TcpStream,
    /// What came right behind the handshake.
    pub early: Bytes,
    /// What it is for.
    pub scope: Scope,
    /// The token it brought, if any.
    pub token: Option<String>,
    /// Where it is from.
    pub address: ClientAddress,
}

/// What the parts of one session share.
pub(super) struct Session {
    pub(super) services: Arc<Services>,
    pub(super) id: SessionId,
    pub(super) outbox: Arc<Outbox>,
    pub(super) scope: Scope,
    pub(super) address: ClientAddress,
    /// Milliseconds since the epoch; moved by `auth.refresh`.
    pub(super) expires_at: AtomicI64,
    pub(super) awaiting_pong: AtomicBool,
    /// Whether the socket is being read; not while too many of its frames wait.
    pub(super) reading: AtomicBool,
    /// Frames that still wait are given up.
    pub(super) out_of_time: AtomicBool,
}
