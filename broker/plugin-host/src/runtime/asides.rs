//! What is to be done with a generation beside its calls, one after the other, while nobody waits for it.

use std::sync::OnceLock;
use std::time::Duration;

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// How much of it waits at most; what finds no room is left out.
const WAITING: usize = 256;

/// The queue of a generation, which is there from its first use on and ends with the generation.
#[derive(Debug, Default)]
pub(crate) struct Asides {
    queue: OnceLock<mpsc::Sender<BoxFuture<'static, ()>>>,
    last_line: Mutex<Option<Instant>>,
}

impl Asides {
    /// Does it later; answers whether there was room.
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

    /// Whether a line may be written about it: one in this time at most.
    pub(crate) fn may_write(&self, every: Duration) -> bool {
        let mut last = self.last_line.lock();
        let may = last.is_none_or(|last| last.elapsed() >= every);
        if may {
            *last = Some(Instant::now());
        }
        may
    }
}
