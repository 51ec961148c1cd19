//! Presence for nodes that share a Redis (6 or newer).
//!
//! A channel has two sorted sets with the same entries, one for each session. `switchboard:pr:<tenant>:<channel>` is
//! sorted by user id; it answers who is present, and whether a member has another session, at a cost that does not grow
//! with the channel. The same name with the suffix `:lease` is sorted by expiry. Only the scripts in `redis/` touch the
//! two, so they always agree, and all times are Redis's own.
//!
//! Nobody is told when an entry expires.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::io::tcp::TcpSettings;
use redis::{Client, IntoConnectionInfo, ProtocolVersion, RedisResult, Script, ScriptInvocation};
use tokio::task::AbortHandle;
use tokio::time::timeout;

use self::held::Held;
use self::keys::{CALL, millis, names, script};
use self::reach::Reach;
use super::{Presence, PresenceError};
use crate::model::{ChannelKey, SessionId, User, UserId};

mod held;
mod keys;
mod reach;

/// How long the first connection may take.
const CONNECT: Duration = Duration::from_secs(5);

/// Presence over all nodes that use the same Redis.
pub struct RedisPresence {
    redis: ConnectionManager,
    lease: Duration,
    held: Arc<Held>,
    reach: Arc<Reach>,
    enter: Script,
    leave: Script,
    present: Script,
    renewal: AbortHandle,
}

impl RedisPresence {
    /// Connects within 5 s or fails. Later, a lost connection is re-established automatically, and entries that Redis
    /// lost come back with the next renewal.
    ///
    /// `url` is `redis://[user][:password@]host[:port]`. `lease` is [`LEASE`](super::LEASE) except in tests, and at
    /// least one millisecond. All nodes must use the same.
    ///
    /// # Errors
    ///
    /// If the URL is malformed, nothing answers there, or it refuses. The text contains no credentials.
    pub async fn connect(url: &str, lease: Duration) -> Result<Self, PresenceError> {
        let redis = connect(url).await?;
        let held = Arc::new(Held::default());
        let reach = Arc::new(Reach::new());
        let renewing = held::renew(Arc::clone(&held), Arc::clone(&reach), redis.clone(), lease);
        let renewal = tokio::spawn(renewing).abort_handle();
        Ok(Self {
            redis,
            lease,
            held,
            reach,
            enter: script!("enter.lua"),
            leave: script!("leave.lua"),
            present: script!("present.lua"),
            renewal,
        })
    }

    async fn call<T: redis::FromRedisValue>(&self, script: &ScriptInvocation<'_>) -> RedisResult<T> {
        script.invoke_async(&mut self.redis.clone()).await
    }

    /// Bounds a call by [`CALL`], and fails at once while Redis is known to be away.
    async fn bounded<T>(&self, call: impl Future<Output = RedisResult<T>>) -> Result<T, PresenceError> {
        if self.reach.is_away() {
            return Err(PresenceError("Redis is unreachable".into()));
        }
        let answer = timeout(CALL, call).await.unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut).into()));
        answer.map_err(|error| {
            self.reach.failed(&error);
            PresenceError(error.into())
        })
    }
}

#[async_trait]
impl Presence for RedisPresence {
    async fn enter(&self, channel: &ChannelKey, user: &User, session: SessionId) -> Result<bool, PresenceError> {
        let mut script = keys(&self.enter, channel);
        script.arg(millis(self.lease)).arg(user.id.as_str()).arg(session.to_string()).arg(user.username.as_str());
        let first = self.bounded(self.call(&script)).await;
        // Not earlier: a renewal could run first and make this session look like a second one. Also after a failure, so
        // that the session is recorded once Redis is back.
        self.held.add(channel, user, session);
        first
    }

    async fn leave(&self, channel: &ChannelKey, user: &User, session: SessionId) -> Result<bool, PresenceError> {
        self.held.remove(channel, session);
        self.bounded(async {
            let _between_renewals = self.held.between_renewals().await;
            let mut script = keys(&self.leave, channel);
            script.arg(user.id.as_str()).arg(session.to_string());
            self.call(&script).await
        })
        .await
    }

    async fn present(
        &self,
        channel: &ChannelKey,
        after: Option<&UserId>,
        limit: usize,
    ) -> Result<Vec<User>, PresenceError> {
        let mut script = keys(&self.present, channel);
        script.arg(limit).arg(after.map(UserId::as_str).unwrap_or_default());
        let found: Vec<(String, String)> = self.bounded(self.call(&script)).await?;
        let users = found.into_iter().map(|(id, username)| Ok(User { id: id.parse()?, username: username.parse()? }));
        users.collect::<Result<_, crate::model::InvalidId>>().map_err(|error| PresenceError(error.into()))
    }
}

impl Drop for RedisPresence {
    fn drop(&mut self) {
        self.renewal.abort();
    }
}

async fn connect(url: &str) -> Result<ConnectionManager, PresenceError> {
    let info = url.into_connection_info().map_err(|error| PresenceError(error.into()))?;
    let settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
    let tcp = TcpSettings::default().set_nodelay(true);
    // Ends connections whose peer has vanished silently. With RESP3 that is noticed, and the connection replaced,
    // before the next call.
    #[cfg(target_os = "linux")]
    let tcp = tcp.set_user_timeout(CONNECT);
    let info = info.set_redis_settings(settings).set_tcp_settings(tcp);
    let address = info.addr().to_string();
    // No retries: the next call makes the next attempt anyway.
    let config = ConnectionManagerConfig::new()
        .set_connection_timeout(Some(CONNECT))
        .set_response_timeout(Some(CALL))
        .set_number_of_retries(0);
    let connecting = async { ConnectionManager::new_with_config(Client::open(info)?, config).await };
    let connected: RedisResult<_> = connecting.await;
    connected.map_err(|error| PresenceError(format!("{address}: {error}").into()))
}

fn keys<'a>(script: &'a Script, channel: &ChannelKey) -> ScriptInvocation<'a> {
    let [entries, leases] = names(channel);
    let mut invocation = script.key(entries);
    invocation.key(leases);
    invocation
}
