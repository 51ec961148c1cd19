//! One instance of a component and one call of it.

use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;
use wasmtime::{Store, Trap, UpdateDeadline};

use super::bindings::exports::switchboard::plugin::handler::{Descriptor, Event as GuestEvent};
use super::bindings::switchboard::plugin::types::{Context, Effect as GuestEffect, Failure, User as GuestUser};
use super::bindings::{Plugin, PluginPre};
use super::host::{HostState, milliseconds};
use super::log::Author;
use super::{Allowance, Bounds, CallError, Limits, Sources, effects};
use crate::model::{ChannelKey, Effect, Event, Message, TenantSlug};

/// A warm instance. It runs one call at a time; whoever has it owns it.
pub(super) struct Instance {
    store: Store<HostState>,
    plugin: Plugin,
    calls: u32,
    /// Linear memory after the start, in bytes: an instance that has outgrown it is not kept.
    at_start: usize,
    _place: OwnedSemaphorePermit,
}

impl Instance {
    /// Instantiates a component and calls its `init`.
    pub(super) async fn start(
        linked: &PluginPre<HostState>,
        author: &Arc<Author>,
        tenant: &TenantSlug,
        config: &str,
        allowance: &Arc<Allowance>,
        sources: &Arc<dyn Sources>,
        place: OwnedSemaphorePermit,
    ) -> Result<Self, CallError> {
        let mut instance = Self::instantiate(linked, author, Some(tenant), allowance, sources, place).await?;
        instance.init(config).await?;
        Ok(instance)
    }

    /// Instantiates a component, which can then be asked what it is.
    pub(super) async fn instantiate(
        linked: &PluginPre<HostState>,
        author: &Arc<Author>,
        tenant: Option<&TenantSlug>,
        allowance: &Arc<Allowance>,
        sources: &Arc<dyn Sources>,
        place: OwnedSemaphorePermit,
    ) -> Result<Self, CallError> {
        let limits = &allowance.limits;
        let state = HostState::new(Arc::clone(author), tenant.cloned(), Arc::clone(allowance), Arc::clone(sources));
        let mut store = Store::new(linked.engine(), state);
        store.limiter(|state| state.limiter());
        let most = u32::try_from(limits.cpu.as_millis() / Bounds::TICK.as_millis()).unwrap_or(u32::MAX);
        // An epoch passes on the wall clock, but this only runs when a guest is found running after one did: so it
        // counts the guest's own time, and a host read that takes long costs it one tick.
        store.epoch_deadline_callback(move |mut context| {
            let state = context.data_mut();
            state.ticks += 1;
            Ok(if state.ticks > most { UpdateDeadline::Interrupt } else { UpdateDeadline::Yield(1) })
        });
        store.data_mut().begin(None);
        store.set_epoch_deadline(1);
        let starting = tokio::time::timeout(limits.wall, linked.instantiate_async(&mut store)).await;
        let plugin = starting.map_err(|_| CallError::TimedOut)?.map_err(broken)?;
        let at_start = store.data().memory_high_water();
        Ok(Self { store, plugin, calls: 0, at_start, _place: place })
    }

    /// Gives it the operator's configuration. To be done once, before its first event.
    pub(super) async fn init(&mut self, config: &str) -> Result<(), CallError> {
        self.store.data_mut().begin(None);
        self.store.set_epoch_deadline(1);
        let wall = self.store.data().limits().wall;
        let handler = self.plugin.switchboard_plugin_handler();
        let started = tokio::time::timeout(wall, handler.call_init(&mut self.store, config)).await;
        let started = started.map_err(|_| CallError::TimedOut)?.map_err(broken)?;
        self.at_start = self.store.data().memory_high_water();
        started.map_err(|reason| CallError::Failed(format!("its init failed: {reason}")))
    }

