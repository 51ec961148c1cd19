//! Runs calls of guests so that none gets in the way of the others.
//!
//! A call begins on a worker of the broker, where quick ones end within microseconds. One that is found at it when a tick
//! has passed goes on in the back room: threads of low priority, so that sockets, the store and other tenants' calls have
//! the processors first. Time on a processor is counted there, not time on the clock.

use std::future::{Future, poll_fn};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::thread::Thread;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tokio::runtime::Runtime;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;
use wasmtime::UpdateDeadline;

use super::Bounds;
use super::pool::Pool;

/// The tick while no call was found running at the last one: most end within microseconds. One that does not is found at the
/// next, and ticked quickly from then on.
const CALM: Duration = Duration::from_millis(4);

/// How long no call may have begun before nobody counts any more. Waking who counts costs more than a call.
const QUIET: Duration = Duration::from_secs(1);

/// What one call has used up to now. Set by who runs it, and read when a tick finds it running.
#[derive(Debug)]
pub(super) struct Usage {
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
    pub(super) fn new() -> Self {
        let zero = || AtomicU64::new(0);
        Self { base: Instant::now(), resumed: zero(), used: zero(), most: zero(), slow: AtomicBool::new(false) }
    }

    /// Begins a call that may use so much.
    pub(super) fn begin(&self, most: Duration) {
        self.used.store(0, Ordering::Relaxed);
        self.most.store(nanos(most), Ordering::Relaxed);
        self.slow.store(false, Ordering::Relaxed);
    }

    /// What is to become of a guest that a tick has found running.
    pub(super) fn tick(&self) -> UpdateDeadline {
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

    /// Lets what follows run in the back room, because no tick could interrupt it.
    pub(super) async fn leave_the_front(&self) {
        self.slow.store(true, Ordering::Relaxed);
        tokio::task::yield_now().await;
    }

    fn resume(&self, now: Instant) {
        self.resumed.store(nanos(now.duration_since(self.base)), Ordering::Relaxed);
    }

    pub(super) fn add(&self, used: Duration) {
        self.used.fetch_add(nanos(used), Ordering::Relaxed);
    }

    /// Time on a processor up to now.
    pub(super) fn used(&self) -> Duration {
        Duration::from_nanos(self.used.load(Ordering::Relaxed))
    }

    fn is_slow(&self) -> bool {
        self.slow.load(Ordering::Relaxed)
    }
}

/// A call to be run, with all that it needs.
pub(super) type Job<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// How a call went.
pub(super) struct Ran<T> {
    /// What it came to; none when its time on the clock was over.
    pub(super) answer: Option<T>,
    /// Its time on a processor.
    pub(super) used: Duration,
    /// Whether it was, at any time, found running by a tick.
    pub(super) slow: bool,
}

/// Where calls run.
pub(super) struct Floor {
    ticker: Ticker,
    back_room: OnceLock<Option<Runtime>>,
}

impl Floor {
    pub(super) fn new(engine: &wasmtime::Engine, pool: &Arc<Pool>, bounds: &Bounds) -> io::Result<Self> {
        let ticker = Ticker::start(engine.clone(), Arc::clone(pool), bounds.idle / 4)?;
        Ok(Self { ticker, back_room: OnceLock::new() })
    }

    /// Runs a call for at most so long; one that is known to be slow begins in the back room.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        mut job: Job<T>,
        usage: &Arc<Usage>,
        wall: Duration,
        slow: bool,
    ) -> Ran<T> {
        let _counted = self.ticker.count();
        let done = |answer| Ran { answer, used: usage.used(), slow: usage.is_slow() };
        let deadline = || Instant::now() + wall;
        let mut over = None;
        if !slow {
            let mut front = pin!(poll_fn(|context| in_front(job.as_mut(), usage, context)));
            // Most calls end here, and need no timer.
            let first = poll_fn(|context| Poll::Ready(front.as_mut().poll(context))).await;
            let ended = match first {
                Poll::Ready(ended) => Ok(ended),
                Poll::Pending => tokio::time::timeout_at(*over.insert(deadline()), front).await,
            };
            match ended {
                Ok(InFront::Ended(answer)) => return done(Some(answer)),
                Ok(InFront::Slow) => {}
                Ok(InFront::Panicked) | Err(_) => return done(None),
            }
        }
        let over = over.unwrap_or_else(deadline);
        let of_call = Arc::clone(usage);
        let behind = poll_fn(move |context| in_back(job.as_mut(), &of_call, context));
        let answer = match self.back_room() {
            Some(room) => {
                let task = AbortOnDropHandle::new(room.spawn(behind));
                // A call that panics is as good as one that never answers.
                tokio::time::timeout_at(over, task).await.ok().and_then(Result::ok)
            }
            // Without threads to spare everything runs in front.
            None => tokio::time::timeout_at(over, behind).await.ok(),
        };
        done(answer)
    }

