//! Limits how often members, tenants and addresses do something.
//!
//! Each node counts for itself: in a cluster, somebody with sockets on two nodes has twice the rate. A limit that is reached
//! refuses, and says when to try again; nothing is delayed here.
//!
//! A name is limited whether or not it exists, so a refused log-in reveals nothing. The right password resets the limit of
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
use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

use crate::config::{Rate, RateLimits, ScopedRates};
use crate::model::{ClientAddress, TenantSlug, UserId};
use crate::protocol::{ErrorCode, Refusal};

/// Members, tenants and addresses that are remembered of each kind. What is seen once gives way to what is seen repeatedly.
const REMEMBERED: u64 = 100_000;

/// How often somebody who acts often looks his limits up again, so that they are remembered meanwhile.
const TOUCH: Duration = Duration::from_secs(1);

/// The shortest time for which a limit is remembered.
const KEPT: Duration = Duration::from_secs(10);

/// Which limit was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooMany {
    /// When the next attempt is allowed.
    pub after: Duration,
    /// What there was too much of, as a metric's label.
    pub of: &'static str,
    /// Whose limit it is, as a metric's label.
    pub scope: &'static str,
}

impl TooMany {
    fn count(self) -> Self {
        crate::metrics::RATE_LIMITED.add([self.of, self.scope], 1);
        self
    }
}

impl From<TooMany> for Refusal {
    fn from(too_many: TooMany) -> Self {
        let after = u32::try_from(too_many.after.as_millis()).unwrap_or(u32::MAX).max(1);
        let message = match too_many.of {
            "joins" => "too many channels are joined; try again later",
            "channels" => "too many channels are created; try again later",
            "body_bytes" => "too much is sent; try again later",
            "log_ins" => "too many log-ins are tried; try again later",
            _ => "too many frames are sent; try again later",
        };
        Refusal { retry_after_ms: Some(after), ..Refusal::new(ErrorCode::RateLimited, message) }
    }
}

/// The rates of a node.
pub struct Rates<C: Waits = Since> {
    frames: Scopes<C>,
    joins: Scopes<C>,
    log_ins: Scopes<C>,
    channels: Scopes<C>,
    body_bytes: Scopes<C>,
}

impl<C: Waits> std::fmt::Debug for Rates<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rates").finish_non_exhaustive()
    }
}

/// Somebody who sends frames, with the limits that apply, looked up now and then.
pub struct FrameMeter {
    rates: Arc<Rates>,
    tenant: TenantSlug,
    user: UserId,
    address: ClientAddress,
    held: Mutex<(Instant, Limits<Since>)>,
}

impl std::fmt::Debug for FrameMeter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FrameMeter").finish_non_exhaustive()
    }
}

impl Rates {
    pub fn new(limits: &RateLimits) -> Arc<Self> {
        Arc::new(Self::with_clock(limits, Since(Instant::now())))
    }

    /// Counts the frames of somebody.
    pub fn frames_of(self: &Arc<Self>, tenant: &TenantSlug, user: &UserId, address: ClientAddress) -> FrameMeter {
        let (tenant, user) = (tenant.clone(), user.clone());
        let held = Mutex::new((Instant::now(), self.frames.limits(Some((&tenant, &user)), Some(&tenant), address)));
        FrameMeter { rates: Arc::clone(self), tenant, user, address, held }
    }
}

impl FrameMeter {
    /// Takes one frame.
    pub fn take(&self) -> Result<(), TooMany> {
        let mut held = self.held.lock();
        if held.0.elapsed() > TOUCH {
            let rates = &self.rates.frames;
            *held = (Instant::now(), rates.limits(Some((&self.tenant, &self.user)), Some(&self.tenant), self.address));
        }
        self.rates.frames.take(&held.1, NonZeroU32::MIN)
    }
}