    /// Asks the component what it is.
    pub(super) async fn describe(&mut self) -> Result<Descriptor, CallError> {
        self.store.data_mut().begin(None);
        self.store.set_epoch_deadline(1);
        let wall = self.store.data().limits().wall;
        let handler = self.plugin.switchboard_plugin_handler();
        let asked = tokio::time::timeout(wall, handler.call_describe(&mut self.store)).await;
        asked.map_err(|_| CallError::TimedOut)?.map_err(broken)
    }

    /// Gives it one event. After an error that is not the handler's own answer the instance must not be used again.
    pub(super) async fn handle(
        &mut self,
        channel: &ChannelKey,
        event: &Event,
        limits: &Limits,
    ) -> Result<Vec<Effect>, CallError> {
        self.store.data_mut().begin(Some(channel.clone()));
        self.store.set_epoch_deadline(1);
        self.calls += 1;
        let context = context(channel, event);
        let given = GuestEvent { kind: event.kind.to_string(), payload: event.payload.clone(), context };
        let handler = self.plugin.switchboard_plugin_handler();
        let answer = tokio::time::timeout(limits.wall, handler.call_handle(&mut self.store, &given)).await;
        read(answer, event, self.store.data().allowance())
    }

    /// Gives it a message that was stored, in the context of an event. What holds for [`Instance::handle`] holds here.
    pub(super) async fn stored(
        &mut self,
        channel: &ChannelKey,
        event: &Event,
        message: &Message,
        limits: &Limits,
    ) -> Result<Vec<Effect>, CallError> {
        self.store.data_mut().begin(Some(channel.clone()));
        self.store.set_epoch_deadline(1);
        self.calls += 1;
        let (given, context) = (message.clone().into(), context(channel, event));
        let handler = self.plugin.switchboard_plugin_handler();
        let answer = tokio::time::timeout(limits.wall, handler.call_stored(&mut self.store, &given, &context)).await;
        read(answer, event, self.store.data().allowance())
    }

    /// Whether it may be used under these terms. One that was started under others has another bound of memory.
    pub(super) fn serves(&self, allowance: &Arc<Allowance>) -> bool {
        let own = self.store.data().allowance();
        Arc::ptr_eq(own, allowance) || own == allowance
    }

    /// Whether it is still as good as a new one.
    pub(super) fn is_fresh(&self, limits: &Limits) -> bool {
        let grown = self.store.data().memory_high_water().saturating_sub(self.at_start);
        !limits.fresh && self.calls < limits.calls && grown <= limits.memory / 4
    }
}

/// What came of a call, within its time or not.
type Answer<E> = Result<wasmtime::Result<Result<Vec<GuestEffect>, Failure>>, E>;

fn read<E>(answer: Answer<E>, event: &Event, allowance: &Allowance) -> Result<Vec<Effect>, CallError> {
    match answer.map_err(|_| CallError::TimedOut)?.map_err(broken)? {
        Ok(asked) => {
            effects::check_granted(&asked, &allowance.grants)?;
            effects::read(asked, event, &allowance.limits)
        }
        Err(Failure::Invalid(text)) => Err(CallError::Invalid(effects::for_client(&text))),
        Err(Failure::Denied(text)) => Err(CallError::Denied(effects::for_client(&text))),
        Err(Failure::Retry(after)) => Err(CallError::Retry(after)),
        Err(Failure::Internal(text)) => Err(CallError::Failed(text)),
    }
}

fn context(channel: &ChannelKey, event: &Event) -> Context {
    Context {
        tenant: channel.tenant.to_string(),
        channel: channel.channel.to_string(),
        user: GuestUser { id: event.user.id.to_string(), username: event.user.username.to_string() },
        session: event.session.map(|session| session.to_string()),
        event_id: event.id.to_string(),
        now_ms: milliseconds(event.at),
    }
}

fn broken(error: wasmtime::Error) -> CallError {
    match error.downcast_ref::<Trap>() {
        Some(Trap::Interrupt) => CallError::TimedOut,
        // The backtrace with its function names is for the operator: it goes to the log, never to a client.
        _ => CallError::Failed(format!("{error:?}")),
    }
}
