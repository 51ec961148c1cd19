//! Whether Redis answers, so that not each call has to find out by waiting for it.
//!
//! The first call that finds it away says so to all; one task asks until it is back. It changes nothing in Redis.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use redis::RedisError;
use redis::aio::ConnectionManager;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use super::keys::CALL;

/// The shortest and the longest wait before the next question.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(500));

/// What the calls and the task know together.
pub(super) struct Reach {
    away: AtomicBool,
    lost: Notify,
}

impl Reach {
    /// Redis has just answered.
    pub(super) fn new() -> Self {
        metrics::gauge!("switchboard_presence_connected").set(1.0);
        Self { away: AtomicBool::new(false), lost: Notify::new() }
    }

    /// Whether calls would wait in vain.
    pub(super) fn is_away(&self) -> bool {
        self.away.load(Ordering::Relaxed)
    }

    /// Takes the error of a call. `true`: it means that Redis is away, and that has been said.
    pub(super) fn failed(&self, error: &RedisError) -> bool {
        let away = error.is_io_error() || error.is_connection_dropped();
        if away && !self.away.swap(true, Ordering::Relaxed) {
            tracing::warn!(%error, "lost presence");
            metrics::gauge!("switchboard_presence_connected").set(0.0);
            self.lost.notify_one();
        }
        away
    }

    /// Returns when a call has found Redis away. For the one task that then waits for its return.
    pub(super) async fn lost(&self) {
        self.lost.notified().await;
    }

    /// Asks until Redis answers, and lets the calls through again.
    pub(super) async fn until_back(&self, redis: &mut ConnectionManager) {
        let mut wait = BACK_OFF.0;
        loop {
            sleep(wait).await;
            wait = (wait * 2).min(BACK_OFF.1);
            if let Ok(Ok(())) = timeout(CALL, redis::cmd("PING").exec_async(redis)).await {
                break;
            }
        }
        self.away.store(false, Ordering::Relaxed);
        metrics::gauge!("switchboard_presence_connected").set(1.0);
        tracing::info!("presence is back");
    }
}
