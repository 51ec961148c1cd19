//! Passes frames from a socket's reader to its session's worker, two futures of the same task.
//!
//! A channel would wake the task while it is already running; the runtime would then reschedule it, often on another
//! thread. Nothing here wakes anybody. Instead [`Handover::pass`] polls both futures: the reader, then the worker, and
//! again for as long as the reader waits for room that the worker has just made.
//!
//! There is room for one frame. A worker that does not take frames therefore stops the reader, and TCP stops the
//! client.
//!
//! Invariant: neither side's `Pending` here registers a waker, so both must be polled through `pass` (or the reader
//! must have ended). Frames are neither lost nor reordered.
//!
//! Start with [`Handover::pass`].

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Poll, ready};

use parking_lot::Mutex;
use tokio::task::coop;

/// Holds at most one frame.
#[derive(Debug, Default)]
pub(super) struct Handover(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    frame: Option<String>,
    /// The reader has another frame and waits for room.
    has_more: bool,
    ended: bool,
}

/// Which of the two ended first, and its result.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ended<R, W> {
    Reader(R),
    Worker(W),
}

impl Handover {
    /// Passes a frame on, once there is room.
    pub(super) async fn give(&self, frame: String) {
        let mut frame = Some(frame);
        poll_fn(|_| {
            let mut state = self.0.lock();
            state.has_more = state.frame.is_some();
            if state.has_more {
                return Poll::Pending;
            }
            state.frame = frame.take();
            Poll::Ready(())
        })
        .await;
    }

    /// Takes the next frame; `None` after the last one. Each frame counts against the task's cooperative budget.
    pub(super) async fn take(&self) -> Option<String> {
        poll_fn(|context| {
            let budget = ready!(coop::poll_proceed(context));
            let mut state = self.0.lock();
            match state.frame.take() {
                None if !state.ended => Poll::Pending,
                frame => {
                    budget.made_progress();
                    Poll::Ready(frame)
                }
            }
        })
        .await
    }

    /// No further frame will come, because the reader has ended.
    pub(super) fn end(&self) {
        self.0.lock().ended = true;
    }

    /// Polls both futures until one of them ends.
    pub(super) async fn pass<R, W>(
        &self,
        mut reader: Pin<&mut impl Future<Output = R>>,
        mut worker: Pin<&mut impl Future<Output = W>>,
    ) -> Ended<R, W> {
        poll_fn(|context| {
            loop {
                if let Poll::Ready(end) = reader.as_mut().poll(context) {
                    return Poll::Ready(Ended::Reader(end));
                }
                if let Poll::Ready(end) = worker.as_mut().poll(context) {
                    return Poll::Ready(Ended::Worker(end));
                }
                let state = self.0.lock();
                // Poll again only if the reader waits for room and the worker has made some. Nothing else would wake
                // the task for that.
                if !state.has_more || state.frame.is_some() {
                    return Poll::Pending;
                }
            }
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Context, Wake, Waker};

    use super::*;

    #[derive(Default)]
    struct Wakes(AtomicUsize);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn what_has_come_is_passed_in_one_go_and_wakes_nobody() {
        let (handover, taken) = (Handover::default(), Mutex::new(Vec::new()));
        let reader = async {
            for number in 0..5 {
                handover.give(number.to_string()).await;
            }
            std::future::pending::<()>().await;
        };
        let worker = async {
            while let Some(frame) = handover.take().await {
                taken.lock().push(frame);
            }
        };
        let wakes = Arc::new(Wakes::default());
        let waker = Waker::from(Arc::clone(&wakes));
        let mut context = Context::from_waker(&waker);
        let (mut reader, mut worker) = (Box::pin(reader), Box::pin(worker));
        {
            let mut passing = std::pin::pin!(handover.pass(reader.as_mut(), worker.as_mut()));
            assert!(passing.as_mut().poll(&mut context).is_pending());
        }
        assert_eq!(*taken.lock(), ["0", "1", "2", "3", "4"]);
        assert_eq!(wakes.0.load(Ordering::Relaxed), 0);
        handover.end();
        assert!(worker.as_mut().poll(&mut context).is_ready(), "the worker ends with the reader");
    }

    #[tokio::test]
    async fn a_client_that_says_much_leaves_others_their_turns() {
        const FRAMES: usize = 10_000;
        let (handover, turns) = (Handover::default(), AtomicUsize::new(0));
        let mut reader = Box::pin(async {
            for _ in 0..FRAMES {
                handover.give(String::new()).await;
            }
            handover.end();
            std::future::pending::<()>().await;
        });
        let mut worker = Box::pin(async {
            let mut taken = 0;
            while handover.take().await.is_some() {
                taken += 1;
            }
            taken
        });
        let mut passing = std::pin::pin!(handover.pass(reader.as_mut(), worker.as_mut()));
        let passed = poll_fn(|context| {
            turns.fetch_add(1, Ordering::Relaxed);
            passing.as_mut().poll(context)
        });
        assert_eq!(passed.await, Ended::Worker(FRAMES));
        let turns = turns.into_inner();
        assert!(turns >= FRAMES / 1_000, "{turns} turns for {FRAMES} frames");
    }

    #[test]
    fn a_frame_that_is_not_taken_stops_the_reader() {
        let (handover, given) = (Handover::default(), AtomicUsize::new(0));
        let mut reader = Box::pin(async {
            loop {
                handover.give(String::new()).await;
                given.fetch_add(1, Ordering::Relaxed);
            }
        });
        let mut worker = Box::pin(std::future::pending::<()>());
        let mut context = Context::from_waker(Waker::noop());
        let mut passing: Pin<Box<dyn Future<Output = Ended<(), ()>>>> =
            Box::pin(handover.pass(reader.as_mut(), worker.as_mut()));
        assert!(passing.as_mut().poll(&mut context).is_pending());
        assert!(passing.as_mut().poll(&mut context).is_pending());
        assert_eq!(given.load(Ordering::Relaxed), 1);
    }
}
