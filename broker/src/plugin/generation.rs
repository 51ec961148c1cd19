//! One activated version of a plugin.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::bindings::PluginPre;
use super::bindings::exports::switchboard::plugin::handler::{
    Descriptor, Durability as GuestDurability, Origin as GuestOrigin,
};
use super::host::HostState;
use super::instance::Instance;
use super::pool::{GenerationId, Pool};
use super::{CallError, Limits, Sources};
use crate::model::catalogue::{Durability, KindSpec, Origin};
use crate::model::{ChannelKey, Effect, Event, Kind};

/// The broker's own frames; no plugin can take their names.
const RESERVED: &[&str] = &["auth", "auth.refresh", "subscribe", "unsubscribe", "ping"];

/// What a plugin may want to read.
const IMPORTS: &[&str] = &["history", "members", "presence", "log"];

const MOST_KINDS: usize = 32;

/// A version of a plugin that is compiled, linked and known.
pub struct Generation {
    id: GenerationId,
    name: Arc<str>,
    version: String,
    digest: String,
    kinds: Vec<KindSpec>,
    linked: PluginPre<HostState>,
    pool: Arc<Pool>,
    limits: Arc<Limits>,
    sources: Arc<dyn Sources>,
}

impl std::fmt::Debug for Generation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}@{} ({})", self.name, self.version, &self.digest[..12])
    }
}

impl Generation {
    /// Starts a first instance and checks what the component says of itself. An error is one line for its author.
    pub(super) async fn new(
        linked: PluginPre<HostState>,
        digest: String,
        pool: Arc<Pool>,
        limits: Arc<Limits>,
        sources: Arc<dyn Sources>,
    ) -> Result<Self, String> {
        static NEXT: AtomicU64 = AtomicU64::new(1);

        let place = pool.place().map_err(|error| error.to_string())?;
        let unnamed: Arc<str> = digest[..12].into();
        let mut instance = Instance::start(&linked, &unnamed, &limits, &sources, place).await.map_err(first_line)?;
        let described = instance.describe(&limits).await.map_err(first_line)?;
        let kinds = kinds(&described)?;
        Ok(Self {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            name: described.name.into(),
            version: described.version,
            digest,
            kinds,
            linked,
            pool,
            limits,
            sources,
        })
    }

    /// The plugin's name, as it says itself.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The plugin's version, as it says itself.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The SHA-256 of the component, in hexadecimal.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// The message types it handles.
    pub fn kinds(&self) -> &[KindSpec] {
        &self.kinds
    }

    /// Calls the handler with an event, in an instance that belongs to the channel's tenant. Waits for the tenant's turn;
    /// takes at most the time of [`Limits::wall`] after that.
    pub async fn handle(&self, channel: &ChannelKey, event: &Event) -> Result<Vec<Effect>, CallError> {
        let turn = self.pool.turn(self.id, &channel.tenant).await?;
        let mut instance = match turn.take() {
            Some(instance) => instance,
            None => {
                let place = self.pool.place()?;
                Instance::start(&self.linked, &self.name, &self.limits, &self.sources, place).await?
            }
        };
        let answer = instance.handle(channel, event, &self.limits).await;
        // A guest that trapped or was interrupted may have left anything in its memory.
        let sound = !matches!(answer, Err(CallError::Failed(_) | CallError::TimedOut));
        if sound && instance.is_fresh(&self.limits) {
            turn.put_back(instance);
        }
        answer
    }
}

impl Drop for Generation {
    fn drop(&mut self) {
        self.pool.retire(self.id);
    }
}

fn kinds(described: &Descriptor) -> Result<Vec<KindSpec>, String> {
    let name = &described.name;
    if !(1..=64).contains(&name.len())
        || !name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    {
        return Err("its name must be 1 to 64 of a-z, 0-9 and -".to_owned());
    }
    if described.version.is_empty() || described.version.len() > 64 || !described.version.is_ascii() {
        return Err("its version must be 1 to 64 ASCII characters".to_owned());
    }
    if let Some(unknown) = described.wants.iter().find(|want| !IMPORTS.contains(&want.as_str())) {
        return Err(format!("it wants `{unknown}`, and there is only {}", IMPORTS.join(", ")));
    }
    if !(1..=MOST_KINDS).contains(&described.kinds.len()) {
        return Err(format!("it describes {} kinds; 1 to {MOST_KINDS} are expected", described.kinds.len()));
    }
    let mut kinds: Vec<KindSpec> = Vec::with_capacity(described.kinds.len());
    for spec in &described.kinds {
        let kind: Kind = spec.name.parse().map_err(|error| format!("its kind `{}` {error}", spec.name))?;
        if RESERVED.contains(&kind.as_str()) || kinds.iter().any(|other| other.kind == kind) {
            return Err(format!("its kind `{kind}` is the broker's own, or described twice"));
        }
        kinds.push(KindSpec {
            kind,
            origin: match spec.origin {
                GuestOrigin::Client => Origin::Client,
                GuestOrigin::Broker => Origin::Broker,
            },
            durability: match spec.durability {
                GuestDurability::Durable => Durability::Durable,
                GuestDurability::Ephemeral => Durability::Ephemeral,
            },
        });
    }
    Ok(kinds)
}

fn first_line(error: CallError) -> String {
    error.to_string().lines().next().unwrap_or_default().to_owned()
}
