//! Limits log-in attempts, for each name and each address.
//!
//! A name is limited whether or not it exists, so the answer reveals nothing. The right password resets the limit of
//! the name, but not of the address: an attacker may have an account as well.

use std::hash::Hash;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use governor::clock::Clock as Waits;
use governor::middleware::NoOpMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use moka::sync::Cache;
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

use crate::model::ClientAddress;

/// Attempts for a name in a burst, and how long until another one is allowed.
const NAME: (u32, Duration) = (10, Duration::from_secs(6));

/// Attempts from an address in a burst, and how long until another one is allowed. Many people may share an address.
const ADDRESS: (u32, Duration) = (300, Duration::from_millis(200));

/// Names, and addresses, that are remembered. What is seen once gives way to what is seen repeatedly.
const REMEMBERED: u64 = 100_000;

/// Which limit was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooMany {
    /// When the next attempt is allowed.
    pub after: Duration,
    /// The value of a metric's label.
    pub of: &'static str,
}

/// The attempts of a node.
pub struct Attempts<C: Waits = Since> {
    names: Limited<[u8; 32], C>,
    addresses: Limited<ClientAddress, C>,
}

impl<C: Waits> std::fmt::Debug for Attempts<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Attempts").finish_non_exhaustive()
    }
}

impl Default for Attempts {
    fn default() -> Self {
        Self::new(Since(Instant::now()))
    }
}

impl<C: Waits + Clone + Send + Sync + 'static> Attempts<C> {
    fn new(clock: C) -> Self {
        Self { names: Limited::new(NAME, clock.clone()), addresses: Limited::new(ADDRESS, clock) }
    }

    /// Takes one attempt for a name from an address.
    pub fn take(&self, tenant: &str, username: &str, address: ClientAddress) -> Result<(), TooMany> {
        self.addresses.take(address).map_err(|after| TooMany { after, of: "address" })?;
        self.names.take(name(tenant, username)).map_err(|after| TooMany { after, of: "name" })
    }

    /// Resets a name after the right password.
    pub fn forget(&self, tenant: &str, username: &str) {
        self.names.limits.invalidate(&name(tenant, username));
    }
}

/// A fixed-size digest of a name of any length.
fn name(tenant: &str, username: &str) -> [u8; 32] {
    Sha256::new().chain_update(tenant).chain_update([0]).chain_update(username).finalize().into()
}

type Limit<C> = RateLimiter<NotKeyed, InMemoryState, C, NoOpMiddleware<<C as Waits>::Instant>>;

/// A rate limit for each key.
struct Limited<K, C: Waits> {
    limits: Cache<K, Arc<Limit<C>>>,
    quota: Quota,
    clock: C,
}

impl<K, C> Limited<K, C>
where
    K: Hash + Eq + Send + Sync + 'static,
    C: Waits + Clone + Send + Sync + 'static,
{
    fn new((at_once, one_more): (u32, Duration), clock: C) -> Self {
        let quota = Quota::with_period(one_more).expect("it is more than nothing");
        let at_once = NonZeroU32::new(at_once).expect("it is more than nothing");
        // By then the full burst is available again, and there is nothing to remember.
        let forgotten_after = one_more * at_once.get();
        let limits = Cache::builder().max_capacity(REMEMBERED).time_to_idle(forgotten_after).build();
        Self { limits, quota: quota.allow_burst(at_once), clock }
    }

    /// Takes one attempt. The error says how long to wait.
    fn take(&self, key: K) -> Result<(), Duration> {
        let limit = self.limits.get_with(key, || Arc::new(Limit::direct_with_clock(self.quota, self.clock.clone())));
        limit.check().map_err(|not_yet| not_yet.wait_time_from(self.clock.now()))
    }
}

/// Time since a fixed moment, unaffected by changes of the machine's clock.
#[derive(Debug, Clone, Copy)]
pub struct Since(Instant);

impl Waits for Since {
    type Instant = Duration;

    fn now(&self) -> Duration {
        self.0.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use governor::clock::FakeRelativeClock;

    use super::*;

    fn from(address: &str) -> ClientAddress {
        address.parse::<IpAddr>().unwrap().into()
    }

    #[test]
    fn a_name_has_so_many_tries_wherever_they_come_from() {
        let clock = FakeRelativeClock::default();
        let attempts = Attempts::new(clock.clone());
        for n in 0..NAME.0 {
            attempts.take("acme", "alice", from(&format!("192.0.2.{n}"))).unwrap();
        }
        let home = from("198.51.100.1");
        let refused = attempts.take("acme", "alice", home).unwrap_err();
        assert!(refused.of == "name" && refused.after > Duration::ZERO && refused.after <= NAME.1, "{refused:?}");
        attempts.take("acme", "bob", home).unwrap();
        attempts.take("apex", "alice", home).unwrap();
        clock.advance(NAME.1);
        attempts.take("acme", "alice", home).unwrap();
        assert!(attempts.take("acme", "alice", home).is_err(), "one more, and no second one");
        attempts.forget("acme", "alice");
        for _ in 0..NAME.0 {
            attempts.take("acme", "alice", home).unwrap();
        }
    }

    #[test]
    fn an_address_has_so_many_tries_whatever_the_names_are() {
        let clock = FakeRelativeClock::default();
        let attempts = Attempts::new(clock.clone());
        let take = |n: u32, address: &str| attempts.take("acme", &format!("name-{n}"), from(address));
        for n in 0..ADDRESS.0 {
            take(n, &format!("2001:db8:1:2::{n:x}")).unwrap();
        }
        assert_eq!(take(0, "2001:db8:1:2::ffff").unwrap_err().of, "address");
        take(0, "2001:db8:1:3::1").unwrap();
        clock.advance(ADDRESS.1);
        take(1, "2001:db8:1:2::ffff").unwrap();
    }
}
