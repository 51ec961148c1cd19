//! The task that owns the connection: publishes, subscribes, notices a dead connection and makes a new one.
//!
//! Everything goes through the one task in the order it came, so Redis and the wanted subscriptions cannot come apart.
//! Requests that wait together travel together. No answer is waited for longer than [`ANSWER`].

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

/// How long making a connection may take, name look-up and log-in included.
const DIAL: Duration = Duration::from_secs(5);
/// How long Redis may take to answer before the connection counts as dead.
const ANSWER: Duration = Duration::from_secs(2);
/// How often an idle connection is asked for a sign of life; a silent death shows after this and [`ANSWER`].
const PING: Duration = Duration::from_secs(1);
// What docs/operations.md promises: that Redis hangs is noticed within three seconds.
const _: () = assert!(PING.as_millis() + ANSWER.as_millis() <= 3_000);
/// The shortest and the longest wait before the next attempt to connect.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));
/// How many messages or changes of subscriptions go to Redis at once.
const BATCH: usize = 256;

/// Word that other subscriptions are wanted. The receiver knows which.
pub(super) struct Change {
    /// Told once Redis has confirmed the change, or will get it with the next connection.
    pub(super) done: oneshot::Sender<()>,
}

/// A connection, and word of its end.
pub(super) struct Connection {
    redis: MultiplexedConnection,
    lost: Arc<Notify>,
}

/// Makes a connection whose pushes go to the receiver, and on which announcements of other nodes come in.
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

/// The state of the task.
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
    /// A link that has not run yet.
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

    /// Serves the connection, and each one after it, until the task is aborted.
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
                        // It goes out with the next connection.
                        self.announcement.notify_one();
                    }
                    announced?;
                }
                _ = ping.tick() => {
                    redis::cmd("PING").exec_async(&mut connection.redis).await?;
                    // Of those who told nobody, because they did not wait for room.
                    self.settle_changed(&mut connection.redis).await?;
                    // Only a connection that has lasted starts the next wait over: one that Redis closes at once,
                    // again and again, must not be made anew twenty times a second.
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
            pipeline.cmd("PUBLISH").arg(redis_channel(channel)).arg(self.receiver.mark(message)).ignore();
        }
        let published = pipeline.exec_async(redis).await;
        if published.is_err() {
            dropped("disconnected", messages.len());
        }
        messages.clear();
        published
    }

    async fn announce(&self, redis: &mut MultiplexedConnection) -> RedisResult<()> {
        redis::cmd("PUBLISH").arg(CATALOGUE).arg(self.receiver.mark(&[])).exec_async(redis).await
    }

    async fn change(&mut self, redis: &mut MultiplexedConnection, changes: &mut Vec<Change>) -> RedisResult<()> {
        let settled = self.settle_changed(redis).await;
        // When that failed the connection is lost, and the next one begins with what is wanted.
        for change in changes.drain(..) {
            let _ = change.done.send(());
        }
        settled
    }

    async fn settle_changed(&mut self, redis: &mut MultiplexedConnection) -> RedisResult<()> {
        let names = self.receiver.take_changed().into_iter().collect();
        self.settle(redis, names).await
    }

    /// Brings the subscriptions of some Redis channels to what is wanted, and returns when Redis has confirmed it.
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

    /// Tries until there is a connection that has all the subscriptions. Changes are noted meanwhile.
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
                Err(error) => tracing::debug!(address = self.address, %error, "the bus is still away"),
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
                    // The next connection begins with what is wanted by then.
                    self.receiver.take_changed();
                    let _ = change.done.send(());
                }
            }
        }
    }

    fn set_connected(&self, connected: bool) {
        self.connected.store(connected, Ordering::Relaxed);
        metrics::gauge!("switchboard_bus_connected").set(if connected { 1.0 } else { 0.0 });
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
