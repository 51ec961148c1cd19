//! Who may have a socket: so many in all, so many of a tenant, so many of a member; and so many strangers, who have not
//! shown a token yet. A place is taken with the token, so that strangers cost members none.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Semaphore, SemaphorePermit};

use crate::model::{Principal, TenantSlug, UserId};

/// How many sockets there may be.
#[derive(Debug, Clone, Copy)]
pub struct Shares {
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
    shares: Shares,
    taken: Mutex<Taken>,
    strangers: Semaphore,
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
    /// All of them are free. A quarter as many strangers as members may be at the door, 16 at least and 4,096 at most.
    pub fn new(shares: Shares) -> Arc<Self> {
        let strangers = Semaphore::new((shares.all / 4).clamp(16, 4_096));
        Arc::new(Self { shares, taken: Mutex::default(), strangers })
    }

    /// A place for one more socket of a member. The error says which share is used up.
    pub(super) fn take(self: &Arc<Self>, principal: &Principal) -> Result<Place, &'static str> {
        let member = (principal.tenant.clone(), principal.user.id.clone());
        let mut taken = self.taken();
        let of = |count: Option<&usize>| count.copied().unwrap_or_default();
        if taken.all >= self.shares.all {
            return Err("connection_limit");
        }
        if of(taken.tenants.get(&member.0)) >= self.shares.tenant {
            return Err("tenant_share");
        }
        if of(taken.members.get(&member)) >= self.shares.member {
            return Err("member_share");
        }
        taken.all += 1;
        *taken.tenants.entry(member.0.clone()).or_default() += 1;
        *taken.members.entry(member.clone()).or_default() += 1;
        drop(taken);
        Ok(Place { places: Arc::clone(self), member })
    }

    /// A place for someone without a token, while they have it.
    pub(super) fn stranger(&self) -> Option<SemaphorePermit<'_>> {
        self.strangers.try_acquire().ok()
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
    fn a_share_that_is_used_up_is_named_and_what_is_given_back_is_there_again() {
        let places = Places::new(Shares { all: 4, tenant: 3, member: 2 });
        let take = |tenant: &str, id: &str| places.take(&of(tenant, id));
        let mut held = vec![take("acme", "alice").unwrap(), take("acme", "alice").unwrap()];
        assert_eq!(take("acme", "alice").unwrap_err(), "member_share");
        held.push(take("acme", "bob").unwrap());
        assert_eq!(take("acme", "bob").unwrap_err(), "tenant_share");
        held.push(take("apex", "alice").unwrap());
        assert_eq!(take("apex", "bob").unwrap_err(), "connection_limit");
        held.remove(0);
        held.push(take("acme", "alice").unwrap());
        held.clear();
        let taken = places.taken();
        assert!(taken.all == 0 && taken.tenants.is_empty() && taken.members.is_empty(), "{taken:?}");
    }
}
