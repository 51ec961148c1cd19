//! Starts an instance: makes it, and gives it the operator's configuration.
//!
//! A start has a bound of its own and counts into no event: what a component may take to begin has nothing to do with what
//! it may take for a message. It is tried before a generation is in force, and again for each instance. It runs in the back
//! room, because the engine's own work for a new instance cannot be interrupted.

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

/// How much processor time a start has.
const CPU: Duration = Duration::from_secs(1);

/// How long it may take, also on a machine that has other things to do first.
const WALL: Duration = Duration::from_secs(5);

/// What became of a start.
pub(crate) struct Started {
    pub(crate) instance: Result<Box<Instance>, CallError>,
    /// Its time on a processor.
    pub(crate) used: Duration,
}

/// Starts an instance for a tenant, or for nobody when it is only tried. Its time is counted in `usage`, also when whoever waits
/// for it goes away.
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

/// What is said of a start that did not end in time.
pub(crate) fn stopped() -> String {
    format!("its start was stopped: it has {} s of processor time, and {} s in all", CPU.as_secs(), WALL.as_secs())
}
