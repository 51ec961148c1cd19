//! Starts an instance: instantiates it and calls its `init` with the operator's configuration.
//!
//! A start has its own bounds and is not part of any event: how long a component takes to begin says nothing about how
//! long it may take for a message. It is tested before a generation is put in force, and repeated for each instance. It
//! runs in the background, because the engine's own work for a new instance cannot be interrupted.

use std::sync::Arc;
use std::time::Duration;

use crate::contract::host::usage::Usage;
use crate::error::CallError;
use crate::guest_log::Level;
use crate::limits::Allowance;
use crate::runtime::capacity::InstancePermit;
use crate::runtime::executor::{Job, Ran};
use crate::runtime::instance::{Blueprint, Instance, broken};
use crate::runtime::metrics::Present;
use crate::runtime::shared::Shared;
use switchboard_model::TenantSlug;

/// Processor time of a start.
const CPU: Duration = Duration::from_secs(1);

/// Deadline of a start, on a machine that serves others first.
const WALL: Duration = Duration::from_secs(5);

pub(crate) struct Started {
    pub(crate) instance: Result<Box<Instance>, CallError>,
    /// Processor time.
    pub(crate) used: Duration,
}

/// Starts an instance for a tenant, or for nobody in a test start. Its time is counted in `usage`, so it can be charged
/// even if the caller is dropped.
pub(crate) async fn start(
    shared: &Shared,
    blueprint: &Arc<Blueprint>,
    tenant: Option<&TenantSlug>,
    allowance: &Arc<Allowance>,
    permit: InstancePermit,
    present: Option<Present>,
    usage: &Arc<Usage>,
) -> Started {
    usage.begin(CPU);
    let (of_job, owner) = (Arc::clone(usage), tenant.cloned());
    let (made_of, allowance) = (Arc::clone(blueprint), Arc::clone(allowance));
    let job: Job<wasmtime::Result<Result<Box<Instance>, String>>> = Box::pin(async move {
        let made = Instance::instantiate(&made_of, owner.as_ref(), &allowance, &of_job, permit, present).await?;
        let mut instance = Box::new(made);
        let started = instance.init(&made_of.config).await?;
        Ok(started.map(|()| instance))
    });
    let Ran { answer, used, .. } = shared.executor.run(job, usage, WALL, true).await;
    let instance = match answer {
        Some(Ok(Ok(instance))) => Ok(instance),
        Some(Ok(Err(reason))) => Err(CallError::Failed(format!("its init failed: {reason}"))),
        Some(Err(error)) => Err(broken(&error, &blueprint.author, tenant)),
        None => Err(CallError::TimedOut),
    };
    if instance.as_ref().is_err_and(|error| *error == CallError::TimedOut) {
        blueprint.author.write(tenant, Level::Error, stopped());
    }
    Started { instance, used }
}

/// What the log says about a start that exceeded its bounds.
pub(crate) fn stopped() -> String {
    format!("its start was stopped: it has {} s of processor time, and {} s in all", CPU.as_secs(), WALL.as_secs())
}
