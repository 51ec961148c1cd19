//! Limits who uses the pool's connections: one tenant gets at most half of them, so that its stalled calls hold up
//! nobody else.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{Semaphore, SemaphorePermit};

use switchboard_model::TenantSlug;

/// One permit for each connection of the pool. This separates waiting for a connection from waiting for the server.
pub(super) struct ConnectionPermits {
    all: Semaphore,
    /// ConnectionPermits one tenant may have.
    share: usize,
    /// The shares of tenants with calls under way.
    tenants: Mutex<HashMap<TenantSlug, Arc<Semaphore>>>,
}

/// A permit. Dropping it frees it.
pub(super) struct ConnectionPermit<'a> {
    _permit: SemaphorePermit<'a>,
    _own: Option<Own<'a>>,
}

/// A tenant's part of its share. The last one removes the share from the map.
struct Own<'a> {
    permits: &'a ConnectionPermits,
    tenant: TenantSlug,
    share: Arc<Semaphore>,
    has_permit: bool,
}

impl ConnectionPermits {
    pub(super) fn new(connections: usize) -> Self {
        let all = Semaphore::new(connections);
        Self { all, share: (connections / 2).max(1), tenants: Mutex::default() }
    }

    /// Waits for a permit. A tenant's call first waits for the tenant's share, so that it never holds a permit that
    /// others could use.
    pub(super) async fn take(&self, tenant: Option<&TenantSlug>) -> ConnectionPermit<'_> {
        let own = match tenant {
            None => None,
            Some(tenant) => {
                let mut own = self.own(tenant);
                own.share.acquire().await.expect("the semaphore is never closed").forget();
                own.has_permit = true;
                Some(own)
            }
        };
        ConnectionPermit { _permit: self.all.acquire().await.expect("the semaphore is never closed"), _own: own }
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
        Own { permits: self, tenant: tenant.clone(), share, has_permit: false }
    }
}

impl Drop for Own<'_> {
    fn drop(&mut self) {
        if self.has_permit {
            self.share.add_permits(1);
        }
        let mut tenants = self.permits.tenants.lock();
        // This one and the map's. Checked under the map's lock, where all clones are made.
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
        let permits = ConnectionPermits::new(4);
        let (acme, apex) = ("acme".parse().unwrap(), "apex".parse().unwrap());
        let take = |tenant| permits.take(Some(tenant)).now_or_never();
        let mut held = vec![take(&acme).unwrap(), take(&acme).unwrap()];
        let mut next = Box::pin(permits.take(Some(&acme)));
        assert!(next.as_mut().now_or_never().is_none(), "it has half");
        let others = [take(&apex).unwrap(), permits.take(None).now_or_never().unwrap()];
        assert!(permits.take(None).now_or_never().is_none(), "four in all");
        held.pop();
        assert!(next.as_mut().now_or_never().is_some());
        drop((held, others, next));
        assert!(permits.tenants.lock().is_empty(), "nobody is remembered");
        assert_eq!(permits.all.available_permits(), 4);
    }

    #[test]
    fn whoever_goes_away_while_waiting_leaves_nothing_behind() {
        let permits = ConnectionPermits::new(2);
        let acme = "acme".parse().unwrap();
        let held = permits.take(Some(&acme)).now_or_never().unwrap();
        let mut waiting = Box::pin(permits.take(Some(&acme)));
        assert!(waiting.as_mut().now_or_never().is_none());
        drop(waiting);
        drop(held);
        assert!(permits.tenants.lock().is_empty());
        assert!(permits.take(Some(&acme)).now_or_never().is_some());
    }
}
