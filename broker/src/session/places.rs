//! Who may have a socket: so many in all, so many of a tenant, so many of a member; and so many who are unauthenticated,
//! since they have shown no token yet. A place is taken with the token, so that those cost members none.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Semaphore, SemaphorePermit};

use crate::model::{Principal, TenantSlug, UserId};

/// How many sockets there may be.
#[derive(Debug, Clone, Copy)]
pub struct SocketLimits {
    /// Of all members together.
    pub all: usize,
    /// Of the members of one tenant.
    pub tenant: usize,
    /// Of one member.
    pub member: usize,
}

/// The places of a broker.
#[derive(Debug)]
pub struct Places {
    limits: SocketLimits,
    taken: Mutex<Taken>,
    unauthenticated: Semaphore,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    tenants: HashMap<TenantSlug, usize>,
    members: HashMap<(TenantSlug, UserId), usize>,
}

/// A member's place, given back with this value.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    member: (TenantSlug, UserId),
}

impl Places {
    /// All of them are free. A quarter as many sockets may be unauthenticated, 16 at least and 4,096 at most.
    pub fn new(limits: SocketLimits) -> Arc<Self> {
        let unauthenticated = Semaphore::new((limits.all / 4).clamp(16, 4_096));
        Arc::new(Self { limits, taken: Mutex::default(), unauthenticated })
    }

    /// A place for one more socket of a member. The error says which limit is reached.
    pub(super) fn take(self: &Arc<Self>, principal: &Principal) -> Result<Place, &'static str> {
        let member = (principal.tenant.clone(), principal.user.id.clone());
        let mut taken = self.taken();
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
        taken.all += 1;
        *taken.tenants.entry(member.0.clone()).or_default() += 1;
        *taken.members.entry(member.clone()).or_default() += 1;
        drop(taken);
        Ok(Place { places: Arc::clone(self), member })
    }

    /// A place for a socket without a token, until it has shown one.
    pub(super) fn unauthenticated(&self) -> Option<SemaphorePermit<'_>> {
        self.unauthenticated.try_acquire().ok()
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken();
        taken.all -= 1;
        less(&mut taken.tenants, self.member.0.clone());
        less(&mut taken.members, self.member.clone());
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
        let places = Places::new(SocketLimits { all: 4, tenant: 3, member: 2 });
        let take = |tenant: &str, id: &str| places.take(&of(tenant, id));
        let mut held = vec![take("acme", "alice").unwrap(), take("acme", "alice").unwrap()];
        assert_eq!(take("acme", "alice").unwrap_err(), "member_limit");
        held.push(take("acme", "bob").unwrap());
        assert_eq!(take("acme", "bob").unwrap_err(), "tenant_limit");
        held.push(take("apex", "alice").unwrap());
        assert_eq!(take("apex", "bob").unwrap_err(), "connection_limit");
        held.remove(0);
        held.push(take("acme", "alice").unwrap());
        held.clear();
        let taken = places.taken();
        assert!(taken.all == 0 && taken.tenants.is_empty() && taken.members.is_empty(), "{taken:?}");
    }
}
