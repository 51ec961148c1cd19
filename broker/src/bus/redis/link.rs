//! The task that owns the connection: publishes, subscribes, detects a dead connection and replaces it.
//!
//! Everything passes through this one task in order, so Redis and the wanted subscriptions cannot diverge. Requests
//! that wait together are sent together. No answer is awaited for longer than [`ANSWER`].

use std::collections::HashSet;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, PushInfo, PushKind, RedisResult};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep, timeout};

use super::super::inbox::dropped;
use super::receiver::{CATALOGUE, Receiver, redis_channel};
use crate::model::ChannelKey;

/// How long connecting may take, including name resolution and log-in.
const DIAL: Duration = Duration::from_secs(5);
/// How long Redis may take to answer before the connection counts as dead.
const ANSWER: Duration = Duration::from_secs(2);
/// How often an idle connection is pinged. A silently dead one is noticed after this plus [`ANSWER`].
const PING: Duration = Duration::from_secs(1);
// The operations guide promises that a hanging Redis is noticed within three seconds.
const _: () = assert!(PING.as_millis() + ANSWER.as_millis() <= 3_000);
/// The shortest and the longest pause before the next attempt to connect.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));
/// Messages, or changes of subscriptions, in one round trip.
const BATCH: usize = 256;

/// Signals that the wanted subscriptions have changed. The receiver knows which.
pub(super) struct Change {
    /// Resolved once Redis has confirmed the change, or once the next connection is sure to include it.
    pub(super) done: oneshot::Sender<()>,
}

/// A connection, and the signal of its end.
pub(super) struct Connection {
    redis: MultiplexedConnection,
    lost: Arc<Notify>,
}

/// Connects, with pushes going to the receiver, and subscribes to announcements.
pub(super) async fn dial(client: Client, receiver: Arc<Receiver>) -> RedisResult<Connection> {
    let lost = Arc::new(Notify::new());
    let hang_up = Arc::clone(&lost);
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(None)
        .set_response_timeout(Some(ANSWER))
        .set_push_sender(move |push: PushInfo| -> Result<(), std::convert::Infallible> {
            match push.kind {
                PushKind::Disconnection => hang_up.notify_one(),
                _ => receiver.take(push),
            }
            Ok(())
        });
    let dialling = async {
        let mut redis = client.get_multiplexed_async_connection_with_config(&config).await?;
        redis.subscribe(CATALOGUE).await?;
        Ok(Connection { redis, lost })
    };
    match timeout(DIAL, dialling).await {
        Ok(dialled) => dialled,
        Err(_) => Err(io::Error::from(io::ErrorKind::TimedOut).into()),
    }
}

/// The state of the link task.
pub(super) struct Link {
    client: Client,
    address: String,
    receiver: Arc<Receiver>,
    connected: Arc<AtomicBool>,
    changes: mpsc::Receiver<Change>,
    outgoing: mpsc::Receiver<(ChannelKey, Bytes)>,
    announcement: Arc<Notify>,
    /// The Redis channels that this connection is subscribed to.
    confirmed: HashSet<String>,
    back_off: Duration,
}

impl Link {
    pub(super) fn new(
        client: Client,
        address: String,
        receiver: Arc<Receiver>,
        connected: Arc<AtomicBool>,
        changes: mpsc::Receiver<Change>,
        outgoing: mpsc::Receiver<(ChannelKey, Bytes)>,
        announcement: Arc<Notify>,
    ) -> Self {
        let confirmed = HashSet::new();
        Self { client, address, receiver, connected, changes, outgoing, announcement, confirmed, back_off: BACK_OFF.0 }
    }

    /// Serves this connection and its successors until the task is aborted.
    pub(super) async fn run(mut self, mut connection: Connection) {
        self.set_connected(true);
        loop {
            let Err(error) = self.serve(connection).await;
            self.set_connected(false);
            tracing::warn!(address = self.address, %error, "lost the bus");
            self.discard_outgoing();
            connection = self.reconnect().await;
            self.set_connected(true);
            self.receiver.missed();
            tracing::info!(address = self.address, "the bus is back");
        }
    }

