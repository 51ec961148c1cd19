//! One version of a plugin with its configuration, ready to run.
//!
//! [`Generation::call`] is the whole path of a call: a permit from the scheduler, an instance from the pool or a new
//! one, the call in the executor, and the bookkeeping afterwards. It never retries, never applies effects and never
//! decides where events go.
//!
//! An instance is reused only if its call ended soundly. After a trap, a timeout or an answer that cannot be applied it
//! is dropped, because its memory may be in any state. A start is bounded separately and is not part of the event's
//! time, but its processor time is charged to the tenant.
//!
//! A retired generation still finishes the calls that hold it. It only keeps nothing warm.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use crate::contract::Input;
use crate::contract::descriptor::Descriptor;
use crate::contract::earlier::Earlier;
use crate::contract::host::usage::Usage;
use crate::error::CallError;
use crate::guest_log::{Author, Level};
use crate::limits::Allowance;
use crate::recording::recorder::along;
use crate::runtime::deferred::Deferred;
use crate::runtime::executor::{Job, Ran};
use crate::runtime::instance::{Blueprint, Instance, broken};
use crate::runtime::metrics::VersionMetrics;
use crate::runtime::pool::{Serial, Slot};
use crate::runtime::recent::Recent;
use crate::runtime::scheduler::RunPermit;
use crate::runtime::shared::Shared;
use crate::runtime::start::{Started, start};
use switchboard_model::catalogue::{GenerationId, Import, KindSpec};
use switchboard_model::{ChannelKey, Effect, Event, Kind, Message, PluginName, TenantSlug};

/// A version of a plugin: compiled, linked, described and configured.
pub struct Generation {
    serial: Serial,
    id: Option<GenerationId>,
    descriptor: Descriptor,
    blueprint: Arc<Blueprint>,
    memory_at_start: usize,
    shared: Arc<Shared>,
    metrics: VersionMetrics,
    recent: Recent,
    deferred: Deferred,
    retired: AtomicBool,
}

impl std::fmt::Debug for Generation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}@{} ({})", self.name(), self.version(), &self.digest()[..12])
    }
}

/// How a call went.
pub(crate) struct Called {
    pub(crate) answer: Result<Vec<Effect>, CallError>,
    /// Whether this failure completes a series that has to be reported now.
    pub(crate) fails: bool,
    /// When the call ended.
    pub(crate) now: Instant,
}

