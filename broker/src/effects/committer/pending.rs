//! The outcome of a commit, between the batch that brings it and whoever waits for it.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use crate::protocol::{ErrorCode, Refusal};
use crate::store::{Outcome, Receipt};

/// What became of a commit, or why it is not known or not done.
pub type Answer = Result<Outcome<Receipt>, Refusal>;

/// Takes an answer where the batch is settled, and must not wait. What it writes may wait for the batch's other answers: it
/// returns what is to be flushed after these.
pub type Receiver = Box<dyn FnOnce(Answer) -> Option<Arc<dyn Flush>> + Send>;

/// Where answers of one batch are gathered, to be sent together.
pub trait Flush: Send + Sync {
    /// Sends what was gathered. Never waits.
    fn flush(&self);
}

/// The outcome of a commit that is queued. Dropping it changes nothing of what happens.
pub struct Pending {
    slot: Arc<Mutex<Slot>>,
    by: Instant,
}

/// The duty to give an answer. Dropped without one, as in a panic, it says that the broker failed.
#[derive(Debug)]
pub(super) struct Promise(Option<Arc<Mutex<Slot>>>);

enum Slot {
    Empty,
    Answered(Answer),
    Awaited(Receiver),
    Done,
}

/// Both ends. The outcome is to be there by this time.
pub(super) fn promise(by: Instant) -> (Promise, Pending) {
    let slot = Arc::new(Mutex::new(Slot::Empty));
    (Promise(Some(Arc::clone(&slot))), Pending { slot, by })
}

impl Pending {
    /// Until when whoever asked is to be told something.
    pub fn by(&self) -> Instant {
        self.by
    }

    /// What became of the commit.
    ///
    /// # Errors
    /// `unavailable` when the store is away or did not answer in time, which leaves open whether the commit was done;
    /// `internal` when the store failed.
    pub async fn outcome(self) -> Answer {
        let (sender, answered) = oneshot::channel();
        let by = self.by;
        self.then(Box::new(move |answer| {
            // A caller that is gone has no use for it.
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

    /// Has the outcome taken as soon as it is known, here if it is already. Nobody looks at the clock for it.
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
    metrics::counter!("switchboard_commits_given_up_total").increment(count);
}

impl Promise {
    /// Gives the answer. What is returned is to be flushed.
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
    // Why is in the log, as a panic.
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
