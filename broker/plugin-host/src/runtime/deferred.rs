//! Work for a generation that nobody waits for, one item at a time.

use std::sync::OnceLock;
use std::time::Duration;

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// Items that may wait. More are dropped.
const WAITING: usize = 256;

/// A generation's queue. Created on first use; ends with the generation.
#[derive(Debug, Default)]
pub(crate) struct Deferred {
    queue: OnceLock<mpsc::Sender<BoxFuture<'static, ()>>>,
    last_line: Mutex<Option<Instant>>,
}

impl Deferred {
    /// Queues the work. `false` means there was no room and it was dropped.
    pub(crate) fn queue(&self, work: impl Future<Output = ()> + Send + 'static) -> bool {
        let queue = self.queue.get_or_init(|| {
            let (sender, mut receiver) = mpsc::channel::<BoxFuture<'static, ()>>(WAITING);
            tokio::spawn(async move {
                while let Some(work) = receiver.recv().await {
                    work.await;
                }
            });
            sender
        });
        queue.try_send(Box::pin(work)).is_ok()
    }

    /// Rate limit for log lines: at most one in `every`.
    pub(crate) fn may_write(&self, every: Duration) -> bool {
        let mut last = self.last_line.lock();
        let may = last.is_none_or(|last| last.elapsed() >= every);
        if may {
            *last = Some(Instant::now());
        }
        may
    }
}
