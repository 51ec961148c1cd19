//! Whether Redis answers, so that not every call has to find out by waiting.
//!
//! The first call that fails marks Redis as away for all others; one task pings until it is back. Nothing in Redis is
//! changed.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use redis::RedisError;
use redis::aio::ConnectionManager;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use super::keys::CALL;

/// The shortest and the longest pause between pings.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(500));

/// Shared by the calls and the task that pings.
pub(super) struct Reach {
    away: AtomicBool,
    lost: Notify,
}

impl Reach {
    /// Starts as reachable: Redis has just answered.
    pub(super) fn new() -> Self {
        crate::metrics::PRESENCE_CONNECTED.handle().set(1.0);
        Self { away: AtomicBool::new(false), lost: Notify::new() }
    }

    /// Whether calls would wait in vain.
    pub(super) fn is_away(&self) -> bool {
        self.away.load(Ordering::Relaxed)
    }

    /// Looks at the error of a call. Returns whether it means that Redis is away; the first such error is logged.
    pub(super) fn failed(&self, error: &RedisError) -> bool {
        let away = error.is_io_error() || error.is_connection_dropped();
        if away && !self.away.swap(true, Ordering::Relaxed) {
            tracing::warn!(%error, "lost presence");
            crate::metrics::PRESENCE_CONNECTED.handle().set(0.0);
            self.lost.notify_one();
        }
        away
    }

    /// Waits until a call has found Redis away. For the single task that then pings.
    pub(super) async fn lost(&self) {
        self.lost.notified().await;
    }

    /// Pings until Redis answers, and lets calls through again.
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
        crate::metrics::PRESENCE_CONNECTED.handle().set(1.0);
        tracing::info!("presence is back");
    }
}
