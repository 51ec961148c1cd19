//! What was asked for before an event, by the same session in the same channel, and may not be stored yet.
//!
//! A handler may be called with an event while the effects of the one before it are still on their way into the store. Only
//! what reads the store could tell, and it waits here first.

use std::sync::Arc;

use tokio::sync::SetOnce;

/// For those who wait.
#[derive(Debug, Clone)]
pub struct Earlier(Arc<SetOnce<()>>);

/// For the effects that are waited for. When it is dropped, nobody waits any longer.
#[derive(Debug)]
pub struct Settling(Arc<SetOnce<()>>);

impl Earlier {
    /// Both ends.
    pub fn new() -> (Self, Settling) {
        let set = Arc::new(SetOnce::new());
        (Self(Arc::clone(&set)), Settling(set))
    }

    /// Whether nothing is on its way any more.
    pub fn is_settled(&self) -> bool {
        self.0.initialized()
    }

    /// Returns when that is so.
    pub(crate) async fn settled(&self) {
        self.0.wait().await;
    }
}

impl Drop for Settling {
    fn drop(&mut self) {
        // It is set here alone, and once.
        let _ = self.0.set(());
    }
}
