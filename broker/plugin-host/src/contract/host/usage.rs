//! Accounts for the processor time of one call.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;
use wasmtime::UpdateDeadline;

use crate::limits::Bounds;

/// The time used by one call. The thread that polls the call updates it; the epoch callback reads it on the same
/// thread. A permit that is dropped early reads it from elsewhere. Each value stands alone and publishes nothing else,
/// so every access is `Relaxed`.
#[derive(Debug)]
pub(crate) struct Usage {
    /// The zero point of `resumed`.
    base: Instant,
    /// When the guest was last polled, in nanoseconds since `base`.
    resumed: AtomicU64,
    /// Processor time of finished polls, in nanoseconds.
    used: AtomicU64,
    /// Processor time allowed, in nanoseconds.
    most: AtomicU64,
    /// Whether a tick has found the call running.
    slow: AtomicBool,
}

impl Usage {
    pub(crate) fn new() -> Self {
        let zero = || AtomicU64::new(0);
        Self { base: Instant::now(), resumed: zero(), used: zero(), most: zero(), slow: AtomicBool::new(false) }
    }

    /// Starts a call with this much processor time.
    pub(crate) fn begin(&self, most: Duration) {
        self.used.store(0, Ordering::Relaxed);
        self.most.store(nanos(most), Ordering::Relaxed);
        self.slow.store(false, Ordering::Relaxed);
    }

    /// Decides about a guest that reached an epoch check after a tick. The poll under way is not in `used` yet, so a
    /// guest can overrun its limit by a tick or two.
    pub(crate) fn tick(&self) -> UpdateDeadline {
        if self.used.load(Ordering::Relaxed) >= self.most.load(Ordering::Relaxed) {
            return UpdateDeadline::Interrupt;
        }
        // Epochs advance with the clock. A guest that waited for a read, or was only just resumed, has not run for a
        // whole tick.
        let running = nanos(self.base.elapsed()).saturating_sub(self.resumed.load(Ordering::Relaxed));
        if running < nanos(Bounds::TICK) / 2 {
            return UpdateDeadline::Continue(1);
        }
        self.slow.store(true, Ordering::Relaxed);
        UpdateDeadline::Yield(1)
    }

    /// Marks the call as slow and yields, so that uninterruptible host work that follows runs in the background.
    pub(crate) async fn move_to_background(&self) {
        self.slow.store(true, Ordering::Relaxed);
        tokio::task::yield_now().await;
    }

    pub(crate) fn resume(&self, now: Instant) {
        self.resumed.store(nanos(now.duration_since(self.base)), Ordering::Relaxed);
    }

    pub(crate) fn add(&self, used: Duration) {
        self.used.fetch_add(nanos(used), Ordering::Relaxed);
    }

    /// Processor time used so far.
    pub(crate) fn used(&self) -> Duration {
        Duration::from_nanos(self.used.load(Ordering::Relaxed))
    }

    /// Whether a tick has found the call running.
    pub(crate) fn is_slow(&self) -> bool {
        self.slow.load(Ordering::Relaxed)
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
