//! One version of a plugin with the configuration it is started with, ready to run.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::bindings::PluginPre;
use super::descriptor::Descriptor;
use super::host::HostState;
use super::incident::Reporter;
use super::instance::Instance;
use super::log::Author;
use super::pool::{Pool, Serial};
use super::{Allowance, CallError, Sources};
use crate::model::catalogue::{GenerationId, Import, KindSpec};
use crate::model::{ChannelKey, Effect, Event, Kind, Message, PluginName};

/// A version of a plugin that is compiled, linked, known and configured.
pub struct Generation {
    serial: Serial,
    id: Option<GenerationId>,
    name: Arc<str>,
    descriptor: Descriptor,
    config: String,
    linked: PluginPre<HostState>,
    author: Arc<Author>,
    pool: Arc<Pool>,
    #[expect(dead_code, reason = "the next step")]
    reporter: Reporter,
    sources: Arc<dyn Sources>,
    retired: AtomicBool,
}

impl std::fmt::Debug for Generation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}@{} ({})", self.name, self.version(), &self.digest()[..12])
    }
}

impl Generation {
    pub(super) fn new(
        id: Option<GenerationId>,
        descriptor: Descriptor,
        config: String,
        linked: PluginPre<HostState>,
        author: Author,
        pool: Arc<Pool>,
        reporter: Reporter,
        sources: Arc<dyn Sources>,
    ) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);

        let serial = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = descriptor.plugin.as_str().into();
        let author = Arc::new(author);
        let retired = AtomicBool::new(false);
        Self { serial, id, name, descriptor, config, linked, author, pool, reporter, sources, retired }
    }

    /// Its number in the catalogue; none for a built-in plugin or one named at the start.
    pub fn id(&self) -> Option<GenerationId> {
        self.id
    }

    /// What it says of itself, and what it needs.
    pub fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }

    /// The plugin's name.
    pub fn plugin(&self) -> &PluginName {
        &self.descriptor.plugin
    }

    /// The plugin's name, as it says itself.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The plugin's version, as it says itself.
    pub fn version(&self) -> &str {
        &self.descriptor.version
    }

    /// The SHA-256 of the component, in hexadecimal.
    pub fn digest(&self) -> &str {
        self.descriptor.digest.as_str()
    }

    /// The message types it handles.
    pub fn kinds(&self) -> &[KindSpec] {
        &self.descriptor.kinds
    }

    /// The kinds of stored messages that it is told of.
    pub fn watches(&self) -> &[Kind] {
        &self.descriptor.watches
    }

    /// The first interface that it needs and that is not among these.
    pub fn ungranted(&self, grants: &BTreeSet<Import>) -> Option<Import> {
        self.descriptor.ungranted(grants)
    }

    /// Calls the handler with an event, or with a stored message in the context of one, in an instance that belongs to the
    /// channel's tenant. Waits for the tenant's turn; takes at most the time of [`super::Limits::wall`] after that.
    pub(super) async fn call(
        &self,
        channel: &ChannelKey,
        event: &Event,
        message: Option<&Message>,
        allowance: &Arc<Allowance>,
    ) -> Result<Vec<Effect>, CallError> {
        let limits = &allowance.limits;
        let turn = self.pool.turn(self.serial, &channel.tenant, limits).await?;
        let mut instance = match turn.take().filter(|kept| kept.serves(allowance)) {
            Some(instance) => instance,
            None => {
                let place = self.pool.place()?;
                Instance::start(
                    &self.linked,
                    &self.author,
                    &channel.tenant,
                    &self.config,
                    allowance,
                    &self.sources,
                    place,
                )
                .await?
            }
        };
        let answer = match message {
            None => instance.handle(channel, event, limits).await,
            Some(message) => instance.stored(channel, event, message, limits).await,
        };
        // A guest that trapped or was interrupted may have left anything in its memory.
        let sound = !matches!(answer, Err(CallError::Failed(_) | CallError::TimedOut));
        if sound && instance.is_fresh(limits) && !self.retired.load(Ordering::Acquire) {
            turn.put_back(instance);
        }
        answer
    }

    /// Keeps nothing warm any more, because no new event comes here.
    pub(super) fn retire(&self) {
        self.retired.store(true, Ordering::Release);
        self.pool.retire(self.serial);
    }

    /// New events come here again.
    pub(super) fn revive(&self) {
        self.retired.store(false, Ordering::Release);
    }
}

impl Drop for Generation {
    fn drop(&mut self) {
        self.pool.retire(self.serial);
    }
}
