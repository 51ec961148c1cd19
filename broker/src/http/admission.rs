//! Limits the connections that speak HTTP, in total and per address.
//!
//! Such a connection has presented no token yet, or waits for an answer. They are counted separately from sockets, so that
//! idle connections do not keep out clients with a token. Once an address has used its share, its further connections
//! wait until its own earlier ones end; they are dropped if too many wait, or if they wait too long.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::model::ClientAddress;

/// Concurrent connections that speak HTTP, if there are enough descriptors.
const SPEAKING: usize = 4_096;

/// Maximum time that a connection waits for others of its address.
const PATIENCE: Duration = Duration::from_secs(10);

/// A connection's permit from its listener, released with its last holder.
pub(super) type ListenerPermit = Arc<OwnedSemaphorePermit>;

/// The permits of a listener.
#[derive(Debug)]
pub(super) struct Admission {
    speaking: Arc<Semaphore>,
    /// Permits that are free unless it is crowded.
    roomy: usize,
    share: usize,
    waiting: Semaphore,
    patience: Duration,
    addresses: Mutex<HashMap<ClientAddress, Address>>,
}

/// The connections of an address: the permits of its share, and the number of connections for which it is kept.
#[derive(Debug)]
struct Address {
    share_permits: Arc<Semaphore>,
    connections: usize,
}

/// A permit of the listener. It is acquired before accepting a connection: until there is one, connections wait in the
/// system's queue.
pub(super) type ConnectionPermit = OwnedSemaphorePermit;

/// The right to speak HTTP, released when this value is dropped.
#[derive(Debug)]
pub(super) struct Admitted {
    _permit: ConnectionPermit,
    _own: Option<(OwnedSemaphorePermit, Remembered)>,
}

/// A connection for which its address is kept.
#[derive(Debug)]
struct Remembered {
    admission: Arc<Admission>,
    address: ClientAddress,
}

impl Admission {
    /// `connections` is the number of connections that are not sockets.
    pub(super) fn new(connections: usize) -> Arc<Self> {
        Arc::new(Self::of(connections))
    }

    fn of(connections: usize) -> Self {
        let speaking = (connections / 2).clamp(1, SPEAKING);
        let waiting = connections.saturating_sub(speaking).min(SPEAKING);
        Self {
            speaking: Arc::new(Semaphore::new(speaking)),
            // Clients that pause take half of the permits at most for longer than a head may take.
            roomy: speaking.div_ceil(2),
            // A quarter, but at least as many as a browser opens, and never all.
            share: (speaking / 4).max(8.min(speaking / 2)).max(1),
            waiting: Semaphore::new(waiting),
            patience: PATIENCE,
            addresses: Mutex::default(),
        }
    }

    /// The next free permit of the listener.
    pub(super) async fn permit(&self) -> ConnectionPermit {
        Arc::clone(&self.speaking).acquire_owned().await.expect("the semaphore is never closed")
    }

    /// Whether connections that only wait should make room soon.
    pub(super) fn is_crowded(&self) -> bool {
        self.speaking.available_permits() < self.roomy
    }

    /// The right to speak for a connection that has a permit. Without an address, as for a trusted proxy, it is granted at
    /// once; otherwise as soon as the address is within its share. `None` if too many of its connections wait, or if it took
    /// too long.
    pub(super) async fn admit(
        self: &Arc<Self>,
        permit: ConnectionPermit,
        address: Option<ClientAddress>,
    ) -> Option<Admitted> {
        let Some(address) = address else { return Some(Admitted { _permit: permit, _own: None }) };
        let (share_permits, remembered) = self.remember(address);
        if let Ok(own) = Arc::clone(&share_permits).try_acquire_owned() {
            return Some(Admitted { _permit: permit, _own: Some((own, remembered)) });
        }
        // Others can use the permit meanwhile.
        drop(permit);
        let _waiting = self.waiting.try_acquire().ok()?;
        let both = async {
            let own = share_permits.acquire_owned().await.expect("the semaphore is never closed");
            Admitted { _permit: self.permit().await, _own: Some((own, remembered)) }
        };
        timeout(self.patience, both).await.ok()
    }

    fn remember(self: &Arc<Self>, address: ClientAddress) -> (Arc<Semaphore>, Remembered) {
        let mut addresses = self.addresses.lock();
        let new = || Address { share_permits: Arc::new(Semaphore::new(self.share)), connections: 0 };
        let remembered = addresses.entry(address).or_insert_with(new);
        remembered.connections += 1;
        let share_permits = Arc::clone(&remembered.share_permits);
        drop(addresses);
        (share_permits, Remembered { admission: Arc::clone(self), address })
    }
}

impl Drop for Remembered {
    fn drop(&mut self) {
        let mut addresses = self.admission.addresses.lock();
        if let Some(remembered) = addresses.get_mut(&self.address) {
            remembered.connections -= 1;
            if remembered.connections == 0 {
                addresses.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use futures_util::FutureExt;

    use super::*;

    fn from(address: &str) -> Option<ClientAddress> {
        Some(address.parse::<IpAddr>().unwrap().into())
    }

    async fn now(admission: &Arc<Admission>, address: &str) -> Option<Admitted> {
        let permit = admission.permit().await;
        admission.admit(permit, from(address)).now_or_never().flatten()
    }

    #[tokio::test]
    async fn an_address_that_has_its_share_waits_for_itself_and_for_a_while() {
        let admission = Arc::new(Admission { patience: Duration::from_millis(1), ..Admission::of(200) });
        let mut loud = Vec::new();
        for _ in 0..admission.share {
            loud.push(now(&admission, "192.0.2.1").await.unwrap());
        }
        assert!(admission.admit(admission.permit().await, from("192.0.2.1")).await.is_none(), "it took too long");
        let patient = Arc::new(Admission::of(200));
        let mut others: Vec<_> = Vec::new();
        for _ in 0..patient.share {
            others.push(now(&patient, "192.0.2.1").await.unwrap());
        }
        let mut next = Box::pin(patient.admit(patient.permit().await, from("192.0.2.1")));
        assert!(next.as_mut().now_or_never().is_none());
        assert_eq!(patient.speaking.available_permits(), 100 - others.len(), "who waits has no permit");
        assert!(now(&patient, "192.0.2.2").await.is_some(), "another address");
        others.pop();
        assert!(next.await.is_some(), "one of its own has ended");
        drop(loud);
        assert!(admission.addresses.lock().is_empty(), "nobody is remembered");
        assert_eq!(admission.speaking.available_permits(), 100);
    }

    #[tokio::test]
    async fn those_who_wait_are_bounded_and_a_proxy_has_no_share() {
        let admission = Admission::new(40);
        let mut held = Vec::new();
        for _ in 0..admission.share {
            held.push(now(&admission, "192.0.2.1").await.unwrap());
        }
        let waiting: Vec<_> = futures_util::future::join_all((0..30).map(async |_| {
            let mut admitted = Box::pin(admission.admit(admission.permit().await, from("192.0.2.1")));
            admitted.as_mut().now_or_never().map_or_else(|| Some(admitted), |_| None)
        }))
        .await;
        assert_eq!(waiting.iter().flatten().count(), 20, "the others were hung up on");
        while admission.speaking.available_permits() > 0 {
            let permit = admission.permit().await;
            held.push(admission.admit(permit, None).now_or_never().flatten().expect("a proxy has no share"));
        }
        assert_eq!(held.len(), 20);
    }
}
