//! One instance of a component and one call of it.

use std::sync::Arc;

use wasmtime::{Store, Trap};

use super::bindings::exports::switchboard::plugin::handler::{Descriptor, Event as GuestEvent};
use super::bindings::switchboard::plugin::types::{
    Context, Effect as GuestEffect, Failure, Message as GuestMessage, User as GuestUser,
};
use super::bindings::{Plugin, PluginPre};
use super::host::{HostState, milliseconds};
use super::log::{Author, Level};
use super::meter::Present;
use super::pool::Place;
use super::run::Usage;
use super::{Allowance, CallError, Limits, Sources, effects};
use crate::model::{ChannelKey, Effect, Event, Message, TenantSlug};

/// The longest account of a trap, in bytes.
const BACKTRACE: usize = 8 << 10;

/// What instances of a generation are made of.
pub(super) struct Blueprint {
    pub(super) linked: PluginPre<HostState>,
    pub(super) author: Arc<Author>,
    /// The operator's text for `init`.
    pub(super) config: String,
    pub(super) sources: Arc<dyn Sources>,
}

/// A warm instance. It runs one call at a time; whoever has it owns it.
pub(super) struct Instance {
    store: Store<HostState>,
    plugin: Plugin,
    calls: u32,
    /// Linear memory after the start, in bytes: an instance that has outgrown it is not kept.
    at_start: usize,
    _place: Place,
    _present: Option<Present>,
}

/// What a guest is called with.
pub(super) enum Given {
    /// An event to handle.
    Event(GuestEvent),
    /// A message that was stored, in the context of an event.
    Stored(GuestMessage, Context),
}

/// What a guest answered.
pub(super) type Answer = Result<Vec<GuestEffect>, Failure>;

impl Instance {
    /// Instantiates a component, which can then be asked what it is.
    pub(super) async fn instantiate(
        blueprint: &Blueprint,
        tenant: Option<&TenantSlug>,
        allowance: &Arc<Allowance>,
        usage: &Arc<Usage>,
        place: Place,
        present: Option<Present>,
    ) -> wasmtime::Result<Self> {
        let Blueprint { linked, author, sources, .. } = blueprint;
        let (author, sources) = (Arc::clone(author), Arc::clone(sources));
        let state = HostState::new(author, tenant.cloned(), Arc::clone(allowance), Arc::clone(usage), sources);
        let mut store = Store::new(linked.engine(), state);
        store.limiter(|state| state.limiter());
        // Only the engine of a rehearsal counts fuel, and it is to count and not to stop anything.
        let _ = store.set_fuel(u64::MAX);
        store.epoch_deadline_callback(|context| Ok(context.data().usage().tick()));
        store.data_mut().begin(None);
        store.set_epoch_deadline(1);
        let plugin = linked.instantiate_async(&mut store).await?;
        let at_start = store.data().memory_high_water();
        Ok(Self { store, plugin, calls: 0, at_start, _place: place, _present: present })
    }

    /// Asks the component what it is.
    pub(super) async fn describe(&mut self) -> wasmtime::Result<Descriptor> {
        self.begin(None);
        self.plugin.switchboard_plugin_handler().call_describe(&mut self.store).await
    }

    /// Gives it the operator's configuration. To be done once, before its first event. The inner error is the guest's.
    pub(super) async fn init(&mut self, config: &str) -> wasmtime::Result<Result<(), String>> {
        self.begin(None);
        let started = self.plugin.switchboard_plugin_handler().call_init(&mut self.store, config).await?;
        self.at_start = self.store.data().memory_high_water();
        Ok(started)
    }

    /// Calls the guest. After an error that is not the guest's own answer the instance must not be used again.
    pub(super) async fn call(&mut self, channel: ChannelKey, given: &Given) -> wasmtime::Result<Answer> {
        self.begin(Some(channel));
        self.calls += 1;
        let handler = self.plugin.switchboard_plugin_handler();
        match given {
            Given::Event(event) => handler.call_handle(&mut self.store, event).await,
            Given::Stored(message, context) => handler.call_stored(&mut self.store, message, context).await,
        }
    }

    /// Whether it may be used under these terms. One that was started under others has another bound of memory.
    pub(super) fn serves(&self, allowance: &Arc<Allowance>) -> bool {
        let own = self.store.data().allowance();
        Arc::ptr_eq(own, allowance) || own == allowance
    }

    /// Whether it is still as good as a new one.
    pub(super) fn is_fresh(&self, limits: &Limits) -> bool {
        let grown = self.memory().saturating_sub(self.at_start);
        !limits.fresh && self.calls < limits.calls && grown <= limits.memory / 4
    }

    /// The most linear memory that it ever had, in bytes.
    pub(super) fn memory(&self) -> usize {
        self.store.data().memory_high_water()
    }

    /// Units of work since its start, about one an instruction; 0 where they are not counted.
    pub(super) fn fuel_used(&self) -> u64 {
        u64::MAX - self.store.get_fuel().unwrap_or(u64::MAX)
    }

    /// What counts its time.
    pub(super) fn usage(&self) -> &Arc<Usage> {
        self.store.data().usage()
    }

    fn begin(&mut self, channel: Option<ChannelKey>) {
        self.store.data_mut().begin(channel);
        self.store.set_epoch_deadline(1);
    }
}

impl Given {
    /// An event, or a message that was stored in the context of one.
    pub(super) fn new(channel: &ChannelKey, event: &Event, message: Option<&Message>) -> Self {
        let context = context(channel, event);
        match message {
            Some(message) => Given::Stored(message.clone().into(), context),
            None => Given::Event(GuestEvent { kind: event.kind.to_string(), payload: event.payload.clone(), context }),
        }
    }
}

/// The effects that a guest answered with, if they can be applied.
pub(super) fn read(answer: Answer, event: &Event, allowance: &Allowance) -> Result<Vec<Effect>, CallError> {
    match answer {
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

/// What became of a guest that did not answer. Where it was, by the names of its functions, is in the plugin's log.
pub(super) fn broken(error: &wasmtime::Error, author: &Author, tenant: Option<&TenantSlug>) -> CallError {
    let account = format!("{error:?}");
    let end = account.floor_char_boundary(BACKTRACE);
    author.write(tenant, Level::Error, account[..end].to_owned());
    match error.downcast_ref::<Trap>() {
        Some(Trap::Interrupt) => CallError::TimedOut,
        Some(trap) => CallError::Trapped(trap.to_string()),
        None => CallError::Trapped(error.root_cause().to_string().lines().next().unwrap_or_default().to_owned()),
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
