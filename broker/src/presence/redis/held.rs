//! The sessions this node has entered, and the task that keeps their entries in Redis alive.
//!
//! A renewal also puts back what Redis has lost, so it must never meet a session that is just leaving: both pass the
//! same gate. It decides nothing about who is present.

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

/// How many entries one round trip renews.
const BATCH: usize = 256;

/// What this node has to renew.
#[derive(Default)]
pub(super) struct Held {
    channels: Mutex<HashMap<ChannelKey, HashMap<SessionId, User>>>,
    /// Open to any number of leaving sessions at once, or to one batch of a renewal.
    gate: RwLock<()>,
}

impl Held {
    /// Notes a session, which renewals then keep or put back.
    pub(super) fn add(&self, channel: &ChannelKey, user: &User, session: SessionId) {
        self.channels.lock().entry(channel.clone()).or_default().insert(session, user.clone());
    }

    /// Forgets a session. A renewal that is under way may still hold it; see [`Held::between_renewals`].
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

    /// All sessions, those of a channel one after the other.
    fn all(&self) -> Vec<(ChannelKey, SessionId)> {
        let channels = self.channels.lock();
        let sessions =
            channels.iter().flat_map(|(channel, sessions)| sessions.keys().map(|session| (channel.clone(), *session)));
        sessions.collect()
    }

    /// The commands that renew those sessions of a batch that are still held.
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
    let mut turn = interval_at(Instant::now() + lease / 3, lease / 3);
    turn.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = turn.tick() => {}
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
    // A pipeline cannot load a script that a restarted Redis does not know, so each turn loads it first.
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
