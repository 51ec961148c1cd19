//! Who may have a socket: so many in all, so many of a tenant, of a member and from an address; and so many who are
//! unauthenticated, since they have shown no token yet. A place is taken with the token, so that those cost members none.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;
use std::sync::Arc;

use crate::model::{ClientAddress, Principal, TenantSlug, UserId};
use crate::telemetry::Throttle;
use parking_lot::Mutex;

/// How many sockets there may be.
#[derive(Debug, Clone, Copy)]
pub struct SocketLimits {
    /// Of all members together.
    pub all: usize,
    /// Of the members of one tenant.
    pub tenant: usize,
    /// Of one member.
    pub member: usize,
    /// From one address.
    pub address: usize,
}

/// The places of a broker.
#[derive(Debug)]
pub struct Places {
    limits: SocketLimits,
    taken: Mutex<Taken>,
    said: Throttle,
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

/// A member's place, given back with this value.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    member: (TenantSlug, UserId),
    address: ClientAddress,
}

/// The place of a socket that has shown no token yet, given back with this value.
#[derive(Debug)]
pub(super) struct Waiting<'a> {
    places: &'a Places,
    address: ClientAddress,
}

impl Places {
    /// All of them are free.
    pub fn new(limits: SocketLimits) -> Arc<Self> {
        Arc::new(Self { limits, taken: Mutex::default(), said: Throttle::default() })
    }

    /// A place for one more socket of a member. The error says which limit is reached.
    pub(super) fn take(self: &Arc<Self>, principal: &Principal, address: ClientAddress) -> Result<Place, &'static str> {
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
        Ok(Place { places: Arc::clone(self), member, address })
    }

    /// A place for a socket without a token, until it has shown one. There are a quarter as many as others, 16 at least and
    /// 4,096 at most; of these, half may be from one address.
    pub(super) fn unauthenticated(&self, address: ClientAddress) -> Option<Waiting<'_>> {
        let most = (self.limits.all / 4).clamp(16, 4_096);
        let mut taken = self.taken.lock();
        let own = taken.unauthenticated_from.get(&address).copied().unwrap_or_default();
        if taken.unauthenticated >= most || own >= most / 2 {
            return None;
        }
        taken.unauthenticated += 1;
        *taken.unauthenticated_from.entry(address).or_default() += 1;
        drop(taken);
        Some(Waiting { places: self, address })
    }

    /// Says that there was no place, but not each time.
    pub(super) fn say_full(&self, reason: &'static str, address: ClientAddress) {
        if let Some(others) = self.said.may_say() {
            tracing::warn!(%address, reason, others, "a socket was closed with 4100: there is no place for it");
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock();
        taken.all -= 1;
        less(&mut taken.tenants, self.member.0.clone());
        less(&mut taken.members, self.member.clone());
        less(&mut taken.addresses, self.address);
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock();
        taken.unauthenticated -= 1;
        less(&mut taken.unauthenticated_from, self.address);
    }
}

/// One less; whoever has none left is forgotten.
fn less<K: Eq + Hash>(counts: &mut HashMap<K, usize>, key: K) {
    if let Entry::Occupied(mut count) = counts.entry(key) {
        *count.get_mut() -= 1;
        if *count.get() == 0 {
            count.remove();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Timestamp, User};

    fn of(tenant: &str, id: &str) -> Principal {
        let user = User { id: id.parse().unwrap(), username: id.parse().unwrap() };
        Principal { tenant: tenant.parse().unwrap(), user, expires_at: Timestamp(0) }
    }

    #[test]
    fn a_limit_that_is_reached_is_named_and_what_is_given_back_is_there_again() {
        let places = Places::new(SocketLimits { all: 4, tenant: 3, member: 2, address: 4 });
        let take = |tenant: &str, id: &str| places.take(&of(tenant, id), from("192.0.2.1"));
        let mut held = vec![take("acme", "alice").unwrap(), take("acme", "alice").unwrap()];
        assert_eq!(take("acme", "alice").unwrap_err(), "member_limit");
        held.push(take("acme", "bob").unwrap());
        assert_eq!(take("acme", "bob").unwrap_err(), "tenant_limit");
        held.push(take("apex", "alice").unwrap());
        assert_eq!(take("apex", "bob").unwrap_err(), "connection_limit");
        held.remove(0);
        held.push(take("acme", "alice").unwrap());
        held.clear();
        assert!(is_empty(&places));
    }

    #[test]
    fn an_address_has_a_share_of_the_sockets_and_half_of_those_without_a_token() {
        let places = Places::new(SocketLimits { all: 64, tenant: 64, member: 64, address: 2 });
        let take = |address: &str| places.take(&of("acme", "alice"), from(address));
        let held = [take("2001:db8:1:2::1").unwrap(), take("2001:db8:1:2::2").unwrap()];
        assert_eq!(take("2001:db8:1:2::3").unwrap_err(), "address_limit");
        let other = take("2001:db8:1:3::1").unwrap();
        let waiting: Vec<_> = (0..20).filter_map(|_| places.unauthenticated(from("192.0.2.1"))).collect();
        let others: Vec<_> = (0..20).filter_map(|_| places.unauthenticated(from("192.0.2.2"))).collect();
        assert_eq!((waiting.len(), others.len()), (8, 8));
        assert!(places.unauthenticated(from("192.0.2.3")).is_none(), "sixteen in all");
        drop((held, other, waiting, others));
        assert!(is_empty(&places));
    }

    fn from(address: &str) -> ClientAddress {
        address.parse::<std::net::IpAddr>().unwrap().into()
    }

    fn is_empty(places: &Places) -> bool {
        let taken = places.taken.lock();
        let maps = taken.tenants.is_empty() && taken.members.is_empty() && taken.addresses.is_empty();
        taken.all == 0 && maps && taken.unauthenticated == 0 && taken.unauthenticated_from.is_empty()
    }
}