impl Generation {
    pub(crate) fn new(
        id: Option<GenerationId>,
        descriptor: Descriptor,
        blueprint: Arc<Blueprint>,
        memory_at_start: usize,
        shared: Arc<Shared>,
    ) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);

        let metrics = VersionMetrics::new(&shared.labels, descriptor.plugin.as_str(), &descriptor.version);
        Self {
            serial: NEXT.fetch_add(1, Ordering::Relaxed),
            id,
            descriptor,
            blueprint,
            memory_at_start,
            shared,
            metrics,
            recent: Recent::default(),
            deferred: Deferred::default(),
            retired: AtomicBool::new(false),
        }
    }

    /// `None` for a plugin that is built in or named at start-up.
    pub fn id(&self) -> Option<GenerationId> {
        self.id
    }

    pub fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }

    pub fn plugin(&self) -> &PluginName {
        &self.descriptor.plugin
    }

    pub fn name(&self) -> &str {
        self.descriptor.plugin.as_str()
    }

    pub fn version(&self) -> &str {
        &self.descriptor.version
    }

    /// The SHA-256 of the component, in hexadecimal.
    pub fn digest(&self) -> &str {
        self.descriptor.digest.as_str()
    }

    /// The operator's configuration for `init`.
    pub fn config(&self) -> &str {
        &self.blueprint.config
    }

    /// Bytes that the memories and tables of an instance occupy after its start.
    pub fn memory_at_start(&self) -> usize {
        self.memory_at_start
    }

    pub fn kinds(&self) -> &[KindSpec] {
        &self.descriptor.kinds
    }

    /// The kinds of stored messages it is called with.
    pub fn watches(&self) -> &[Kind] {
        &self.descriptor.watches
    }

    /// The first wanted interface that is missing from `grants`.
    pub fn ungranted(&self, grants: &BTreeSet<Import>) -> Option<Import> {
        self.descriptor.ungranted(grants)
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    pub(crate) fn blueprint(&self) -> &Arc<Blueprint> {
        &self.blueprint
    }

    pub(crate) fn author(&self) -> &Author {
        &self.blueprint.author
    }

    pub(crate) fn recent(&self) -> &Recent {
        &self.recent
    }

    /// Work for this generation that no event waits for.
    pub(crate) fn deferred(&self) -> &Deferred {
        &self.deferred
    }

    /// Calls the handler with an event, or with a stored message in the context of one, in an instance of the channel's
    /// tenant. Waits for a permit, and for a new instance if none is warm; the call itself takes at most
    /// [`Limits::wall`](crate::Limits::wall) after that. Host reads wait for `earlier`.
    pub(crate) async fn call(
        &self,
        channel: &ChannelKey,
        event: &Event,
        message: Option<&Message>,
        earlier: Option<&Earlier>,
        allowance: &Arc<Allowance>,
    ) -> Called {
        let slot = self.shared.pool.slot(self.serial, &channel.tenant, || self.metrics.of(&channel.tenant));
        let mut permit = match self.shared.scheduler.permit(self.serial, &channel.tenant, &allowance.limits).await {
            Ok(permit) => permit,
            Err(busy) => {
                slot.metrics.ended(Some(&busy), 0, Duration::ZERO);
                return Called { answer: Err(busy), fails: false, now: Instant::now() };
            }
        };
        let arrived = Instant::now();
        let starting = self.instance(&slot, &channel.tenant, allowance, &mut permit);
        let Started { instance, used: starting } = starting.await;
        // The tenant pays for the start; the event's own limits do not.
        permit.spent(starting, instance.is_err());
        let Answered { answer, instance, memory, used, took } = match instance {
            Ok(instance) => self.run(instance, channel, event, message, earlier, allowance, &mut permit).await,
            Err(error) => {
                let took = arrived.elapsed();
                Answered { answer: Err(error), instance: None, memory: 0, used: Duration::ZERO, took }
            }
        };
        let now = Instant::now();
        slot.metrics.memory(memory);
        // `retire` removes the slot from the pool. An instance put back in a race with it dies with this last reference
        // to the slot.
        match instance.filter(|instance| instance.is_fresh(&allowance.limits)) {
            Some(instance) if !self.retired.load(Ordering::Acquire) => slot.put_back(instance, now),
            _ => slot.touch(now),
        }
        let (error, effects) = (answer.as_ref().err(), answer.as_ref().map_or(0, Vec::len));
        self.metrics.took(error.map_or("ok", CallError::word), took);
        self.recent.add(now, took, error.is_some_and(CallError::is_fault));
        let fails = slot.metrics.ended(error, effects, starting + used);
        Called { answer, fails, now }
    }

    /// A warm instance, or a new one.
    async fn instance(
        &self,
        slot: &Slot,
        tenant: &TenantSlug,
        allowance: &Arc<Allowance>,
        permit: &mut RunPermit,
    ) -> Started {
        if let Some(kept) = slot.take().filter(|kept| kept.serves(allowance)) {
            return Started { instance: Ok(kept), used: Duration::ZERO };
        }
        let instance_permit = match self.shared.pool.permit(Some(tenant)) {
            Ok(permit) => permit,
            Err(busy) => return Started { instance: Err(busy), used: Duration::ZERO },
        };
        let began = Instant::now();
        let present = Some(slot.metrics.instance());
        let usage = Arc::new(Usage::new());
        permit.begin(&usage);
        let started =
            start(&self.shared, &self.blueprint, Some(tenant), allowance, instance_permit, present, &usage).await;
        self.metrics.started(began.elapsed());
        if let Ok(instance) = &started.instance {
            slot.metrics.memory(instance.memory());
        }
        started
    }

    async fn run(
        &self,
        mut instance: Box<Instance>,
        channel: &ChannelKey,
        event: &Event,
        message: Option<&Message>,
        earlier: Option<&Earlier>,
        allowance: &Allowance,
        permit: &mut RunPermit,
    ) -> Answered {
        let (limits, tenant) = (&allowance.limits, Some(&channel.tenant));
        let usage = Arc::clone(instance.usage());
        usage.begin(limits.cpu);
        permit.begin(&usage);
        let (input, of_call) = (Input::new(channel, event, message), channel.clone());
        let earlier = earlier.cloned();
        // The job owns the instance, so a call that is cancelled or stopped takes it along.
        let job: Job<wasmtime::Result<_>> = Box::pin(async move {
            let answer = instance.call(of_call, earlier, &input).await?;
            Ok((instance, answer))
        });
        let began = Instant::now();
        let Ran { answer, used, slow } =
            self.shared.executor.run(along(job), &usage, limits.wall, permit.is_slow()).await;
        let took = began.elapsed();
        // A failed call counts as slow: a trap costs more than the processor time charged for it.
        permit.spent(used, slow || !matches!(answer, Some(Ok(_))));
        let (answer, instance, memory) = match answer {
            None => {
                let line = format!("`{}` was stopped after {} ms", event.kind, limits.wall.as_millis());
                self.author().write(tenant, Level::Error, line);
                (Err(CallError::TimedOut), None, 0)
            }
            Some(Err(error)) => (Err(broken(&error, self.author(), tenant)), None, 0),
            Some(Ok((instance, answer))) => {
                // A guest that reports a fault or returns nonsense may have left its memory in any state.
                let sound = !matches!(answer, Err(CallError::Failed(_)));
                let memory = instance.memory();
                (answer, sound.then_some(instance), memory)
            }
        };
        Answered { answer, instance, memory, used, took }
    }

    /// Drops warm instances and keeps none from now on: no new event comes here.
    pub(crate) fn retire(&self) {
        self.retired.store(true, Ordering::Release);
        self.shared.pool.retire(self.serial);
    }

    /// New events come here again.
    pub(crate) fn revive(&self) {
        self.retired.store(false, Ordering::Release);
    }
}

