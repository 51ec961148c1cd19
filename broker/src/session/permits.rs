//! Limits on sockets: in total, for each tenant, member and address, and for sockets that have not shown a token yet.
//!
//! A socket counts against its member only once it has authenticated, so unauthenticated sockets take nothing from
//! members.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;
use std::sync::Arc;

use crate::model::{ClientAddress, Principal, TenantSlug, UserId};
use crate::telemetry::Throttle;
use parking_lot::Mutex;

#[derive(Debug, Clone, Copy)]
pub struct SocketLimits {
    pub all: usize,
    pub tenant: usize,
    pub member: usize,
    pub address: usize,
}

#[derive(Debug)]
pub struct SocketPermits {
    limits: SocketLimits,
    taken: Mutex<Taken>,
    throttle: Throttle,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    tenants: HashMap<TenantSlug, usize>,
    members: HashMap<(TenantSlug, UserId), usize>,
    addresses: HashMap<ClientAddress, usize>,
    unauthenticated: usize,
    unauthenticated_from: HashMap<ClientAddress, usize>,
}

/// A member's permit. Dropping it frees the permit.
#[derive(Debug)]
pub(super) struct SocketPermit {
    permits: Arc<SocketPermits>,
    member: (TenantSlug, UserId),
    address: ClientAddress,
}

/// The permit of an unauthenticated socket. Dropping it frees the permit.
#[derive(Debug)]
pub(super) struct UnauthenticatedPermit<'a> {
    permits: &'a SocketPermits,
    address: ClientAddress,
}

impl SocketPermits {
    pub fn new(limits: SocketLimits) -> Arc<Self> {
        Arc::new(Self { limits, taken: Mutex::default(), throttle: Throttle::default() })
    }

    /// Takes a permit for one more socket of a member. The error is the limit that was reached.
    pub(super) fn take(
        self: &Arc<Self>,
        principal: &Principal,
        address: ClientAddress,
    ) -> Result<SocketPermit, &'static str> {
        let member = (principal.tenant.clone(), principal.user.id.clone());
        let mut taken = self.taken.lock();
        let of = |count: Option<&usize>| count.copied().unwrap_or_default();
        if taken.all >= self.limits.all {
            return Err("connection_limit");
        }
        if of(taken.tenants.get(&member.0)) >= self.limits.tenant {
            return Err("tenant_limit");
        }
        if of(taken.members.get(&member)) >= self.limits.member {
            return Err("member_limit");
        }
        if of(taken.addresses.get(&address)) >= self.limits.address {
            return Err("address_limit");
        }
        taken.all += 1;
        *taken.tenants.entry(member.0.clone()).or_default() += 1;
        *taken.members.entry(member.clone()).or_default() += 1;
        *taken.addresses.entry(address).or_default() += 1;
        drop(taken);
        Ok(SocketPermit { permits: Arc::clone(self), member, address })
    }

    /// Takes a permit for an unauthenticated socket. There are a quarter as many as `limits.all`, at least 16 and at
    /// most 4,096; half of them may come from one address.
    pub(super) fn unauthenticated(&self, address: ClientAddress) -> Option<UnauthenticatedPermit<'_>> {
        let most = (self.limits.all / 4).clamp(16, 4_096);
        let mut taken = self.taken.lock();
        let own = taken.unauthenticated_from.get(&address).copied().unwrap_or_default();
        if taken.unauthenticated >= most || own >= most / 2 {
            return None;
        }
        taken.unauthenticated += 1;
        *taken.unauthenticated_from.entry(address).or_default() += 1;
        drop(taken);
        Some(UnauthenticatedPermit { permits: self, address })
    }

    /// Logs that a socket was refused, at a limited rate.
    pub(super) fn log_full(&self, reason: &'static str, address: ClientAddress) {
        if let Some(others) = self.throttle.may_log() {
            tracing::warn!(%address, reason, others, "closed a socket with 4100: there is no room for it");
        }
    }
}

impl Drop for SocketPermit {
    fn drop(&mut self) {
        let mut taken = self.permits.taken.lock();
        taken.all -= 1;
        less(&mut taken.tenants, self.member.0.clone(), 1);
        less(&mut taken.members, self.member.clone(), 1);
        less(&mut taken.addresses, self.address, 1);
    }
}

impl Drop for UnauthenticatedPermit<'_> {
    fn drop(&mut self) {
        let mut taken = self.permits.taken.lock();
        taken.unauthenticated -= 1;
        less(&mut taken.unauthenticated_from, self.address, 1);
    }
}

/// Takes away from a count and removes it at zero.
pub(super) fn less<K: Eq + Hash>(counts: &mut HashMap<K, usize>, key: K, by: usize) {
    if let Entry::Occupied(mut count) = counts.entry(key) {
        *count.get_mut() -= by;
        if *count.get() == 0 {
            count.remove();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Timestamp, TokenId, User};

    fn of(tenant: &str, id: &str) -> Principal {
        let user = User { id: id.parse().unwrap(), username: id.parse().unwrap() };
        Principal {
            tenant: tenant.parse().unwrap(),
            user,
            expires_at: Timestamp(0),
            token: TokenId::default(),
            revision: 0,
        }
    }

    #[test]
    fn a_limit_that_is_reached_is_named_and_what_is_given_back_is_there_again() {
        let permits = SocketPermits::new(SocketLimits { all: 4, tenant: 3, member: 2, address: 4 });
        let take = |tenant: &str, id: &str| permits.take(&of(tenant, id), from("192.0.2.1"));
        let mut held = vec![take("acme", "alice").unwrap(), take("acme", "alice").unwrap()];
        assert_eq!(take("acme", "alice").unwrap_err(), "member_limit");
        held.push(take("acme", "bob").unwrap());
        assert_eq!(take("acme", "bob").unwrap_err(), "tenant_limit");
        held.push(take("apex", "alice").unwrap());
        assert_eq!(take("apex", "bob").unwrap_err(), "connection_limit");
        held.remove(0);
        held.push(take("acme", "alice").unwrap());
        held.clear();
        assert!(is_empty(&permits));
    }

    #[test]
    fn an_address_has_a_share_of_the_sockets_and_half_of_those_without_a_token() {
        let permits = SocketPermits::new(SocketLimits { all: 64, tenant: 64, member: 64, address: 2 });
        let take = |address: &str| permits.take(&of("acme", "alice"), from(address));
        let held = [take("2001:db8:1:2::1").unwrap(), take("2001:db8:1:2::2").unwrap()];
        assert_eq!(take("2001:db8:1:2::3").unwrap_err(), "address_limit");
        let other = take("2001:db8:1:3::1").unwrap();
        let waiting: Vec<_> = (0..20).filter_map(|_| permits.unauthenticated(from("192.0.2.1"))).collect();
        let others: Vec<_> = (0..20).filter_map(|_| permits.unauthenticated(from("192.0.2.2"))).collect();
        assert_eq!((waiting.len(), others.len()), (8, 8));
        assert!(permits.unauthenticated(from("192.0.2.3")).is_none(), "sixteen in all");
        drop((held, other, waiting, others));
        assert!(is_empty(&permits));
    }

    fn from(address: &str) -> ClientAddress {
        address.parse::<std::net::IpAddr>().unwrap().into()
    }

    fn is_empty(permits: &SocketPermits) -> bool {
        let taken = permits.taken.lock();
        let maps = taken.tenants.is_empty() && taken.members.is_empty() && taken.addresses.is_empty();
        taken.all == 0 && maps && taken.unauthenticated == 0 && taken.unauthenticated_from.is_empty()
    }
}
