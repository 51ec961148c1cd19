//! Who may speak HTTP at once: so many in all, and so many from one address.
//!
//! Whoever speaks HTTP has shown no token yet, or is about to be answered. They are counted apart from sockets, so that
//! connections which say nothing keep nobody out who is in. An address that has its share waits for itself: its further
//! connections come in as its own ones end, and it is hung up on when too many wait or when it takes too long.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::model::ClientAddress;

/// Connections that speak HTTP at once, where there are descriptors enough.
const SPEAKING: usize = 4_096;

/// How long a connection waits for others of its address.
const PATIENCE: Duration = Duration::from_secs(10);

/// The turns of one listener.
#[derive(Debug)]
pub(super) struct Crowd {
    speaking: Arc<Semaphore>,
    share: usize,
    waiting: Semaphore,
    patience: Duration,
    lines: Mutex<HashMap<ClientAddress, Line>>,
}

/// The connections of one address: the turns of its share, and for how many it is remembered.
#[derive(Debug)]
struct Line {
    turns: Arc<Semaphore>,
    connections: usize,
}

/// A turn among all. It is taken before a connection is accepted: until there is one, they wait in the system's queue.
pub(super) type Seat = OwnedSemaphorePermit;

/// The right to speak, given back with this value.
#[derive(Debug)]
pub(super) struct Turn {
    _seat: Seat,
    _own: Option<(OwnedSemaphorePermit, InLine)>,
}

/// A connection that its address is remembered for.
#[derive(Debug)]
struct InLine {
    crowd: Arc<Crowd>,
    address: ClientAddress,
}

impl Crowd {
    /// For so many connections that are no sockets.
    pub(super) fn new(connections: usize) -> Arc<Self> {
        Arc::new(Self::of(connections))
    }

    fn of(connections: usize) -> Self {
        let speaking = (connections / 2).clamp(1, SPEAKING);
        let waiting = connections.saturating_sub(speaking).min(SPEAKING);
        Self {
            speaking: Arc::new(Semaphore::new(speaking)),
            // A quarter; where there are few, a browser's worth of connections, and never all.
            share: (speaking / 4).max(8.min(speaking / 2)).max(1),
            waiting: Semaphore::new(waiting),
            patience: PATIENCE,
            lines: Mutex::default(),
        }
    }

    /// The next free turn among all.
    pub(super) async fn seat(&self) -> Seat {
        Arc::clone(&self.speaking).acquire_owned().await.expect("the semaphore is never closed")
    }

    /// The right to speak for one who has a seat. Without an address, for a proxy that many are behind, it is there at once;
    /// otherwise when the address has not more than its share. None: too many of it wait, or it took too long.
    pub(super) async fn turn(self: &Arc<Self>, seat: Seat, address: Option<ClientAddress>) -> Option<Turn> {
        let Some(address) = address else { return Some(Turn { _seat: seat, _own: None }) };
        let (turns, line) = self.line_up(address);
        if let Ok(own) = Arc::clone(&turns).try_acquire_owned() {
            return Some(Turn { _seat: seat, _own: Some((own, line)) });
        }
        // Others take the seat meanwhile.
        drop(seat);
        let _waiting = self.waiting.try_acquire().ok()?;
        let both = async {
            let own = turns.acquire_owned().await.expect("the semaphore is never closed");
            Turn { _seat: self.seat().await, _own: Some((own, line)) }
        };
        timeout(self.patience, both).await.ok()
    }

    fn line_up(self: &Arc<Self>, address: ClientAddress) -> (Arc<Semaphore>, InLine) {
        let mut lines = self.lines();
        let new = || Line { turns: Arc::new(Semaphore::new(self.share)), connections: 0 };
        let line = lines.entry(address).or_insert_with(new);
        line.connections += 1;
        let turns = Arc::clone(&line.turns);
        drop(lines);
        (turns, InLine { crowd: Arc::clone(self), address })
    }

    fn lines(&self) -> MutexGuard<'_, HashMap<ClientAddress, Line>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for InLine {
    fn drop(&mut self) {
        let mut lines = self.crowd.lines();
        if let Some(line) = lines.get_mut(&self.address) {
            line.connections -= 1;
            if line.connections == 0 {
                lines.remove(&self.address);
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

    async fn now(crowd: &Arc<Crowd>, address: &str) -> Option<Turn> {
        let seat = crowd.seat().await;
        crowd.turn(seat, from(address)).now_or_never().flatten()
    }

    #[tokio::test]
    async fn an_address_that_has_its_share_waits_for_itself_and_for_a_while() {
        let crowd = Arc::new(Crowd { patience: Duration::from_millis(1), ..Crowd::of(200) });
        let mut loud = Vec::new();
        for _ in 0..crowd.share {
            loud.push(now(&crowd, "192.0.2.1").await.unwrap());
        }
        assert!(crowd.turn(crowd.seat().await, from("192.0.2.1")).await.is_none(), "it took too long");
        let patient = Arc::new(Crowd::of(200));
        let mut others: Vec<_> = Vec::new();
        for _ in 0..patient.share {
            others.push(now(&patient, "192.0.2.1").await.unwrap());
        }
        let mut next = Box::pin(patient.turn(patient.seat().await, from("192.0.2.1")));
        assert!(next.as_mut().now_or_never().is_none());
        assert_eq!(patient.speaking.available_permits(), 100 - others.len(), "who waits has no seat");
        assert!(now(&patient, "192.0.2.2").await.is_some(), "another address");
        others.pop();
        assert!(next.await.is_some(), "one of its own has ended");
        drop(loud);
        assert!(crowd.lines().is_empty(), "nobody is remembered");
        assert_eq!(crowd.speaking.available_permits(), 100);
    }

    #[tokio::test]
    async fn those_who_wait_are_bounded_and_a_proxy_has_no_share() {
        let crowd = Crowd::new(40);
        let mut held = Vec::new();
        for _ in 0..crowd.share {
            held.push(now(&crowd, "192.0.2.1").await.unwrap());
        }
        let waiting: Vec<_> = futures_util::future::join_all((0..30).map(async |_| {
            let mut turn = Box::pin(crowd.turn(crowd.seat().await, from("192.0.2.1")));
            turn.as_mut().now_or_never().map_or_else(|| Some(turn), |_| None)
        }))
        .await;
        assert_eq!(waiting.iter().flatten().count(), 20, "the others were hung up on");
        while crowd.speaking.available_permits() > 0 {
            let seat = crowd.seat().await;
            held.push(crowd.turn(seat, None).now_or_never().flatten().expect("a proxy has no share"));
        }
        assert_eq!(held.len(), 20);
    }
}
