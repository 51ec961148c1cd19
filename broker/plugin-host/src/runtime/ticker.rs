//! Advances the engine's epoch for running guests, and sweeps idle instances.
//!
//! This is a thread and not a task, because a task would not run while guests hold every worker. It sleeps while
//! nothing runs.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::Thread;
use std::time::Duration;

use tokio::time::Instant;

use crate::limits::Bounds;

/// The tick while no call was running at the last one. Most calls end within microseconds. One that does not is seen at
/// the next tick, and ticks are short from then on.
const CALM: Duration = Duration::from_millis(4);

/// How long no call may have begun before the thread parks. Waking it costs more than a call.
const QUIET: Duration = Duration::from_secs(1);

pub(crate) struct Ticker {
    shared: Arc<Shared>,
    thread: Thread,
}

#[derive(Default)]
struct Shared {
    running: AtomicUsize,
    begun: AtomicU64,
    asleep: AtomicBool,
    stopped: AtomicBool,
}

/// A running call. The epoch advances while there is one.
pub(crate) struct Counted<'a>(&'a Shared);

impl Ticker {
    pub(crate) fn start(
        engine: wasmtime::Engine,
        sweep: impl Fn(Instant) -> bool + Send + 'static,
        sweep_every: Duration,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let own = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("plugin-ticks".to_owned()).spawn(move || {
            let (mut begun, mut last_begun, mut swept) = (0, Instant::now(), Instant::now());
            while !own.stopped.load(Ordering::Acquire) {
                let is_calm = own.running.load(Ordering::Relaxed) == 0;
                std::thread::sleep(if is_calm { CALM } else { Bounds::TICK });
                engine.increment_epoch();
                let (now, so_far) = (Instant::now(), own.begun.load(Ordering::Relaxed));
                if so_far != begun || own.running.load(Ordering::Relaxed) > 0 {
                    (begun, last_begun) = (so_far, now);
                }
                let mut left = true;
                if now - swept >= sweep_every {
                    swept = now;
                    left = sweep(swept);
                }
                if now - last_begun >= QUIET {
                    own.sleep(left.then_some(sweep_every));
                }
            }
        })?;
        Ok(Self { shared, thread: thread.thread().clone() })
    }

    pub(crate) fn count(&self) -> Counted<'_> {
        self.shared.begun.fetch_add(1, Ordering::Relaxed);
        // With `asleep` in `Shared::sleep` this is a store followed by a load on each side. `SeqCst` guarantees that at
        // least one side sees the other's store: either this wakes the thread, or the thread sees a running call and
        // does not park.
        self.shared.running.fetch_add(1, Ordering::SeqCst);
        if self.shared.asleep.load(Ordering::SeqCst) {
            self.thread.unpark();
        }
        Counted(&self.shared)
    }
}

#[cfg(test)]
impl Ticker {
    pub(crate) fn running(&self) -> usize {
        self.shared.running.load(Ordering::SeqCst)
    }
}

impl Shared {
    fn sleep(&self, at_most: Option<Duration>) {
        self.asleep.store(true, Ordering::SeqCst);
        if self.running.load(Ordering::SeqCst) == 0 && !self.stopped.load(Ordering::SeqCst) {
            match at_most {
                Some(most) => std::thread::park_timeout(most),
                None => std::thread::park(),
            }
        }
        self.asleep.store(false, Ordering::SeqCst);
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        self.thread.unpark();
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}
