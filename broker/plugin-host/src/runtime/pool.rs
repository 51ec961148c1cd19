//! Warm instances, kept for each tenant and generation.
//!
//! An instance never changes tenants, so nothing that one tenant's events left in its memory can reach another's.
//! Instances are bounded for each tenant and on the node. When a bound is reached, the idle instance unused longest is
//! evicted: one of the same tenant if it is the tenant's bound, any otherwise. A running instance is never evicted; if
//! nothing is idle, the caller is refused as busy.
//!
//! Within a slot, idle instances are sorted by last use, oldest first. The newest is reused first, so the rest can
//! expire.
//!
//! Locks are taken in the order slots, then a slot's `idle`. Instances are dropped only after both are released:
//! freeing their memory takes longer than a lock should be held, and returns their capacity.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::error::CallError;
use crate::limits::Bounds;
use crate::runtime::capacity::{Capacity, Full, InstancePermit};
use crate::runtime::instance::Instance;
use crate::runtime::metrics::TenantMetrics;
use switchboard_model::TenantSlug;

/// Identifies a generation within this process.
pub(crate) type Serial = u64;

pub(crate) struct Pool {
    slots: Mutex<HashMap<(Serial, TenantSlug), Arc<Slot>>>,
    capacity: Arc<Capacity>,
    bounds: Bounds,
}

/// The idle instances of one tenant in one generation.
pub(crate) struct Slot {
    idle: Mutex<Idle>,
    pub(crate) metrics: TenantMetrics,
}

struct Idle {
    instances: Vec<(Box<Instance>, Instant)>,
    touched: Instant,
}

impl Pool {
    pub(crate) fn new(bounds: Bounds) -> Self {
        Self { slots: Mutex::default(), capacity: Arc::default(), bounds }
    }

    pub(crate) fn slot(
        &self,
        generation: Serial,
        tenant: &TenantSlug,
        metrics: impl FnOnce() -> TenantMetrics,
    ) -> Arc<Slot> {
        let mut slots = self.slots.lock();
        let slot = slots.entry((generation, tenant.clone())).or_insert_with(|| {
            let idle = Idle { instances: Vec::new(), touched: Instant::now() };
            Arc::new(Slot { idle: Mutex::new(idle), metrics: metrics() })
        });
        Arc::clone(slot)
    }

    /// Permission for one more instance, evicting an idle one if necessary.
    pub(crate) fn permit(&self, tenant: Option<&TenantSlug>) -> Result<InstancePermit, CallError> {
        loop {
            let full = match self.capacity.take(tenant, &self.bounds) {
                Ok(permit) => return Ok(permit),
                Err(full) => full,
            };
            let evicted = match full {
                Full::Tenant => self.evict(|owner| Some(owner) == tenant),
                Full::All => self.evict(|_| true),
            };
            if !evicted {
                return Err(CallError::Busy);
            }
        }
    }

    /// Instances in existence, running and warm.
    pub(crate) fn instances(&self) -> usize {
        self.capacity.taken()
    }

    /// Drops all idle instances of a generation.
    pub(crate) fn retire(&self, generation: Serial) {
        let mut retired = Vec::new();
        self.slots.lock().retain(|(owner, _), slot| {
            if *owner == generation {
                retired.append(&mut slot.idle.lock().instances);
            }
            *owner != generation
        });
        // Dropped after the lock is released: ending instances takes long.
        drop(retired);
    }

    /// Drops instances idle for too long, and slots unused for as long. Returns whether any slot is left.
    pub(crate) fn sweep(&self, now: Instant) -> bool {
        let mut ended = Vec::new();
        let mut slots = self.slots.lock();
        slots.retain(|_, slot| {
            let mut idle = slot.idle.lock();
            let fresh = |since: &Instant| now.duration_since(*since) < self.bounds.idle;
            while idle.instances.first().is_some_and(|(_, since)| !fresh(since)) {
                ended.push(idle.instances.remove(0));
            }
            let touched = idle.touched;
            let empty = idle.instances.is_empty();
            drop(idle);
            // A slot held by a call stays: the call puts its instance back into it and counts failures in it.
            !empty || fresh(&touched) || Arc::strong_count(slot) > 1
        });
        let left = !slots.is_empty();
        drop(slots);
        drop(ended);
        left
    }

    /// Drops the idle instance unused longest among those of the matching tenants. Returns whether there was one.
    fn evict(&self, of: impl Fn(&TenantSlug) -> bool) -> bool {
        let slots = self.slots.lock();
        let oldest = slots
            .iter()
            .filter(|((_, tenant), _)| of(tenant))
            .filter_map(|(_, slot)| slot.idle.lock().instances.first().map(|(_, since)| (*since, Arc::clone(slot))))
            .min_by_key(|(since, _)| *since);
        drop(slots);
        let Some((_, slot)) = oldest else { return false };
        let mut idle = slot.idle.lock();
        // Another call may have taken the instance meanwhile. That still returns true: the caller tries again.
        let evicted = (!idle.instances.is_empty()).then(|| idle.instances.remove(0));
        drop(idle);
        drop(evicted);
        true
    }
}

impl Slot {
    /// The idle instance used most recently.
    pub(crate) fn take(&self) -> Option<Box<Instance>> {
        self.idle.lock().instances.pop().map(|(instance, _)| instance)
    }

    pub(crate) fn put_back(&self, instance: Box<Instance>, now: Instant) {
        let mut idle = self.idle.lock();
        idle.touched = now;
        idle.instances.push((instance, now));
    }

    /// Notes a call whose instance is not kept.
    pub(crate) fn touch(&self, now: Instant) {
        self.idle.lock().touched = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instances_are_bounded_for_each_tenant_and_in_all() {
        let bounds = Bounds { instances: 3, tenant_instances: 2, ..Bounds::default() };
        let pool = Pool::new(bounds);
        let (acme, globex) = ("acme".parse().unwrap(), "globex".parse().unwrap());
        let own = [pool.permit(Some(&acme)).unwrap(), pool.permit(Some(&acme)).unwrap()];
        assert!(pool.permit(Some(&acme)).is_err(), "as many as a tenant may have");
        let other = pool.permit(Some(&globex)).unwrap();
        assert!(pool.permit(Some(&globex)).is_err(), "as many as there may be");
        assert_eq!(pool.instances(), 3);
        drop(own);
        assert!(pool.permit(Some(&globex)).is_ok());
        drop(other);
        assert_eq!(pool.instances(), 0);
    }
}
