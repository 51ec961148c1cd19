//! Warm instances, kept for each tenant and generation.
//!
//! An instance never changes tenants, so nothing that one tenant's events left in its memory can meet another's. The
//! instances of a tenant are bounded, and all together; where a place is missing, the one unused longest gives way: the
//! tenant's own, if it has as many as it may have.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use super::instance::Instance;
use super::meter::Meter;
use super::{Bounds, CallError};
use crate::model::TenantSlug;

/// Which generation: its number in this process.
pub(super) type Serial = u64;

pub(super) struct Pool {
    slots: Mutex<HashMap<(Serial, TenantSlug), Arc<Slot>>>,
    places: Arc<Places>,
    bounds: Bounds,
}

/// What is kept of one tenant in one generation.
pub(super) struct Slot {
    idle: Mutex<Idle>,
    pub(super) meter: Meter,
}

struct Idle {
    instances: Vec<(Box<Instance>, Instant)>,
    touched: Instant,
}

/// How many instances there are.
struct Places {
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    all: usize,
    by_tenant: HashMap<TenantSlug, usize>,
}

/// An instance's place. Dropping it makes room for another one.
pub(super) struct Place {
    places: Arc<Places>,
    /// None for one that is asked what it is, and serves nobody.
    tenant: Option<TenantSlug>,
}

impl Pool {
    pub(super) fn new(bounds: Bounds) -> Self {
        let places = Arc::new(Places { taken: Mutex::default() });
        Self { slots: Mutex::default(), places, bounds }
    }

    /// What is kept of a tenant in a generation.
    pub(super) fn slot(&self, generation: Serial, tenant: &TenantSlug, meter: impl FnOnce() -> Meter) -> Arc<Slot> {
        let mut slots = locked(&self.slots);
        let slot = slots.entry((generation, tenant.clone())).or_insert_with(|| {
            let idle = Idle { instances: Vec::new(), touched: Instant::now() };
            Arc::new(Slot { idle: Mutex::new(idle), meter: meter() })
        });
        Arc::clone(slot)
    }

    /// A place for a new instance, taken from an idle one if there is no other.
    pub(super) fn place(&self, tenant: Option<&TenantSlug>) -> Result<Place, CallError> {
        loop {
            let crowded = match self.places.take(tenant, &self.bounds) {
                Ok(place) => return Ok(place),
                Err(crowded) => crowded,
            };
            let evicted = match crowded {
                Crowded::Tenant => self.evict(|owner| Some(owner) == tenant),
                Crowded::All => self.evict(|_| true),
            };
            if !evicted {
                return Err(CallError::Busy);
            }
        }
    }

    /// Instances that exist, running and warm.
    pub(super) fn instances(&self) -> usize {
        locked(&self.places.taken).all
    }

    /// Ends all idle instances of a generation.
    pub(super) fn retire(&self, generation: Serial) {
        let mut retired = Vec::new();
        locked(&self.slots).retain(|(owner, _), slot| {
            if *owner == generation {
                retired.append(&mut locked(&slot.idle).instances);
            }
            *owner != generation
        });
        // Ending them takes longer than a lock should be held.
        drop(retired);
    }

    /// Ends what was not used for too long, and forgets owners that were not heard of for that time. Answers whether
    /// anything is left.
    pub(super) fn sweep(&self, now: Instant) -> bool {
        let mut ended = Vec::new();
        let mut slots = locked(&self.slots);
        slots.retain(|_, slot| {
            let mut idle = locked(&slot.idle);
            let fresh = |since: &Instant| now.duration_since(*since) < self.bounds.idle;
            while idle.instances.first().is_some_and(|(_, since)| !fresh(since)) {
                ended.push(idle.instances.remove(0));
            }
            let touched = idle.touched;
            let empty = idle.instances.is_empty();
            drop(idle);
            !empty || fresh(&touched) || Arc::strong_count(slot) > 1
        });
        let left = !slots.is_empty();
        drop(slots);
        drop(ended);
        left
    }

    /// Ends the idle instance that was unused longest among those of these tenants.
    fn evict(&self, of: impl Fn(&TenantSlug) -> bool) -> bool {
        let slots = locked(&self.slots);
        let oldest = slots
            .iter()
            .filter(|((_, tenant), _)| of(tenant))
            .filter_map(|(_, slot)| locked(&slot.idle).instances.first().map(|(_, since)| (*since, Arc::clone(slot))))
            .min_by_key(|(since, _)| *since);
        drop(slots);
        let Some((_, slot)) = oldest else { return false };
        let mut idle = locked(&slot.idle);
        let evicted = (!idle.instances.is_empty()).then(|| idle.instances.remove(0));
        drop(idle);
        drop(evicted);
        true
    }
}

impl Slot {
    /// The warmest idle instance.
    pub(super) fn take(&self) -> Option<Box<Instance>> {
        locked(&self.idle).instances.pop().map(|(instance, _)| instance)
    }

    /// Keeps an instance for the next call.
    pub(super) fn put_back(&self, instance: Box<Instance>, now: Instant) {
        let mut idle = locked(&self.idle);
        idle.touched = now;
        idle.instances.push((instance, now));
    }

    /// Notes that a call was made although nothing of it is kept.
    pub(super) fn touch(&self, now: Instant) {
        locked(&self.idle).touched = now;
    }
}

enum Crowded {
    Tenant,
    All,
}

impl Places {
    fn take(self: &Arc<Self>, tenant: Option<&TenantSlug>, bounds: &Bounds) -> Result<Place, Crowded> {
        let mut taken = locked(&self.taken);
        if let Some(tenant) = tenant {
            let own = taken.by_tenant.get(tenant).copied().unwrap_or(0);
            if own >= bounds.tenant_instances {
                return Err(Crowded::Tenant);
            }
        }
        if taken.all >= bounds.instances {
            return Err(Crowded::All);
        }
        taken.all += 1;
        if let Some(tenant) = tenant {
            *taken.by_tenant.entry(tenant.clone()).or_default() += 1;
        }
        Ok(Place { places: Arc::clone(self), tenant: tenant.cloned() })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = locked(&self.places.taken);
        taken.all -= 1;
        if let Some(tenant) = &self.tenant
            && let Some(own) = taken.by_tenant.get_mut(tenant)
        {
            *own -= 1;
            if *own == 0 {
                taken.by_tenant.remove(tenant);
            }
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_bounded_for_each_tenant_and_in_all() {
        let bounds = Bounds { instances: 3, tenant_instances: 2, ..Bounds::default() };
        let pool = Pool::new(bounds);
        let (acme, globex) = ("acme".parse().unwrap(), "globex".parse().unwrap());
        let own = [pool.place(Some(&acme)).unwrap(), pool.place(Some(&acme)).unwrap()];
        assert!(pool.place(Some(&acme)).is_err(), "as many as a tenant may have");
        let other = pool.place(Some(&globex)).unwrap();
        assert!(pool.place(Some(&globex)).is_err(), "as many as there may be");
        assert_eq!(pool.instances(), 3);
        drop(own);
        assert!(pool.place(Some(&globex)).is_ok());
        drop(other);
        assert_eq!(pool.instances(), 0);
    }
}
