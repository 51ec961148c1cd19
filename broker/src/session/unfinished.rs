//! Bounds the memory of messages that have begun to arrive and are not complete, over all sockets.
//!
//! A client may leave a message unfinished for as long as it likes: it answers pings between the parts. One such message
//! costs up to [`MAX_READ`](crate::protocol::MAX_READ), which is nothing for one socket and gigabytes for fifty thousand.
//! So messages share a budget, of which one client address may take a quarter.
//!
//! What arrives in one read is not counted ([`FREE`]): nearly every message is that small and complete, it is no more than a
//! socket costs anyway, and counting it would take a lock for each message.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::permits::less;
use crate::model::ClientAddress;
use crate::telemetry::Throttle;

/// Bytes of a message that are not counted.
pub(super) const FREE: usize = 4_096;

/// Part of the budget that one address may take.
const SHARE: usize = 4;

/// The budget.
#[derive(Debug)]
pub struct Unfinished {
    bytes: usize,
    taken: Mutex<Taken>,
    throttle: Throttle,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    addresses: HashMap<ClientAddress, usize>,
}

/// What one message has of the budget. Dropping it gives that back.
#[derive(Debug)]
pub(super) struct Room {
    unfinished: Arc<Unfinished>,
    address: ClientAddress,
    bytes: usize,
}

impl Unfinished {
    /// A budget of so many bytes.
    pub fn new(bytes: usize) -> Arc<Self> {
        Arc::new(Self { bytes, taken: Mutex::default(), throttle: Throttle::default() })
    }

    /// Bytes that are taken.
    #[cfg(feature = "fuzzing")]
    pub(super) fn taken(&self) -> usize {
        self.taken.lock().all
    }

    /// For a message from this address, which has nothing yet.
    pub(super) fn room(self: &Arc<Self>, address: ClientAddress) -> Room {
        Room { unfinished: Arc::clone(self), address, bytes: 0 }
    }
}

impl Room {
    /// Takes what a message of this capacity needs more than it has. `false`: there is not as much.
    pub(super) fn grow(&mut self, capacity: usize) -> bool {
        if capacity <= FREE.max(self.bytes) {
            return true;
        }
        let more = capacity - self.bytes;
        let Unfinished { bytes, taken, throttle } = &*self.unfinished;
        let mut taken = taken.lock();
        let own = taken.addresses.get(&self.address).copied().unwrap_or_default();
        if taken.all + more > *bytes || own + more > *bytes / SHARE {
            drop(taken);
            crate::metrics::SESSIONS_DROPPED.add(["unfinished"], 1);
            if let Some(others) = throttle.may_log() {
                let address = self.address;
                tracing::warn!(%address, others, "closed a socket with 4102: too many messages are unfinished");
            }
            return false;
        }
        taken.all += more;
        *taken.addresses.entry(self.address).or_default() += more;
        drop(taken);
        crate::metrics::UNFINISHED_BYTES.handle().increment(as_gauge(more));
        self.bytes = capacity;
        true
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        if self.bytes == 0 {
            return;
        }
        let mut taken = self.unfinished.taken.lock();
        taken.all -= self.bytes;
        less(&mut taken.addresses, self.address, self.bytes);
        drop(taken);
        crate::metrics::UNFINISHED_BYTES.handle().decrement(as_gauge(self.bytes));
    }
}

#[expect(clippy::cast_precision_loss, reason = "the budget is far below 2^52")]
fn as_gauge(bytes: usize) -> f64 {
    bytes as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(address: &str) -> ClientAddress {
        address.parse::<std::net::IpAddr>().unwrap().into()
    }

    #[test]
    fn an_address_takes_a_quarter_and_all_addresses_the_whole() {
        let unfinished = Unfinished::new(16 * FREE);
        let room = |address: &str| unfinished.room(from(address));
        let mut rooms = Vec::new();
        for address in ["192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4"] {
            let mut one = room(address);
            assert!(one.grow(2 * FREE) && one.grow(4 * FREE), "a message grows within the share of its address");
            assert!(!one.grow(4 * FREE + 1) && one.grow(3 * FREE), "what was refused has changed nothing");
            assert!(room(address).grow(FREE), "small messages are not counted");
            assert!(!room(address).grow(FREE + 1));
            rooms.push(one);
        }
        assert!(!room("192.0.2.5").grow(2 * FREE), "the budget is used up");
        rooms.pop();
        assert!(room("192.0.2.5").grow(2 * FREE), "what is given back is there again");
        rooms.clear();
        let taken = unfinished.taken.lock();
        assert!(taken.all == 0 && taken.addresses.is_empty());
    }
}
