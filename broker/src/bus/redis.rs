//! The bus between nodes that share a Redis: its pub/sub. Needs Redis 6 or newer, for RESP3.
//!
//! One task, the link, owns the only connection; see `link`. Only [`RedisBus::connect`] and changes of subscriptions
//! wait for Redis. Redis stores none of the messages.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use redis::io::tcp::TcpSettings;
use redis::{Client, IntoConnectionInfo, ProtocolVersion};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio::time::timeout;

use self::link::{Change, Link};
use self::receiver::Receiver;
use super::inbox::{InboxSender, dropped};
use super::{Bus, BusError, Inbox, QUEUE};
use crate::model::{ChannelKey, Clock};

mod link;
mod receiver;
mod seal;

pub use seal::{BusKeys, NodeId, Unopened};

/// Callers that may queue for the link to change subscriptions; further ones wait for room.
const CHANGES: usize = 1_024;

/// How long a caller waits for Redis to confirm a change of subscriptions.
const CHANGE: Duration = Duration::from_secs(1);

/// This node's end of the bus. Dropping it closes the connection and ends the inbox.
pub struct RedisBus {
    address: String,
    receiver: Arc<Receiver>,
    connected: Arc<AtomicBool>,
    changes: mpsc::Sender<Change>,
    outgoing: mpsc::Sender<(ChannelKey, Bytes)>,
    /// Holds one announcement until the link has a connection for it. Several merge into one.
    announcement: Arc<Notify>,
    link: AbortHandle,
}

impl RedisBus {
    /// Connects within 5 s or fails. Later, a lost connection is re-established automatically.
    ///
    /// `url` is `redis://[user][:password@]host[:port]`. Nodes hear each other only if their `keys` agree. The clock supplies
    /// the random id by which this node recognizes its own messages, and the time of each message.
    ///
    /// # Errors
    ///
    /// [`BusError::Address`] if the URL is malformed, [`BusError::Unreachable`] if nothing answers there or it refuses.
    /// Neither text contains credentials.
    pub async fn connect(url: &str, keys: BusKeys, clock: &Clock) -> Result<(Self, Inbox), BusError> {
        let (client, address) = open(url).map_err(|error| BusError::Address(error.into()))?;
        let (sender, inbox) = InboxSender::new();
        let receiver = Arc::new(Receiver::new(keys, clock.clone(), sender));
        let connected = Arc::new(AtomicBool::new(true));
        let (changes, changes_in) = mpsc::channel(CHANGES);
        let (outgoing, outgoing_in) = mpsc::channel(QUEUE);

        let connection = link::dial(client.clone(), Arc::clone(&receiver))
            .await
            .map_err(|error| BusError::Unreachable { address: address.clone(), source: error.into() })?;
        let announcement = Arc::new(Notify::new());
        let link = Link::new(
            client,
            address.clone(),
            Arc::clone(&receiver),
            Arc::clone(&connected),
            changes_in,
            outgoing_in,
            Arc::clone(&announcement),
        );
        let link = tokio::spawn(link.run(connection)).abort_handle();
        Ok((Self { address, receiver, connected, changes, outgoing, announcement, link }, inbox))
    }

    async fn change(&self, channel: &ChannelKey, wanted: bool) -> Result<(), BusError> {
        // Recorded before any waiting: the link passes it to Redis even if this caller goes away.
        self.receiver.want(channel, wanted);
        let telling = async {
            let (done, settled) = oneshot::channel();
            self.changes.send(Change { done }).await.ok()?;
            settled.await.ok()
        };
        let source: Box<dyn std::error::Error + Send + Sync> = match timeout(CHANGE, telling).await {
            Ok(Some(())) => return Ok(()),
            Ok(None) => "the connection has ended".into(),
            Err(_) => io::Error::from(io::ErrorKind::TimedOut).into(),
        };
        Err(BusError::Unreachable { address: self.address.clone(), source })
    }
}

#[async_trait]
impl Bus for RedisBus {
    fn publish(&self, channel: &ChannelKey, message: Bytes) {
        if !self.is_connected() {
            return dropped("disconnected", 1);
        }
        match self.outgoing.try_send((channel.clone(), message)) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(_)) => dropped("queue_full", 1),
            Err(mpsc::error::TrySendError::Closed(_)) => dropped("disconnected", 1),
        }
    }

    fn announce(&self) {
        self.announcement.notify_one();
    }

    async fn subscribe(&self, channel: &ChannelKey) -> Result<(), BusError> {
        self.change(channel, true).await
    }

    async fn unsubscribe(&self, channel: &ChannelKey) -> Result<(), BusError> {
        self.change(channel, false).await
    }

    fn is_alone(&self) -> bool {
        // Other connections are not visible from here.
        false
    }

    fn is_connected(&self) -> bool {
        self.connected.load(Ordering::Relaxed)
    }
}

impl Drop for RedisBus {
    fn drop(&mut self) {
        self.link.abort();
    }
}

/// Parses the URL. The string is host and port only, safe to show.
fn open(url: &str) -> redis::RedisResult<(Client, String)> {
    let info = url.into_connection_info()?;
    let settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
    let info = info.set_redis_settings(settings).set_tcp_settings(TcpSettings::default().set_nodelay(true));
    let address = info.addr().to_string();
    Ok((Client::open(info)?, address))
}