    /// Carries messages and changes of subscriptions until the connection fails.
    async fn serve(&mut self, mut connection: Connection) -> RedisResult<std::convert::Infallible> {
        let mut ping = interval_at(Instant::now() + PING, PING);
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut changes = Vec::with_capacity(BATCH);
        let mut messages = Vec::with_capacity(BATCH);
        loop {
            tokio::select! {
                // Every branch is cancel-safe: what is not taken stays queued, and `Notify` keeps its permit.
                () = connection.lost.notified() => return Err(io::Error::from(io::ErrorKind::ConnectionReset).into()),
                1.. = self.changes.recv_many(&mut changes, BATCH) => {
                    self.change(&mut connection.redis, &mut changes).await?;
                }
                1.. = self.outgoing.recv_many(&mut messages, BATCH) => {
                    self.publish(&mut connection.redis, &mut messages).await?;
                }
                () = self.announcement.notified() => {
                    let announced = self.announce(&mut connection.redis).await;
                    if announced.is_err() {
                        // Sent again on the next connection.
                        self.announcement.notify_one();
                    }
                    announced?;
                }
                _ = ping.tick() => {
                    redis::cmd("PING").exec_async(&mut connection.redis).await?;
                    // For callers that gave up before there was room to signal their change.
                    self.settle_changed(&mut connection.redis).await?;
                    // Reset the pause only for a connection that has lasted. One that Redis closes at once, over and
                    // over, must not be re-established twenty times a second.
                    self.back_off = BACK_OFF.0;
                }
            }
        }
    }

    async fn publish(
        &self,
        redis: &mut MultiplexedConnection,
        messages: &mut Vec<(ChannelKey, Bytes)>,
    ) -> RedisResult<()> {
        let mut pipeline = redis::Pipeline::with_capacity(messages.len());
        for (channel, message) in messages.iter() {
            let name = redis_channel(channel);
            let sealed = self.receiver.seal(&name, message);
            pipeline.cmd("PUBLISH").arg(name).arg(sealed).ignore();
        }
        let published = pipeline.exec_async(redis).await;
        if published.is_err() {
            dropped("disconnected", messages.len());
        }
        messages.clear();
        published
    }

    async fn announce(&self, redis: &mut MultiplexedConnection) -> RedisResult<()> {
        redis::cmd("PUBLISH").arg(CATALOGUE).arg(self.receiver.seal(CATALOGUE, &[])).exec_async(redis).await
    }

    async fn change(&mut self, redis: &mut MultiplexedConnection, changes: &mut Vec<Change>) -> RedisResult<()> {
        let settled = self.settle_changed(redis).await;
        // If that failed, the connection is lost, and the next one starts with everything wanted.
        for change in changes.drain(..) {
            let _ = change.done.send(());
        }
        settled
    }

    async fn settle_changed(&mut self, redis: &mut MultiplexedConnection) -> RedisResult<()> {
        let names = self.receiver.take_changed().into_iter().collect();
        self.settle(redis, names).await
    }

    /// Brings the subscriptions of these Redis channels to what is wanted. Returns once Redis has confirmed.
    async fn settle(&mut self, redis: &mut MultiplexedConnection, mut names: Vec<String>) -> RedisResult<()> {
        names.retain(|name| self.receiver.wants(name) != self.confirmed.contains(name));
        let (begin, end): (Vec<_>, Vec<_>) = names.into_iter().partition(|name| self.receiver.wants(name));
        for names in begin.chunks(BATCH) {
            redis.subscribe(names).await?;
            self.confirmed.extend(names.iter().cloned());
        }
        for names in end.chunks(BATCH) {
            redis.unsubscribe(names).await?;
            for name in names {
                self.confirmed.remove(name);
            }
        }
        Ok(())
    }

    /// Retries until there is a connection with all subscriptions. Changes are recorded meanwhile.
    async fn reconnect(&mut self) -> Connection {
        loop {
            let attempt = async {
                let mut connection = self.attempt().await?;
                self.confirmed.clear();
                self.settle(&mut connection.redis, self.receiver.all_wanted()).await?;
                Ok::<_, redis::RedisError>(connection)
            };
            match attempt.await {
                Ok(connection) => return connection,
                Err(error) => tracing::debug!(address = self.address, %error, "the bus is still unreachable"),
            }
        }
    }

    async fn attempt(&mut self) -> RedisResult<Connection> {
        let (client, receiver, wait) = (self.client.clone(), Arc::clone(&self.receiver), self.back_off);
        self.back_off = (wait * 2).min(BACK_OFF.1);
        let dialling = async move {
            sleep(wait).await;
            dial(client, receiver).await
        };
        tokio::pin!(dialling);
        loop {
            tokio::select! {
                dialled = &mut dialling => return dialled,
                Some(change) = self.changes.recv() => {
                    // The next connection starts with whatever is wanted by then.
                    self.receiver.take_changed();
                    let _ = change.done.send(());
                }
            }
        }
    }

    fn set_connected(&self, connected: bool) {
        self.connected.store(connected, Ordering::Relaxed);
        crate::metrics::BUS_CONNECTED.handle().set(if connected { 1.0 } else { 0.0 });
    }

    fn discard_outgoing(&mut self) {
        let mut messages = 0;
        while self.outgoing.try_recv().is_ok() {
            messages += 1;
        }
        if messages > 0 {
            dropped("disconnected", messages);
        }
    }
}
