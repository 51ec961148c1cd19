//! Runs calls of guests so that none gets in the way of the others.
//!
//! A call begins on a worker of the broker, where quick ones end within microseconds. One that is found at it when a tick
//! has passed goes on in the background: a runtime whose threads have low priority, so that sockets, the store and other tenants' calls have
//! the processors first. Time on a processor is counted there, not time on the clock.

use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::BoxFuture;
use rustix::time::{ClockId, clock_gettime};
use tokio::runtime::Runtime;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use crate::contract::host::usage::Usage;
use crate::runtime::ticker::Ticker;

/// A call to be run, with all that it needs.
pub(crate) type Job<T> = BoxFuture<'static, T>;

/// How a call went.
pub(crate) struct Ran<T> {
    /// What it came to; none when its time on the clock was over.
    pub(crate) answer: Option<T>,
    /// Its time on a processor.
    pub(crate) used: Duration,
    /// Whether it was, at any time, found running by a tick.
    pub(crate) slow: bool,
}

/// Where calls run.
pub(crate) struct Executor {
    ticker: Ticker,
    background: OnceLock<Option<Runtime>>,
}

impl Executor {
    /// Runs what the ticker lets time pass for.
    pub(crate) fn new(ticker: Ticker) -> Self {
        Self { ticker, background: OnceLock::new() }
    }

    /// Runs a call for at most so long; one that is known to be slow begins in the background.
    pub(crate) async fn run<T: Send + 'static>(
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
            let mut front = pin!(poll_fn(|context| in_foreground(job.as_mut(), usage, context)));
            // Most calls end here, and need no timer.
            let first = poll_fn(|context| Poll::Ready(front.as_mut().poll(context))).await;
            let ended = match first {
                Poll::Ready(ended) => Ok(ended),
                Poll::Pending => tokio::time::timeout_at(*over.insert(deadline()), front).await,
            };
            match ended {
                Ok(Foreground::Ended(answer)) => return done(Some(answer)),
                Ok(Foreground::Slow) => {}
                Ok(Foreground::Panicked) | Err(_) => return done(None),
            }
        }
        let over = over.unwrap_or_else(deadline);
        let of_call = Arc::clone(usage);
        let behind = poll_fn(move |context| in_background(job.as_mut(), &of_call, context));
        let answer = match self.background() {
            Some(runtime) => {
                let task = AbortOnDropHandle::new(runtime.spawn(behind));
                // A call that panics is as good as one that never answers.
                tokio::time::timeout_at(over, task).await.ok().and_then(Result::ok)
            }
            // Without threads to spare everything runs in front.
            None => tokio::time::timeout_at(over, behind).await.ok(),
        };
        done(answer)
    }

    fn background(&self) -> Option<&Runtime> {
        let made = self.background.get_or_init(|| {
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

impl Drop for Executor {
    fn drop(&mut self) {
        // Waiting for it is not allowed where tasks run.
        if let Some(Some(runtime)) = self.background.take() {
            runtime.shutdown_background();
        }
    }
}

/// What becomes of a call on the thread that asked for it.
enum Foreground<T> {
    Ended(T),
    /// It is to go on in the background.
    Slow,
    /// The host's own code panicked; the panic is in the log. It must not take the asker's session with it.
    Panicked,
}

fn in_foreground<T>(
    job: Pin<&mut (dyn Future<Output = T> + Send)>,
    usage: &Usage,
    context: &mut Context<'_>,
) -> Poll<Foreground<T>> {
    let now = Instant::now();
    usage.resume(now);
    // What it was at is dropped with it, and nothing of it is used again.
    let polled = catch_unwind(AssertUnwindSafe(|| job.poll(context)));
    usage.add(now.elapsed());
    match polled {
        Ok(Poll::Ready(answer)) => Poll::Ready(Foreground::Ended(answer)),
        Ok(Poll::Pending) if usage.is_slow() => Poll::Ready(Foreground::Slow),
        Ok(Poll::Pending) => Poll::Pending,
        Err(_) => Poll::Ready(Foreground::Panicked),
    }
}

fn in_background<T>(
    job: Pin<&mut (dyn Future<Output = T> + Send)>,
    usage: &Usage,
    context: &mut Context<'_>,
) -> Poll<T> {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn executor() -> Executor {
        let never = Duration::from_secs(60 * 60);
        Executor::new(Ticker::start(wasmtime::Engine::default(), |_| false, never).unwrap())
    }

    #[tokio::test]
    async fn a_call_that_panics_is_one_without_an_answer_wherever_it_runs() {
        let (executor, usage) = (executor(), Arc::new(Usage::new()));
        for slow in [false, true] {
            let job: Job<()> = Box::pin(async { panic!("in the host's own code") });
            let ran = executor.run(job, &usage, Duration::from_secs(60), slow).await;
            assert!(ran.answer.is_none());
            let job: Job<u8> = Box::pin(async { 7 });
            assert_eq!(
                executor.run(job, &usage, Duration::from_secs(60), slow).await.answer,
                Some(7),
                "the next is served"
            );
        }
        assert_eq!(executor.ticker.running(), 0);
    }
}
