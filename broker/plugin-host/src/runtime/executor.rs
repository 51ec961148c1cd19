//! Runs guest calls so that no call delays the others.
//!
//! A call begins on the broker's worker, where most end within microseconds. A call that a tick finds running moves to
//! the background runtime, whose threads have low priority, so that sockets, the store and other tenants' calls get the
//! processors first. The background is charged by thread processor time, not by the clock.
//!
//! A call never outlives its caller: dropping the future of [`Executor::run`] cancels the call wherever it runs. A
//! panic in host code ends that call only.
//!
//! A call moves at most once, from the foreground to the background. At any time exactly one thread polls it, so
//! `Usage` has one writer.
//!
//! Start with [`Executor::run`].

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

/// A call, owning everything it needs.
pub(crate) type Job<T> = BoxFuture<'static, T>;

/// How a call went.
pub(crate) struct Ran<T> {
    /// `None` if the deadline passed or the call panicked.
    pub(crate) answer: Option<T>,
    /// Processor time.
    pub(crate) used: Duration,
    /// Whether a tick ever found the call running.
    pub(crate) slow: bool,
}

pub(crate) struct Executor {
    ticker: Ticker,
    background: OnceLock<Option<Runtime>>,
}

impl Executor {
    pub(crate) fn new(ticker: Ticker) -> Self {
        Self { ticker, background: OnceLock::new() }
    }

    /// Runs a call with a deadline of `wall`. A call known to be slow begins in the background.
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
            // Most calls end on the first poll and need no timer.
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
                // A call that panicked is treated like one that never answers.
                tokio::time::timeout_at(over, task).await.ok().and_then(Result::ok)
            }
            // Without a background runtime, everything runs here.
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
                .inspect_err(|error| tracing::warn!(%error, "failed to start threads for slow plugins"))
                .ok()
        });
        made.as_ref()
    }
}

impl Drop for Executor {
    fn drop(&mut self) {
        // Waiting for a runtime is not allowed inside a task.
        if let Some(Some(runtime)) = self.background.take() {
            runtime.shutdown_background();
        }
    }
}

/// The state of a call on the thread that asked for it.
enum Foreground<T> {
    Ended(T),
    /// The call has to continue in the background.
    Slow,
    /// Host code panicked; the panic is logged. It must not take down the session that asked.
    Panicked,
}

fn in_foreground<T>(
    job: Pin<&mut (dyn Future<Output = T> + Send)>,
    usage: &Usage,
    context: &mut Context<'_>,
) -> Poll<Foreground<T>> {
    let now = Instant::now();
    usage.resume(now);
    // `AssertUnwindSafe`: after a panic the job is dropped and never polled again.
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

/// Lowers the priority of this thread alone, which only Linux can do.
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
