//! How many instances there are, in all and of each tenant, and that there are no more than there may be.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use switchboard_model::TenantSlug;

use crate::limits::Bounds;

/// Counts instances.
#[derive(Default)]
pub(crate) struct Capacity {
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    all: usize,
    by_tenant: HashMap<TenantSlug, usize>,
}

/// The right of an instance to be there. Dropping it makes room for another one.
pub(crate) struct InstancePermit {
    capacity: Arc<Capacity>,
    /// None for one that is asked what it is, and serves nobody.
    tenant: Option<TenantSlug>,
}

/// Whose bound is reached.
pub(crate) enum Full {
    Tenant,
    All,
}

impl Capacity {
    /// A permit for one more instance.
    pub(crate) fn take(self: &Arc<Self>, tenant: Option<&TenantSlug>, bounds: &Bounds) -> Result<InstancePermit, Full> {
        let mut taken = self.taken.lock();
        if let Some(tenant) = tenant {
            let own = taken.by_tenant.get(tenant).copied().unwrap_or(0);
            if own >= bounds.tenant_instances {
                return Err(Full::Tenant);
            }
        }
        if taken.all >= bounds.instances {
            return Err(Full::All);
        }
        taken.all += 1;
        if let Some(tenant) = tenant {
            *taken.by_tenant.entry(tenant.clone()).or_default() += 1;
        }
        Ok(InstancePermit { capacity: Arc::clone(self), tenant: tenant.cloned() })
    }

    /// Instances that exist.
    pub(crate) fn taken(&self) -> usize {
        self.taken.lock().all
    }
}

impl Drop for InstancePermit {
    fn drop(&mut self) {
        let mut taken = self.capacity.taken.lock();
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