    fn back_room(&self) -> Option<&Runtime> {
        let made = self.back_room.get_or_init(|| {
            let processors = std::thread::available_parallelism().map_or(1, usize::from);
            tokio::runtime::Builder::new_multi_thread()
                .worker_threads(processors)
                .thread_name("plugin-slow")
                .on_thread_start(lower_priority)
                .enable_all()
                .build()
                .inspect_err(|error| tracing::warn!(%error, "slow plugins run among quick ones"))
                .ok()
        });
        made.as_ref()
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        // Waiting for it is not allowed where tasks run.
        if let Some(Some(room)) = self.back_room.take() {
            room.shutdown_background();
        }
    }
}

/// What becomes of a call on the thread that asked for it.
enum InFront<T> {
    Ended(T),
    /// It is to go on in the back room.
    Slow,
    /// The host's own code panicked; the panic is in the log. It must not take the asker's session with it.
    Panicked,
}

fn in_front<T>(
    job: Pin<&mut (dyn Future<Output = T> + Send)>,
    usage: &Usage,
    context: &mut Context<'_>,
) -> Poll<InFront<T>> {
    let now = Instant::now();
    usage.resume(now);
    // What it was at is dropped with it, and nothing of it is used again.
    let polled = catch_unwind(AssertUnwindSafe(|| job.poll(context)));
    usage.add(now.elapsed());
    match polled {
        Ok(Poll::Ready(answer)) => Poll::Ready(InFront::Ended(answer)),
        Ok(Poll::Pending) if usage.is_slow() => Poll::Ready(InFront::Slow),
        Ok(Poll::Pending) => Poll::Pending,
        Err(_) => Poll::Ready(InFront::Panicked),
    }
}

fn in_back<T>(job: Pin<&mut (dyn Future<Output = T> + Send)>, usage: &Usage, context: &mut Context<'_>) -> Poll<T> {
    let time = || {
        let time = clock_gettime(ClockId::ThreadCPUTime);
        Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
    };
    usage.resume(Instant::now());
    let before = time();
    let polled = job.poll(context);
    usage.add(time().saturating_sub(before));
    polled
}

/// For this thread alone, which other systems than Linux do not know.
fn lower_priority() {
    #[cfg(target_os = "linux")]
    let _ = rustix::process::nice(10);
}

/// Lets time pass for running guests, and ends what was idle for too long: a thread of its own, since a task would not run
/// while guests hold every worker. When nothing runs it sleeps.
struct Ticker {
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

/// A call that runs. Time passes while there is one.
struct Counted<'a>(&'a Shared);

impl Ticker {
    fn start(engine: wasmtime::Engine, pool: Arc<Pool>, sweep_every: Duration) -> io::Result<Self> {
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
                    left = pool.sweep(swept);
                }
                if now - last_begun >= QUIET {
                    own.sleep(left.then_some(sweep_every));
                }
            }
        })?;
        Ok(Self { shared, thread: thread.thread().clone() })
    }

    fn count(&self) -> Counted<'_> {
        self.shared.begun.fetch_add(1, Ordering::Relaxed);
        // Either this sees that the thread is asleep, or the thread sees that something runs.
        self.shared.running.fetch_add(1, Ordering::SeqCst);
        if self.shared.asleep.load(Ordering::SeqCst) {
            self.thread.unpark();
        }
        Counted(&self.shared)
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

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn floor() -> Floor {
        let (engine, bounds) = (wasmtime::Engine::default(), Bounds::default());
        Floor::new(&engine, &Arc::new(Pool::new(bounds.clone())), &bounds).unwrap()
    }

    #[tokio::test]
    async fn a_call_that_panics_is_one_without_an_answer_wherever_it_runs() {
        let (floor, usage) = (floor(), Arc::new(Usage::new()));
        for slow in [false, true] {
            let job: Job<()> = Box::pin(async { panic!("in the host's own code") });
            let ran = floor.run(job, &usage, Duration::from_secs(60), slow).await;
            assert!(ran.answer.is_none());
            let job: Job<u8> = Box::pin(async { 7 });
            assert_eq!(
                floor.run(job, &usage, Duration::from_secs(60), slow).await.answer,
                Some(7),
                "the next is served"
            );
        }
        assert_eq!(floor.ticker.shared.running.load(Ordering::Relaxed), 0);
    }
}
