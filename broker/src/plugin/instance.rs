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
use super::{Allowance, CallError, Earlier, Limits, Sources, effects};
use crate::model::{ChannelKey, Effect, Event, Message, TenantSlug, Timestamp, UserId};

/// The longest account of a trap, in bytes.
const BACKTRACE: usize = 8 << 10;

/// Bytes that may be copied at once whatever the limits are: error texts, log lines, keys.
const AT_ONCE: usize = 64 << 10;

/// Handles of resources that an instance has at most. Those of the SDK have a few, for WASI's streams.
const HANDLES: usize = 10_000;

/// Bytes of effects that are read where quick calls run. Reading is the host's own work, which no tick interrupts.
const READ_IN_FRONT: usize = 64 << 10;

/// What is said when more was to be copied at once than may be, since the engine says it in words of its own.
const TOO_MUCH: &str = "it returned or passed more at once than its limits `effects` and `effect_kib` allow";

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
    /// What its memories and tables took after the start, in bytes: an instance that has outgrown it is not kept.
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
type Answer = Result<Vec<GuestEffect>, Failure>;

/// What an event's effects are read with.
pub(super) struct Reading {
    /// Who sent the event.
    pub(super) sender: UserId,
    /// When.
    pub(super) at: Timestamp,
}

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
        store.data_mut().begin(None, None);
        store.set_epoch_deadline(1);
        store.set_hostcall_fuel(at_once(&store.data().allowance().limits));
        store.set_max_component_handles(HANDLES);
        let plugin = match linked.instantiate_async(&mut store).await {
            Ok(plugin) => plugin,
            Err(error) => return Err(store.data().space().refusal().map_or(error, wasmtime::Error::msg)),
        };
        let at_start = store.data().space().taken();
        Ok(Self { store, plugin, calls: 0, at_start, _place: place, _present: present })
    }

    /// Asks the component what it is.
    pub(super) async fn describe(&mut self) -> wasmtime::Result<Descriptor> {
        self.begin(None, None);
        self.plugin.switchboard_plugin_handler().call_describe(&mut self.store).await
    }

    /// Gives it the operator's configuration. To be done once, before its first event. The inner error is the guest's.
    pub(super) async fn init(&mut self, config: &str) -> wasmtime::Result<Result<(), String>> {
        self.begin(None, None);
        let started = self.plugin.switchboard_plugin_handler().call_init(&mut self.store, config).await?;
        self.at_start = self.memory();
        Ok(started)
    }

    /// Calls the guest and reads what it answers. After the outer error the instance must not be used again.
    pub(super) async fn call(
        &mut self,
        channel: ChannelKey,
        earlier: Option<Earlier>,
        given: &Given,
        reading: &Reading,
    ) -> wasmtime::Result<Result<Vec<Effect>, CallError>> {
        self.begin(Some(channel), earlier);
        self.calls += 1;
        let handler = self.plugin.switchboard_plugin_handler();
        let answer = match given {
            Given::Event(event) => handler.call_handle(&mut self.store, event).await?,
            Given::Stored(message, context) => handler.call_stored(&mut self.store, message, context).await?,
        };
        if answer.as_ref().is_ok_and(|asked| effects::bytes(asked) > READ_IN_FRONT) {
            self.usage().leave_the_front().await;
        }
        Ok(read(answer, reading, self.store.data().allowance()))
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

    /// What its memories and tables take, in bytes. They never become less.
    pub(super) fn memory(&self) -> usize {
        self.store.data().space().taken()
    }

    /// Units of work since its start, about one an instruction; 0 where they are not counted.
    pub(super) fn fuel_used(&self) -> u64 {
        u64::MAX - self.store.get_fuel().unwrap_or(u64::MAX)
    }

    /// What counts its time.
    pub(super) fn usage(&self) -> &Arc<Usage> {
        self.store.data().usage()
    }

    fn begin(&mut self, channel: Option<ChannelKey>, earlier: Option<Earlier>) {
        self.store.data_mut().begin(channel, earlier);
        self.store.set_epoch_deadline(1);
    }
}

/// Bytes that the guest may have copied in one call of the host, and in what it returns: its effects, with as much again
/// for what is not text in them. What is beyond ends the call before it is copied.
fn at_once(limits: &Limits) -> usize {
    2 * limits.effect_bytes + limits.effects * size_of::<GuestEffect>() + AT_ONCE
}

impl Reading {
    /// With what the effects of this event are read.
    pub(super) fn of(event: &Event) -> Self {
        Self { sender: event.user.id.clone(), at: event.at }
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
fn read(answer: Answer, reading: &Reading, allowance: &Allowance) -> Result<Vec<Effect>, CallError> {
    match answer {
        Ok(asked) => {
            effects::check_granted(&asked, &allowance.grants)?;
            effects::read(asked, reading, &allowance.limits)
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
        None => {
            let cause = error.root_cause().to_string();
            let too_much = cause.starts_with("too much data is being copied");
            let said = if too_much { TOO_MUCH } else { cause.lines().next().unwrap_or_default() };
            CallError::Trapped(said.to_owned())
        }
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
