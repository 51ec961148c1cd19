//! The outcome of a commit, on its way from the batch to whoever waits for it.
//!
//! The slot goes from empty to done in one of two orders: answer first or receiver first. The lock is never held while
//! a receiver runs.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use crate::protocol::{ErrorCode, Refusal};
use crate::store::{Outcome, Receipt};

/// The outcome of a commit, or why it was not done or is not known.
pub type Answer = Result<Outcome<Receipt>, Refusal>;

/// Receives an answer in the task that settles the batch, so it must not block. It may buffer its output and return
/// where to flush it, once the batch's other answers are buffered too.
pub type Receiver = Box<dyn FnOnce(Answer) -> Option<Arc<dyn Flush>> + Send>;

/// A buffer that gathers the answers of one batch.
pub trait Flush: Send + Sync {
    /// Sends what was gathered. Never blocks.
    fn flush(&self);
}

/// The future outcome of a queued commit. Dropping it does not cancel anything.
pub struct Pending {
    slot: Arc<Mutex<Slot>>,
    by: Instant,
}

/// The obligation to answer. Dropped without an answer, as in a panic, it answers that the broker failed.
#[derive(Debug)]
pub(super) struct Promise(Option<Arc<Mutex<Slot>>>);

enum Slot {
    Empty,
    Answered(Answer),
    Awaited(Receiver),
    Done,
}

/// Both ends of an answer that is due by this time.
pub(super) fn promise(by: Instant) -> (Promise, Pending) {
    let slot = Arc::new(Mutex::new(Slot::Empty));
    (Promise(Some(Arc::clone(&slot))), Pending { slot, by })
}

impl Pending {
    /// When the sender must have been told something.
    pub fn by(&self) -> Instant {
        self.by
    }

    /// Waits for the outcome.
    ///
    /// `unavailable` means that the store is away, or that it did not answer in time; the commit may or may not have
    /// been done. `internal` means that the store failed.
    pub async fn outcome(self) -> Answer {
        let (sender, answered) = oneshot::channel();
        let by = self.by;
        self.then(Box::new(move |answer| {
            // A caller that is gone does not need it.
            let _ = sender.send(answer);
            None
        }));
        match timeout_at(by, answered).await {
            Ok(answer) => answer.unwrap_or_else(|_| Err(failed())),
            Err(_) => {
                given_up(1);
                Err(Refusal::unavailable())
            }
        }
    }

    /// Registers a receiver for the outcome; runs it here if the outcome is already known. Enforces no deadline.
    pub fn then(self, receiver: Receiver) {
        let mut slot = self.slot.lock();
        match std::mem::replace(&mut *slot, Slot::Done) {
            Slot::Answered(answer) => {
                drop(slot);
                if let Some(gathered) = receiver(answer) {
                    gathered.flush();
                }
            }
            _ => *slot = Slot::Awaited(receiver),
        }
    }
}

/// Counts commits whose callers were told that there is no answer.
pub fn given_up(count: u64) {
    crate::metrics::COMMITS_GIVEN_UP.handle().increment(count);
}

impl Promise {
    /// Gives the answer. The caller must flush what is returned.
    pub(super) fn give(mut self, answer: Answer) -> Option<Arc<dyn Flush>> {
        self.0.take().and_then(|slot| answered(&slot, answer))
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        if let Some(gathered) = self.0.take().and_then(|slot| answered(&slot, Err(failed()))) {
            gathered.flush();
        }
    }
}

fn answered(slot: &Mutex<Slot>, answer: Answer) -> Option<Arc<dyn Flush>> {
    let mut slot = slot.lock();
    match std::mem::replace(&mut *slot, Slot::Done) {
        Slot::Awaited(receiver) => {
            drop(slot);
            receiver(answer)
        }
        _ => {
            *slot = Slot::Answered(answer);
            None
        }
    }
}

fn failed() -> Refusal {
    // The panic itself is in the log.
    Refusal::new(ErrorCode::Internal, "the broker failed while storing; try again")
}

impl std::fmt::Debug for Slot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Slot::Empty => "Empty",
            Slot::Answered(_) => "Answered",
            Slot::Awaited(_) => "Awaited",
            Slot::Done => "Done",
        })
    }
}

impl std::fmt::Debug for Pending {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pending").field("slot", &self.slot).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unknown() -> Answer {
        Ok(Outcome::UnknownChannel)
    }

    #[derive(Default)]
    struct Published(Mutex<Vec<String>>);

    impl Flush for Published {
        fn flush(&self) {
            self.0.lock().push("flushed".into());
        }
    }

    fn receiver(told: &Arc<Published>) -> Receiver {
        let told = Arc::clone(told);
        Box::new(move |answer| {
            let said = answer.map_or_else(|refusal| refusal.code.name().to_owned(), |outcome| format!("{outcome:?}"));
            told.0.lock().push(said);
            Some(told)
        })
    }

    #[test]
    fn an_answer_is_taken_once_whoever_is_there_first() {
        let told = Arc::new(Published::default());
        let (promise, pending) = promise(Instant::now());
        pending.then(receiver(&told));
        let gathered = promise.give(unknown()).expect("something to be flushed");
        assert_eq!(*told.0.lock(), ["UnknownChannel"], "it is for whoever gave it to flush");
        gathered.flush();

        let (promise, pending) = super::promise(Instant::now());
        assert!(promise.give(unknown()).is_none());
        pending.then(receiver(&told));
        assert_eq!(*told.0.lock(), ["UnknownChannel", "flushed", "UnknownChannel", "flushed"]);
    }

    #[tokio::test]
    async fn a_promise_that_is_lost_is_an_answer_too() {
        let (lost, pending) = promise(Instant::now() + std::time::Duration::from_secs(60));
        drop(lost);
        assert_eq!(pending.outcome().await.unwrap_err().code, ErrorCode::Internal);
        let told = Arc::new(Published::default());
        let (lost, pending) = promise(Instant::now());
        pending.then(receiver(&told));
        drop(lost);
        assert_eq!(*told.0.lock(), [ErrorCode::Internal.name(), "flushed"]);
    }
}
