//! Makes host reads wait for effects that the same session asked for earlier in the same channel.
//!
//! A handler may run while the effects of the previous event are still on their way to the store. Only a read could
//! notice, so reads wait here first.

use std::sync::Arc;

use tokio::sync::SetOnce;

/// The waiting end.
#[derive(Debug, Clone)]
pub struct Earlier(Arc<SetOnce<()>>);

/// The end held by the effects. Dropping it releases every waiter, whether the effects were stored or not.
#[derive(Debug)]
pub struct Settling(Arc<SetOnce<()>>);

impl Earlier {
    /// A connected pair.
    pub fn new() -> (Self, Settling) {
        let set = Arc::new(SetOnce::new());
        (Self(Arc::clone(&set)), Settling(set))
    }

    /// Whether nothing is pending any more.
    pub fn is_settled(&self) -> bool {
        self.0.initialized()
    }

    pub(crate) async fn settled(&self) {
        self.0.wait().await;
    }
}

impl Drop for Settling {
    fn drop(&mut self) {
        // This is the only place that sets it, and drop runs once.
        let _ = self.0.set(());
    }
}
