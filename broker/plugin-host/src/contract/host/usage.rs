//! How much time one call has used, counted where it runs and read when a tick finds it running.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;
use wasmtime::UpdateDeadline;

use crate::limits::Bounds;

/// What one call has used up to now. Set by who runs it, and read when a tick finds it running.
#[derive(Debug)]
pub(crate) struct Usage {
    /// What the times below count from.
    base: Instant,
    /// When the guest was last let go on, in nanoseconds.
    resumed: AtomicU64,
    /// Time on a processor, in nanoseconds.
    used: AtomicU64,
    /// How much it may use, in nanoseconds.
    most: AtomicU64,
    /// Whether a tick has found it running.
    slow: AtomicBool,
}

impl Usage {
    pub(crate) fn new() -> Self {
        let zero = || AtomicU64::new(0);
        Self { base: Instant::now(), resumed: zero(), used: zero(), most: zero(), slow: AtomicBool::new(false) }
    }

    /// Begins a call that may use so much.
    pub(crate) fn begin(&self, most: Duration) {
        self.used.store(0, Ordering::Relaxed);
        self.most.store(nanos(most), Ordering::Relaxed);
        self.slow.store(false, Ordering::Relaxed);
    }

    /// What is to become of a guest that a tick has found running.
    pub(crate) fn tick(&self) -> UpdateDeadline {
        if self.used.load(Ordering::Relaxed) >= self.most.load(Ordering::Relaxed) {
            return UpdateDeadline::Interrupt;
        }
        // Epochs pass on the clock. One that waited for a read meanwhile, or has just gone on, has not run for a tick.
        let running = nanos(self.base.elapsed()).saturating_sub(self.resumed.load(Ordering::Relaxed));
        if running < nanos(Bounds::TICK) / 2 {
            return UpdateDeadline::Continue(1);
        }
        self.slow.store(true, Ordering::Relaxed);
        UpdateDeadline::Yield(1)
    }

    /// Lets what follows run in the background, because no tick could interrupt it.
    pub(crate) async fn move_to_background(&self) {
        self.slow.store(true, Ordering::Relaxed);
        tokio::task::yield_now().await;
    }

    /// Notes that the guest is let go on now.
    pub(crate) fn resume(&self, now: Instant) {
        self.resumed.store(nanos(now.duration_since(self.base)), Ordering::Relaxed);
    }

    pub(crate) fn add(&self, used: Duration) {
        self.used.fetch_add(nanos(used), Ordering::Relaxed);
    }

    /// Time on a processor up to now.
    pub(crate) fn used(&self) -> Duration {
        Duration::from_nanos(self.used.load(Ordering::Relaxed))
    }

    /// Whether a tick has found it running.
    pub(crate) fn is_slow(&self) -> bool {
        self.slow.load(Ordering::Relaxed)
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
