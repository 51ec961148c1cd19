//! Counts instances, on the node and for each tenant, against their bounds.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use switchboard_model::TenantSlug;

use crate::limits::Bounds;

#[derive(Default)]
pub(crate) struct Capacity {
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    all: usize,
    by_tenant: HashMap<TenantSlug, usize>,
}

/// Permission for one instance to exist. Dropping it frees the capacity.
pub(crate) struct InstancePermit {
    capacity: Arc<Capacity>,
    /// `None` for an instance that is only described or test-started and serves nobody.
    tenant: Option<TenantSlug>,
}

/// Which bound is reached.
pub(crate) enum Full {
    Tenant,
    All,
}

impl Capacity {
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

    /// Instances in existence.
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
