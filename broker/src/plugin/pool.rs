//! Warm instances, kept for each tenant and generation.
//!
//! An instance never changes tenants, so nothing that one tenant's events left in its memory can meet another's. All
//! instances together are bounded; when the last place is needed, the instance unused longest gives way.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::instance::Instance;
use super::{Bounds, CallError, Limits};
use crate::model::TenantSlug;

/// Which generation: its number in this process.
pub(super) type Serial = u64;

pub(super) struct Pool {
    slots: Mutex<Slots>,
    places: Arc<Semaphore>,
    bounds: Bounds,
}

#[derive(Default)]
struct Slots {
    by_owner: HashMap<(Serial, TenantSlug), Arc<Slot>>,
    swept: Option<Instant>,
}

struct Slot {
    idle: Mutex<Vec<(Instance, Instant)>>,
    turns: Arc<Semaphore>,
    waiting: AtomicUsize,
}

/// The right to run one call of a tenant, and the slot its instance comes from and goes back to.
pub(super) struct Turn {
    slot: Arc<Slot>,
    _permit: OwnedSemaphorePermit,
}

impl Pool {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self { slots: Mutex::default(), places: Arc::new(Semaphore::new(bounds.instances)), bounds }
    }

    /// Waits for the tenant's turn in a generation; refused when too many wait already.
    pub(super) async fn turn(
        &self,
        generation: Serial,
        tenant: &TenantSlug,
        limits: &Limits,
    ) -> Result<Turn, CallError> {
        let slot = self.slot(generation, tenant, limits);
        if let Ok(permit) = Arc::clone(&slot.turns).try_acquire_owned() {
            return Ok(Turn { slot, _permit: permit });
        }
        let waiting = Waiting::enter(&slot.waiting, limits.waiting)?;
        let permit = Arc::clone(&slot.turns).acquire_owned().await.map_err(|_| CallError::Busy)?;
        drop(waiting);
        Ok(Turn { slot, _permit: permit })
    }

    /// A place for a new instance, taken from an idle one if there is no other.
    pub(super) fn place(&self) -> Result<OwnedSemaphorePermit, CallError> {
        loop {
            if let Ok(place) = Arc::clone(&self.places).try_acquire_owned() {
                return Ok(place);
            }
            if !self.evict_one() {
                return Err(CallError::Busy);
            }
        }
    }

    pub(super) fn instances(&self) -> usize {
        self.bounds.instances - self.places.available_permits()
    }

    /// Ends all idle instances of a generation.
    pub(super) fn retire(&self, generation: Serial) {
        locked(&self.slots).by_owner.retain(|(owner, _), _| *owner != generation);
    }

    fn slot(&self, generation: Serial, tenant: &TenantSlug, limits: &Limits) -> Arc<Slot> {
        let mut slots = locked(&self.slots);
        let now = Instant::now();
        if slots.swept.is_none_or(|swept| now.duration_since(swept) > self.bounds.idle / 4) {
            slots.swept = Some(now);
            slots.sweep(now, &self.bounds);
        }
        let slot = slots.by_owner.entry((generation, tenant.clone())).or_insert_with(|| {
            Arc::new(Slot {
                idle: Mutex::default(),
                turns: Arc::new(Semaphore::new(limits.running)),
                waiting: AtomicUsize::new(0),
            })
        });
        Arc::clone(slot)
    }

    fn evict_one(&self) -> bool {
        let slots = locked(&self.slots);
        let oldest = slots
            .by_owner
            .values()
            .filter_map(|slot| locked(&slot.idle).first().map(|(_, since)| (*since, Arc::clone(slot))))
            .min_by_key(|(since, _)| *since);
        drop(slots);
        match oldest {
            None => false,
            Some((_, slot)) => {
                let mut idle = locked(&slot.idle);
                if !idle.is_empty() {
                    idle.remove(0);
                }
                true
            }
        }
    }
}

impl Slots {
    /// Ends what has been idle too long, and forgets owners that have nothing.
    fn sweep(&mut self, now: Instant, bounds: &Bounds) {
        self.by_owner.retain(|_, slot| {
            let mut idle = locked(&slot.idle);
            idle.retain(|(_, since)| now.duration_since(*since) < bounds.idle);
            !idle.is_empty() || Arc::strong_count(slot) > 1
        });
    }
}

impl Turn {
    /// The warmest idle instance.
    pub(super) fn take(&self) -> Option<Instance> {
        locked(&self.slot.idle).pop().map(|(instance, _)| instance)
    }

    /// Keeps an instance for the next call.
    pub(super) fn put_back(&self, instance: Instance) {
        locked(&self.slot.idle).push((instance, Instant::now()));
    }
}

/// Counts a caller among those who wait, for as long as it does.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn enter(count: &'a AtomicUsize, most: usize) -> Result<Self, CallError> {
        let waiting = Self(count);
        if count.fetch_add(1, Ordering::AcqRel) < most { Ok(waiting) } else { Err(CallError::Busy) }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
