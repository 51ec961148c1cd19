//! Who may use the connections of the pool at once: no tenant more than half of them, so that one whose calls stall holds no
//! other up.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{Semaphore, SemaphorePermit};

use switchboard_model::TenantSlug;

/// A place for each connection of the pool, so that waiting for one is told apart from waiting for the server.
pub(super) struct Places {
    all: Semaphore,
    /// How many a tenant may have.
    share: usize,
    /// Those of tenants that have calls under way.
    tenants: Mutex<HashMap<TenantSlug, Arc<Semaphore>>>,
}

/// A place, given back with this value.
pub(super) struct Place<'a> {
    _place: SemaphorePermit<'a>,
    _own: Option<Own<'a>>,
}

/// A tenant's part in its share. With the last one the share is forgotten.
struct Own<'a> {
    places: &'a Places,
    tenant: TenantSlug,
    share: Arc<Semaphore>,
    has_place: bool,
}

impl Places {
    pub(super) fn new(connections: usize) -> Self {
        let all = Semaphore::new(connections);
        Self { all, share: (connections / 2).max(1), tenants: Mutex::default() }
    }

    /// Waits for a place; for a tenant's call first until the tenant has fewer than its share.
    pub(super) async fn take(&self, tenant: Option<&TenantSlug>) -> Place<'_> {
        let own = match tenant {
            None => None,
            Some(tenant) => {
                let mut own = self.own(tenant);
                own.share.acquire().await.expect("the semaphore is never closed").forget();
                own.has_place = true;
                Some(own)
            }
        };
        Place { _place: self.all.acquire().await.expect("the semaphore is never closed"), _own: own }
    }

    fn own(&self, tenant: &TenantSlug) -> Own<'_> {
        let mut tenants = self.tenants.lock();
        let share = match tenants.get(tenant) {
            Some(share) => Arc::clone(share),
            None => {
                let share = Arc::new(Semaphore::new(self.share));
                tenants.insert(tenant.clone(), Arc::clone(&share));
                share
            }
        };
        drop(tenants);
        Own { places: self, tenant: tenant.clone(), share, has_place: false }
    }
}

impl Drop for Own<'_> {
    fn drop(&mut self) {
        if self.has_place {
            self.share.add_permits(1);
        }
        let mut tenants = self.places.tenants.lock();
        // This one's and the map's.
        if tenants.get(&self.tenant).is_some_and(|share| Arc::strong_count(share) == 2) {
            tenants.remove(&self.tenant);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn a_tenant_has_half_of_the_places_and_waits_for_its_own() {
        let places = Places::new(4);
        let (acme, apex) = ("acme".parse().unwrap(), "apex".parse().unwrap());
        let take = |tenant| places.take(Some(tenant)).now_or_never();
        let mut held = vec![take(&acme).unwrap(), take(&acme).unwrap()];
        let mut next = Box::pin(places.take(Some(&acme)));
        assert!(next.as_mut().now_or_never().is_none(), "it has half");
        let others = [take(&apex).unwrap(), places.take(None).now_or_never().unwrap()];
        assert!(places.take(None).now_or_never().is_none(), "four in all");
        held.pop();
        assert!(next.as_mut().now_or_never().is_some());
        drop((held, others, next));
        assert!(places.tenants.lock().is_empty(), "nobody is remembered");
        assert_eq!(places.all.available_permits(), 4);
    }

    #[test]
    fn whoever_goes_away_while_waiting_leaves_nothing_behind() {
        let places = Places::new(2);
        let acme = "acme".parse().unwrap();
        let held = places.take(Some(&acme)).now_or_never().unwrap();
        let mut waiting = Box::pin(places.take(Some(&acme)));
        assert!(waiting.as_mut().now_or_never().is_none());
        drop(waiting);
        drop(held);
        assert!(places.tenants.lock().is_empty());
        assert!(places.take(Some(&acme)).now_or_never().is_some());
    }
}
