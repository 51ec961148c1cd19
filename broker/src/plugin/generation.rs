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
use crate::model::catalogue::{Durability, Import, KindSpec, Origin};
use crate::model::{ChannelKey, Effect, Event, Kind, Message, PluginName};

/// The broker's own frames; no plugin can take their names.
const RESERVED: &[&str] = &["auth", "auth.refresh", "subscribe", "unsubscribe", "ping"];

/// How many kinds a plugin handles at most, and how many it watches.
const MOST_KINDS: usize = 32;

/// A version of a plugin that is compiled, linked and known.
pub struct Generation {
    id: GenerationId,
    name: PluginName,
    version: String,
    digest: String,
    kinds: Vec<KindSpec>,
    watches: Vec<Kind>,
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
        let unnamed: PluginName = digest[..12].parse().expect("hexadecimal digits are a name");
        let mut instance = Instance::start(&linked, &unnamed, &limits, &sources, place).await.map_err(first_line)?;
        let described = instance.describe(&limits).await.map_err(first_line)?;
        let name = described.name.parse().map_err(|error| format!("its name {error}"))?;
        let kinds = kinds(&described)?;
        let watches = watches(&described, !kinds.is_empty())?;
        Ok(Self {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            name,
            version: described.version,
            digest,
            kinds,
            watches,
            linked,
            pool,
            limits,
            sources,
        })
    }

    /// The plugin's name, as it says itself.
    pub fn plugin(&self) -> &PluginName {
        &self.name
    }

    /// The plugin's name as text.
    pub fn name(&self) -> &str {
        self.name.as_str()
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

    /// After the commit of which kinds of messages it is to be called.
    pub fn watches(&self) -> &[Kind] {
        &self.watches
    }

    /// Calls the handler with an event, in an instance that belongs to the channel's tenant. Waits for the tenant's turn;
    /// takes at most the time of [`Limits::wall`] after that.
    pub async fn handle(&self, channel: &ChannelKey, event: &Event) -> Result<Vec<Effect>, CallError> {
        self.call(channel, event, None).await
    }

    /// Calls the handler with a message that was stored. `event` is the context in which its effects are read and
    /// applied. Otherwise as [`Generation::handle`].
    pub async fn stored(
        &self,
        channel: &ChannelKey,
        event: &Event,
        message: &Message,
    ) -> Result<Vec<Effect>, CallError> {
        self.call(channel, event, Some(message)).await
    }

    async fn call(
        &self,
        channel: &ChannelKey,
        event: &Event,
        message: Option<&Message>,
    ) -> Result<Vec<Effect>, CallError> {
        let turn = self.pool.turn(self.id, &channel.tenant).await?;
        let mut instance = match turn.take() {
            Some(instance) => instance,
            None => {
                let place = self.pool.place()?;
                Instance::start(&self.linked, &self.name, &self.limits, &self.sources, place).await?
            }
        };
        let answer = match message {
            None => instance.handle(channel, event, &self.limits).await,
            Some(message) => instance.stored(channel, event, message, &self.limits).await,
        };
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
    if described.version.is_empty() || described.version.len() > 64 || !described.version.is_ascii() {
        return Err("its version must be 1 to 64 ASCII characters".to_owned());
    }
    if let Some(unknown) = described.wants.iter().find(|want| Import::from_name(want).is_none()) {
        let known = Import::ALL.map(Import::as_str).join(", ");
        return Err(format!("it wants `{unknown}`, and there is only {known}"));
    }
    if described.kinds.len() > MOST_KINDS {
        return Err(format!("it describes {} kinds, and {MOST_KINDS} are the most", described.kinds.len()));
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

fn watches(described: &Descriptor, handles: bool) -> Result<Vec<Kind>, String> {
    match described.watches.len() {
        0 if !handles => return Err("it neither handles nor watches a kind".to_owned()),
        n if n > MOST_KINDS => return Err(format!("it watches {n} kinds, and {MOST_KINDS} are the most")),
        _ => {}
    }
    let watched = described.watches.iter();
    watched.map(|kind| kind.parse().map_err(|error| format!("the kind `{kind}` that it watches {error}"))).collect()
}

fn first_line(error: CallError) -> String {
    error.to_string().lines().next().unwrap_or_default().to_owned()
}