impl<C: Waits<Instant = Duration> + Clone + Send + Sync + 'static> Rates<C> {
    fn with_clock(limits: &RateLimits, clock: C) -> Self {
        let scopes = |of, rates: ScopedRates| Scopes::new(of, rates, &clock);
        Self {
            frames: scopes("frames", limits.frames),
            joins: scopes("joins", limits.joins),
            log_ins: scopes("log_ins", limits.log_ins),
            channels: scopes("channels", limits.channels),
            body_bytes: scopes("body_bytes", limits.body_bytes),
        }
    }

    /// Takes one join of a channel.
    pub fn join(&self, tenant: &TenantSlug, user: &UserId, address: ClientAddress) -> Result<(), TooMany> {
        self.joins.take(&self.joins.limits(Some((tenant, user)), Some(tenant), address), NonZeroU32::MIN)
    }

    /// Takes one creation of a channel.
    pub fn create_channel(&self, tenant: &TenantSlug, user: &UserId, address: ClientAddress) -> Result<(), TooMany> {
        self.channels.take(&self.channels.limits(Some((tenant, user)), Some(tenant), address), NonZeroU32::MIN)
    }

    /// Takes so many bytes of a body, of a member if one is known.
    pub fn body(
        &self,
        member: Option<(&TenantSlug, &UserId)>,
        address: ClientAddress,
        bytes: usize,
    ) -> Result<(), TooMany> {
        let Some(bytes) = NonZeroU32::new(u32::try_from(bytes).unwrap_or(u32::MAX)) else { return Ok(()) };
        self.body_bytes.take(&self.body_bytes.limits(member, member.map(|(tenant, _)| tenant), address), bytes)
    }

    /// Takes one attempt to log in under a name from an address.
    pub fn log_in(&self, tenant: &str, username: &str, address: ClientAddress) -> Result<(), TooMany> {
        let limits = Limits {
            address: self.log_ins.addresses.get(address),
            tenant: self.log_ins.tenants.get(digest(&[tenant])),
            member: self.log_ins.members.get(digest(&[tenant, username])),
        };
        self.log_ins.take(&limits, NonZeroU32::MIN)
    }

    /// Resets the limit of a name after the right password.
    pub fn forget_log_ins(&self, tenant: &str, username: &str) {
        if let Some(limits) = &self.log_ins.members.0 {
            limits.known.invalidate(&digest(&[tenant, username]));
        }
    }
}

/// The limits of one kind of request.
struct Scopes<C: Waits> {
    of: &'static str,
    members: Scope<[u8; 32], C>,
    tenants: Scope<[u8; 32], C>,
    addresses: Scope<ClientAddress, C>,
}

/// The limits that apply to one request.
struct Limits<C: Waits> {
    address: Option<Arc<Limit<C>>>,
    tenant: Option<Arc<Limit<C>>>,
    member: Option<Arc<Limit<C>>>,
}

impl<C: Waits<Instant = Duration> + Clone + Send + Sync + 'static> Scopes<C> {
    fn new(of: &'static str, rates: ScopedRates, clock: &C) -> Self {
        Self {
            of,
            members: Scope::new(rates.member, clock),
            tenants: Scope::new(rates.tenant, clock),
            addresses: Scope::new(rates.address, clock),
        }
    }

    fn limits(
        &self,
        member: Option<(&TenantSlug, &UserId)>,
        tenant: Option<&TenantSlug>,
        address: ClientAddress,
    ) -> Limits<C> {
        Limits {
            address: self.addresses.get(address),
            tenant: tenant.and_then(|tenant| self.tenants.get(digest(&[tenant.as_str()]))),
            member: member.and_then(|(tenant, user)| self.members.get(digest(&[tenant.as_str(), user.as_str()]))),
        }
    }

    /// Takes so many, of the address first: whoever is refused there uses up nothing of others.
    fn take(&self, limits: &Limits<C>, number: NonZeroU32) -> Result<(), TooMany> {
        for (limit, scope) in [(&limits.address, "address"), (&limits.member, "member"), (&limits.tenant, "tenant")] {
            if let Some(limit) = limit {
                limit.take(number).map_err(|after| TooMany { after, of: self.of, scope }.count())?;
            }
        }
        Ok(())
    }
}

/// A digest of fixed size of a name of any length.
fn digest(parts: &[&str]) -> [u8; 32] {
    let mut digest = Sha256::new();
    for part in parts {
        digest.update(part);
        digest.update([0]);
    }
    digest.finalize().into()
}

/// One limit.
struct Limit<C: Waits> {
    limiter: RateLimiter<NotKeyed, InMemoryState, C, NoOpMiddleware<C::Instant>>,
    burst: NonZeroU32,
    clock: C,
}

impl<C: Waits<Instant = Duration>> Limit<C> {
    /// Takes so many, or as many as there can be at once. The error says how long to wait.
    fn take(&self, number: NonZeroU32) -> Result<(), Duration> {
        let taken = self.limiter.check_n(number.min(self.burst)).expect("no more than the burst");
        taken.map_err(|not_yet| not_yet.wait_time_from(self.clock.now()))
    }
}

/// A limit for each key; none at all if there is no rate.
struct Scope<K, C: Waits>(Option<Keyed<K, C>>);

struct Keyed<K, C: Waits> {
    known: Cache<K, Arc<Limit<C>>>,
    quota: Quota,
    clock: C,
}

