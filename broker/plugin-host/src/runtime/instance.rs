//! One instance of a component and one call of it.

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

/// The longest account of a trap, in bytes.
const BACKTRACE: usize = 8 << 10;

/// Bytes that may be copied at once whatever the limits are: error texts, log lines, keys.
const AT_ONCE: usize = 64 << 10;

/// Handles of resources that an instance has at most. Those of the SDK have a few, for WASI's streams.
const HANDLES: usize = 10_000;

/// Bytes of effects that are read where quick calls run. Reading is the host's own work, which no tick interrupts.
const READ_IN_FOREGROUND: usize = 64 << 10;

/// What is said when more was to be copied at once than may be, since the engine says it in words of its own.
const TOO_MUCH: &str = "it returned or passed more at once than its limits `effects` and `effect_kib` allow";

/// What instances of a generation are made of.
pub(crate) struct Blueprint {
    pub(crate) linked: Linked,
    pub(crate) author: Arc<Author>,
    /// The operator's text for `init`.
    pub(crate) config: String,
    pub(crate) data: Arc<dyn HostData>,
}

/// A warm instance. It runs one call at a time; whoever has it owns it.
pub(crate) struct Instance {
    store: Store<HostState>,
    guest: Guest,
    calls: u32,
    /// What its memories and tables took after the start, in bytes: an instance that has outgrown it is not kept.
    at_start: usize,
    _permit: InstancePermit,
    _present: Option<Present>,
}

impl Instance {
    /// Instantiates a component, which can then be asked what it is.
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
        // Only the engine of a replay counts fuel, and it is to count and not to stop anything.
        let _ = store.set_fuel(u64::MAX);
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

    /// Asks the component what it is.
    pub(crate) async fn describe(&mut self) -> wasmtime::Result<Description> {
        self.begin(None, None);
        self.guest.describe(&mut self.store).await
    }

    /// Gives it the operator's configuration. To be done once, before its first event. The inner error is the guest's.
    pub(crate) async fn init(&mut self, config: &str) -> wasmtime::Result<Result<(), String>> {
        self.begin(None, None);
        let started = self.guest.init(&mut self.store, config).await?;
        self.at_start = self.memory();
        Ok(started)
    }

    /// Calls the guest and reads what it answers. After the outer error the instance must not be used again.
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

    /// Whether it may be used under this allowance. One that was started under others has another bound of memory.
    pub(crate) fn serves(&self, allowance: &Arc<Allowance>) -> bool {
        let own = self.store.data().allowance();
        Arc::ptr_eq(own, allowance) || own == allowance
    }

    /// Whether it is still as good as a new one.
    pub(crate) fn is_fresh(&self, limits: &Limits) -> bool {
        let grown = self.memory().saturating_sub(self.at_start);
        !limits.fresh && self.calls < limits.calls && grown <= limits.memory / 4
    }

    /// What its memories and tables take, in bytes. They never become less.
    pub(crate) fn memory(&self) -> usize {
        self.store.data().space().taken()
    }

    /// Units of work since its start, about one an instruction; 0 where they are not counted.
    pub(crate) fn fuel_used(&self) -> u64 {
        u64::MAX - self.store.get_fuel().unwrap_or(u64::MAX)
    }

    /// What counts its time.
    pub(crate) fn usage(&self) -> &Arc<Usage> {
        self.store.data().usage()
    }

    fn begin(&mut self, channel: Option<ChannelKey>, earlier: Option<Earlier>) {
        self.store.data_mut().begin(channel, earlier);
        self.store.set_epoch_deadline(1);
    }
}

/// Bytes that the guest may have copied in one call of the host, and in what it returns. What is beyond ends the call before it is copied.
fn at_once(limits: &Limits) -> usize {
    effect_bytes(limits) + AT_ONCE
}

/// What became of a guest that did not answer. Where it was, by the names of its functions, is in the plugin's log.
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
