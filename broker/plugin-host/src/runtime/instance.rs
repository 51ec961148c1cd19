//! One instance of a component, and one call of it.

use std::sync::Arc;

use switchboard_model::{ChannelKey, Effect, TenantSlug};
use wasmtime::{Store, Trap};

use crate::contract::descriptor::Description;
use crate::contract::earlier::Earlier;
use crate::contract::host::HostState;
use crate::contract::host::usage::Usage;
use crate::contract::host_data::HostData;
use crate::contract::{Guest, Input, Linked, effect_bytes};
use crate::error::CallError;
use crate::guest_log::{Author, Level};
use crate::limits::{Allowance, Limits};
use crate::runtime::capacity::InstancePermit;
use crate::runtime::metrics::Present;

/// Longest account of a trap, in bytes.
const BACKTRACE: usize = 8 << 10;

/// Bytes that may always be copied at once, whatever the limits: error texts, log lines, keys.
const AT_ONCE: usize = 64 << 10;

/// Resource handles an instance may hold. Guests of the SDK hold a few, for WASI streams.
const HANDLES: usize = 10_000;

/// Bytes of effects that are read in the foreground. Reading is host work, which no tick interrupts.
const READ_IN_FOREGROUND: usize = 64 << 10;

/// Replaces the engine's own message when a guest copies too much at once.
const TOO_MUCH: &str = "it returned or passed more at once than the limits `effects` and `effect_kib` allow";

/// What every instance of a generation is made from.
pub(crate) struct Blueprint {
    pub(crate) linked: Linked,
    pub(crate) author: Arc<Author>,
    /// The operator's configuration for `init`.
    pub(crate) config: String,
    pub(crate) data: Arc<dyn HostData>,
}

/// An instance. It runs one call at a time; whoever holds it owns it.
pub(crate) struct Instance {
    store: Store<HostState>,
    guest: Guest,
    calls: u32,
    /// Bytes of memories and tables after the start. An instance that grew too far beyond this is not reused.
    at_start: usize,
    _permit: InstancePermit,
    _present: Option<Present>,
}

impl Instance {
    /// Instantiates a component without calling its `init`.
    pub(crate) async fn instantiate(
        blueprint: &Blueprint,
        tenant: Option<&TenantSlug>,
        allowance: &Arc<Allowance>,
        usage: &Arc<Usage>,
        permit: InstancePermit,
        present: Option<Present>,
    ) -> wasmtime::Result<Self> {
        let Blueprint { linked, author, data, .. } = blueprint;
        let (author, data) = (Arc::clone(author), Arc::clone(data));
        let state = HostState::new(author, tenant.cloned(), Arc::clone(allowance), Arc::clone(usage), data);
        let mut store = Store::new(linked.engine(), state);
        store.limiter(|state| state.limiter());
        // Fails harmlessly except on a replay's engine, where fuel only counts and must not stop anything.
        let _ = store.set_fuel(u64::MAX);
        // Runs on the guest's own thread, at the first check after a tick.
        store.epoch_deadline_callback(|context| Ok(context.data().usage().tick()));
        store.data_mut().begin(None, None);
        store.set_epoch_deadline(1);
        store.set_hostcall_fuel(at_once(&store.data().allowance().limits));
        store.set_max_component_handles(HANDLES);
        let guest = match linked.instantiate(&mut store).await {
            Ok(guest) => guest,
            Err(error) => return Err(store.data().space().refusal().map_or(error, wasmtime::Error::msg)),
        };
        let at_start = store.data().space().taken();
        Ok(Self { store, guest, calls: 0, at_start, _permit: permit, _present: present })
    }

    pub(crate) async fn describe(&mut self) -> wasmtime::Result<Description> {
        self.begin(None, None);
        self.guest.describe(&mut self.store).await
    }

    /// Passes the operator's configuration. Call once, before the first event. The inner error is the guest's own.
    pub(crate) async fn init(&mut self, config: &str) -> wasmtime::Result<Result<(), String>> {
        self.begin(None, None);
        let started = self.guest.init(&mut self.store, config).await?;
        self.at_start = self.memory();
        Ok(started)
    }

    /// Calls the guest and validates its answer. After an outer error the instance must not be used again.
    pub(crate) async fn call(
        &mut self,
        channel: ChannelKey,
        earlier: Option<Earlier>,
        input: &Input,
    ) -> wasmtime::Result<Result<Vec<Effect>, CallError>> {
        self.begin(Some(channel), earlier);
        self.calls += 1;
        let answer = self.guest.call(&mut self.store, input).await?;
        if answer.bytes() > READ_IN_FOREGROUND {
            self.usage().move_to_background().await;
        }
        Ok(answer.read(input, self.store.data().allowance()))
    }

    /// Whether it may be used under this allowance. An instance started under another one has other limits.
    pub(crate) fn serves(&self, allowance: &Arc<Allowance>) -> bool {
        let own = self.store.data().allowance();
        Arc::ptr_eq(own, allowance) || own == allowance
    }

    /// Whether it may be reused instead of replaced.
    pub(crate) fn is_fresh(&self, limits: &Limits) -> bool {
        let grown = self.memory().saturating_sub(self.at_start);
        !limits.fresh && self.calls < limits.calls && grown <= limits.memory / 4
    }

    /// Bytes of its memories and tables. Never decreases.
    pub(crate) fn memory(&self) -> usize {
        self.store.data().space().taken()
    }

    /// Fuel used since its start, about one unit for each instruction; 0 where fuel is not metered.
    pub(crate) fn fuel_used(&self) -> u64 {
        u64::MAX - self.store.get_fuel().unwrap_or(u64::MAX)
    }

    pub(crate) fn usage(&self) -> &Arc<Usage> {
        self.store.data().usage()
    }

    fn begin(&mut self, channel: Option<ChannelKey>, earlier: Option<Earlier>) {
        self.store.data_mut().begin(channel, earlier);
        self.store.set_epoch_deadline(1);
    }
}

/// Bytes a guest may have copied in one host call, and in its answer. Anything larger ends the call before it is
/// copied.
fn at_once(limits: &Limits) -> usize {
    effect_bytes(limits) + AT_ONCE
}

/// Classifies a call that did not answer. The backtrace goes to the guest log.
pub(crate) fn broken(error: &wasmtime::Error, author: &Author, tenant: Option<&TenantSlug>) -> CallError {
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