impl<K, C> Scope<K, C>
where
    K: Hash + Eq + Send + Sync + 'static,
    C: Waits<Instant = Duration> + Clone + Send + Sync + 'static,
{
    fn new(rate: Option<Rate>, clock: &C) -> Self {
        Self(rate.map(|Rate { number, period, burst }| {
            let one_more = (period / number.get()).max(Duration::from_nanos(1));
            let quota = Quota::with_period(one_more).expect("it is more than nothing").allow_burst(burst);
            // By then the full burst is available again, and there is nothing to remember.
            let refilled = one_more.saturating_mul(burst.get()).max(KEPT);
            let known = Cache::builder().max_capacity(REMEMBERED).time_to_idle(refilled).build();
            Keyed { known, quota, clock: clock.clone() }
        }))
    }

    fn get(&self, key: K) -> Option<Arc<Limit<C>>> {
        let Keyed { known, quota, clock } = self.0.as_ref()?;
        Some(known.get_with(key, || {
            let limiter = RateLimiter::direct_with_clock(*quota, clock.clone());
            Arc::new(Limit { limiter, burst: quota.burst_size(), clock: clock.clone() })
        }))
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

    const BURST: u32 = 10;
    const ONE_MORE: Duration = Duration::from_secs(6);

    fn from(address: &str) -> ClientAddress {
        address.parse::<IpAddr>().unwrap().into()
    }

    /// The clock of `governor` for tests counts in its own unit.
    #[derive(Clone, Default)]
    struct Fake(FakeRelativeClock);

    impl Waits for Fake {
        type Instant = Duration;

        fn now(&self) -> Duration {
            self.0.now().into()
        }
    }

    fn rates(limits: RateLimits) -> (Rates<Fake>, Fake) {
        let clock = Fake::default();
        (Rates::with_clock(&limits, clock.clone()), clock)
    }

    fn scoped(text: &str) -> ScopedRates {
        let mut scoped = ScopedRates::default();
        for pair in text.split_whitespace() {
            let (scope, rate) = pair.split_once('=').unwrap();
            let rate = Some(rate.parse().unwrap());
            match scope {
                "member" => scoped.member = rate,
                "tenant" => scoped.tenant = rate,
                _ => scoped.address = rate,
            }
        }
        scoped
    }

    #[test]
    fn a_name_has_so_many_tries_wherever_they_come_from() {
        let (rates, clock) = rates(RateLimits { log_ins: scoped("member=10/m:10"), ..RateLimits::default() });
        for n in 0..BURST {
            rates.log_in("acme", "alice", from(&format!("192.0.2.{n}"))).unwrap();
        }
        let home = from("198.51.100.1");
        let refused = rates.log_in("acme", "alice", home).unwrap_err();
        assert!(
            refused.scope == "member" && refused.after > Duration::ZERO && refused.after <= ONE_MORE,
            "{refused:?}"
        );
        rates.log_in("acme", "bob", home).unwrap();
        rates.log_in("apex", "alice", home).unwrap();
        clock.0.advance(ONE_MORE);
        rates.log_in("acme", "alice", home).unwrap();
        assert!(rates.log_in("acme", "alice", home).is_err(), "one more, and no second one");
        rates.forget_log_ins("acme", "alice");
        for _ in 0..BURST {
            rates.log_in("acme", "alice", home).unwrap();
        }
    }

    #[test]
    fn an_address_has_so_many_tries_whatever_the_names_are() {
        let (rates, clock) = rates(RateLimits { log_ins: scoped("address=5/s:300"), ..RateLimits::default() });
        let take = |n: u32, address: &str| rates.log_in("acme", &format!("name-{n}"), from(address));
        for n in 0..300 {
            take(n, &format!("2001:db8:1:2::{n:x}")).unwrap();
        }
        assert_eq!(take(0, "2001:db8:1:2::ffff").unwrap_err().scope, "address");
        take(0, "2001:db8:1:3::1").unwrap();
        clock.0.advance(Duration::from_millis(200));
        take(1, "2001:db8:1:2::ffff").unwrap();
    }

    #[test]
    fn member_tenant_and_address_have_their_own_limits_and_without_a_rate_there_is_none() {
        let limits = RateLimits {
            joins: scoped("member=2/s tenant=3/s"),
            body_bytes: scoped("address=1k/s:10k"),
            ..RateLimits::default()
        };
        let (rates, _) = rates(limits);
        let (acme, apex): (TenantSlug, TenantSlug) = ("acme".parse().unwrap(), "apex".parse().unwrap());
        let (alice, bob): (UserId, UserId) = ("alice".parse().unwrap(), "bob".parse().unwrap());
        let (home, other) = (from("192.0.2.1"), from("192.0.2.2"));
        rates.join(&acme, &alice, home).unwrap();
        rates.join(&acme, &alice, other).unwrap();
        assert_eq!(rates.join(&acme, &alice, home).unwrap_err().scope, "member");
        rates.join(&acme, &bob, home).unwrap();
        assert_eq!(rates.join(&acme, &bob, home).unwrap_err().scope, "tenant");
        rates.join(&apex, &alice, home).unwrap();
        for _ in 0..10_000 {
            rates.create_channel(&acme, &alice, home).unwrap();
        }
        rates.body(None, home, 10_000).unwrap();
        assert_eq!(rates.body(Some((&acme, &alice)), home, 1).unwrap_err().of, "body_bytes");
        rates.body(None, other, 1 << 30).expect("more than can come at once takes all of it");
        assert!(rates.body(None, other, 1).is_err());
    }
}