/// The outcome of one call of an instance.
struct Answered {
    answer: Result<Vec<Effect>, CallError>,
    /// Present if the instance may be called again.
    instance: Option<Box<Instance>>,
    /// Bytes of its memories and tables; 0 where unknown.
    memory: usize,
    /// Processor time.
    used: Duration,
    /// Time on the clock.
    took: Duration,
}

impl Drop for Generation {
    fn drop(&mut self) {
        self.shared.pool.retire(self.serial);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use uuid::Uuid;

    use super::*;
    use crate::fixture::{component, engine};
    use crate::{Limits, Order};
    use switchboard_model::{ChannelId, MessageId, Timestamp, User};

    fn said(tenant: &str) -> (ChannelKey, Event) {
        let channel = ChannelKey { tenant: tenant.parse().unwrap(), channel: ChannelId(Uuid::nil()) };
        let event = Event {
            kind: "chat.message".parse().unwrap(),
            payload: r#"{"type":"chat.message","message":"hi"}"#.to_owned(),
            channel: channel.channel,
            user: User { id: "7".parse().unwrap(), username: "alice".parse().unwrap() },
            session: None,
            client_id: None,
            id: MessageId(Uuid::nil()),
            at: Timestamp(0),
        };
        (channel, event)
    }

    #[tokio::test]
    async fn a_tenant_whose_call_trapped_waits_as_after_a_slow_one() {
        let generation = engine().await.prepare(Order::builtin("chat", component())).await.unwrap();
        let enough = Arc::new(Allowance::trusted());
        let little = Limits { memory: 64 << 10, ..Limits::default() };
        let too_little = Arc::new(Allowance { limits: little, ..Allowance::trusted() });
        let is_slow = |channel: &ChannelKey| {
            let permit = generation.shared.scheduler.permit(generation.serial, &channel.tenant, &enough.limits);
            permit.now_or_never().expect("nobody else is here").unwrap().is_slow()
        };

        let (channel, event) = said("acme");
        let called = generation.call(&channel, &event, None, None, &too_little).await;
        assert!(matches!(called.answer, Err(CallError::Trapped(_))), "{:?}", called.answer);
        assert!(is_slow(&channel));

        // On a busy machine a tick may catch any call, but not one of every tenant.
        let mut quick = false;
        for tenant in 0..100 {
            let (channel, event) = said(&format!("good-{tenant}"));
            let called = generation.call(&channel, &event, None, None, &enough).await;
            assert!(called.answer.is_ok(), "{:?}", called.answer);
            quick = !is_slow(&channel);
            if quick {
                break;
            }
        }
        assert!(quick, "a call that was quick and answered is not taken for slow");
    }
    /// The caller never starts an instance itself: its thread is free at once, even during engine work that nothing can
    /// interrupt.
    #[tokio::test]
    async fn an_instance_starts_in_the_back_room_and_quick_calls_of_it_end_in_front() {
        let generation = engine().await.prepare(Order::builtin("chat", component())).await.unwrap();
        let allowance = Arc::new(Allowance::trusted());
        let (channel, event) = said("acme");
        let mut first = Box::pin(generation.call(&channel, &event, None, None, &allowance));
        assert!(first.as_mut().now_or_never().is_none(), "nothing is warm yet");
        assert!(first.await.answer.is_ok());
        // A call that a tick finds running moves to the background; some of many are quicker than that.
        let quick = |_| generation.call(&channel, &event, None, None, &allowance).now_or_never().is_some();
        assert!((0..100).any(quick), "a warm instance is called where it is asked for");
    }
}
