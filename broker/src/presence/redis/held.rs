//! The sessions this node has entered, and the task that renews their leases.
//!
//! A renewal also restores entries that Redis has lost, so it must never overlap with a session that is leaving: both
//! take the same gate.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use redis::aio::ConnectionManager;
use redis::{Pipeline, RedisResult, Script};
use tokio::sync::{RwLock, RwLockReadGuard};
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::keys::{millis, names, script};
use super::reach::Reach;
use crate::model::{ChannelKey, SessionId, User};

/// Entries renewed in one round trip.
const BATCH: usize = 256;

/// The sessions that this node renews.
#[derive(Default)]
pub(super) struct Held {
    channels: Mutex<HashMap<ChannelKey, HashMap<SessionId, User>>>,
    /// Shared by leaving sessions, exclusive for one batch of a renewal. Acquired before `channels`.
    gate: RwLock<()>,
}

impl Held {
    /// Adds a session, which renewals then keep or restore.
    pub(super) fn add(&self, channel: &ChannelKey, user: &User, session: SessionId) {
        self.channels.lock().entry(channel.clone()).or_default().insert(session, user.clone());
    }

    /// Removes a session. A renewal under way may still include it; see [`Held::between_renewals`].
    pub(super) fn remove(&self, channel: &ChannelKey, session: SessionId) {
        let mut channels = self.channels.lock();
        if let Some(sessions) = channels.get_mut(channel) {
            sessions.remove(&session);
            if sessions.is_empty() {
                channels.remove(channel);
            }
        }
    }

    /// No renewal runs until the guard is dropped.
    pub(super) async fn between_renewals(&self) -> RwLockReadGuard<'_, ()> {
        self.gate.read().await
    }

    /// All sessions, grouped by channel.
    fn all(&self) -> Vec<(ChannelKey, SessionId)> {
        let channels = self.channels.lock();
        let sessions =
            channels.iter().flat_map(|(channel, sessions)| sessions.keys().map(|session| (channel.clone(), *session)));
        sessions.collect()
    }

    /// The commands that renew those sessions of a batch that are still held. Built under the gate, so a session that
    /// has left is not restored.
    fn renewals(&self, batch: &[(ChannelKey, SessionId)], script: &Script, lease: Duration) -> Pipeline {
        let channels = self.channels.lock();
        let mut pipeline = Pipeline::new();
        for part in batch.chunk_by(|(left, _), (right, _)| left == right) {
            let (channel, _) = &part[0];
            let Some(sessions) = channels.get(channel) else { continue };
            let command = pipeline.cmd("EVALSHA").arg(script.get_hash()).arg(2).arg(&names(channel)).arg(millis(lease));
            for (_, session) in part {
                if let Some(user) = sessions.get(session) {
                    command.arg(user.id.as_str()).arg(session.to_string()).arg(user.username.as_str());
                }
            }
            command.ignore();
        }
        pipeline
    }
}

/// Renews everything three times within a lease, and when Redis is back, until the task is aborted.
pub(super) async fn renew(held: Arc<Held>, reach: Arc<Reach>, mut redis: ConnectionManager, lease: Duration) {
    let script = script!("renew.lua");
    let mut renewal = interval_at(Instant::now() + lease / 3, lease / 3);
    renewal.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = renewal.tick() => {}
            () = reach.lost() => reach.until_back(&mut redis).await,
        }
        if let Err(error) = renew_once(&held, &mut redis, &script, lease).await
            && !reach.failed(&error)
        {
            tracing::warn!(%error, "failed to renew presence");
        }
    }
}

async fn renew_once(held: &Held, redis: &mut ConnectionManager, script: &Script, lease: Duration) -> RedisResult<()> {
    let all = held.all();
    if all.is_empty() {
        return Ok(());
    }
    // A pipeline cannot load a script that a restarted Redis does not know, so load it first every time.
    script.load_async(redis).await?;
    for batch in all.chunks(BATCH) {
        let _alone = held.gate.write().await;
        let pipeline = held.renewals(batch, script, lease);
        if !pipeline.is_empty() {
            pipeline.exec_async(redis).await?;
        }
    }
    Ok(())
}
