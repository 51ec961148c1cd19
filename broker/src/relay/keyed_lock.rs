//! A keyed lock: one holder at a time for each channel.
//!
//! A channel has an entry only while somebody holds or waits for its lock, so every holder and waiter shares one mutex.
//! Nothing here does I/O.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::MutexGuard;

use crate::model::ChannelKey;

/// The channels whose lock is held or waited for.
#[derive(Default)]
pub(super) struct KeyedLock(Mutex<HashMap<ChannelKey, Entry>>);

#[derive(Default)]
struct Entry {
    /// Tickets in existence, including the holder's.
    tickets: usize,
    lock: Arc<tokio::sync::Mutex<()>>,
}

impl KeyedLock {
    /// Registers for a channel's lock. [`Ticket::lock`] waits for it.
    pub(super) fn queue(&self, channel: &ChannelKey) -> Ticket<'_> {
        let mut channels = self.0.lock();
        let entry = channels.entry(channel.clone()).or_default();
        entry.tickets += 1;
        Ticket { keyed_lock: self, channel: channel.clone(), lock: Arc::clone(&entry.lock) }
    }
}

/// A registration for a channel's lock; keeps the entry alive until it is dropped.
pub(super) struct Ticket<'t> {
    keyed_lock: &'t KeyedLock,
    channel: ChannelKey,
    lock: Arc<tokio::sync::Mutex<()>>,
}

impl Ticket<'_> {
    /// Waits for the lock, first come first served. Held until the guard is dropped.
    pub(super) async fn lock(&self) -> MutexGuard<'_, ()> {
        self.lock.lock().await
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        let mut channels = self.keyed_lock.0.lock();
        if let Some(entry) = channels.get_mut(&self.channel) {
            entry.tickets -= 1;
            if entry.tickets == 0 {
                channels.remove(&self.channel);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use uuid::Uuid;

    use super::*;
    use crate::model::ChannelId;

    fn channel(number: u128) -> ChannelKey {
        ChannelKey { tenant: "acme".parse().unwrap(), channel: ChannelId(Uuid::from_u128(number)) }
    }

    #[test]
    fn channels_do_not_wait_for_one_another_and_leave_nothing_behind() {
        let keyed_lock = KeyedLock::default();
        let (first, second, other) =
            (keyed_lock.queue(&channel(1)), keyed_lock.queue(&channel(1)), keyed_lock.queue(&channel(2)));
        let guard = first.lock().now_or_never().expect("nobody is before it");
        assert!(second.lock().now_or_never().is_none());
        drop(other.lock().now_or_never().expect("the other channel has a lock of its own"));
        drop(guard);
        drop(first);
        drop(second.lock().now_or_never().expect("the first one is done"));
        drop((second, other));
        assert!(keyed_lock.0.lock().is_empty());
    }
}
