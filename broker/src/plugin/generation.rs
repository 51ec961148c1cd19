//! One version of a plugin with the configuration it is started with, ready to run.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::descriptor::Descriptor;
use super::instance::{Answer, Blueprint, Given, Instance, broken, read};
use super::log::{Author, Level};
use super::meter::VersionMeter;
use super::pool::{Serial, Slot};
use super::recorder::along;
use super::run::{Job, Ran, Usage};
use super::shadow::Comparisons;
use super::site::Site;
use super::trial::Recent;
use super::turns::Turn;
use super::{Allowance, CallError};
use crate::model::catalogue::{GenerationId, Import, KindSpec};
use crate::model::{ChannelKey, Effect, Event, Kind, Message, PluginName};

/// A version of a plugin that is compiled, linked, known and configured.
pub struct Generation {
    serial: Serial,
    id: Option<GenerationId>,
    descriptor: Descriptor,
    blueprint: Arc<Blueprint>,
    site: Arc<Site>,
    meter: VersionMeter,
    recent: Recent,
    comparisons: Comparisons,
    retired: AtomicBool,
}

impl std::fmt::Debug for Generation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}@{} ({})", self.name(), self.version(), &self.digest()[..12])
    }
}

/// How a call went.
pub(super) struct Called {
    pub(super) answer: Result<Vec<Effect>, CallError>,
    /// Whether this is a failure of several in a row, to be reported now.
    pub(super) fails: bool,
    /// When it ended.
    pub(super) now: Instant,
}

impl Generation {
    pub(super) fn new(id: Option<GenerationId>, descriptor: Descriptor, blueprint: Blueprint, site: Arc<Site>) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);

        let meter = VersionMeter::new(&site.labels, descriptor.plugin.as_str(), &descriptor.version);
        Self {
            serial: NEXT.fetch_add(1, Ordering::Relaxed),
            id,
            descriptor,
            blueprint: Arc::new(blueprint),
            site,
            meter,
            recent: Recent::default(),
            comparisons: Comparisons::default(),
            retired: AtomicBool::new(false),
        }
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

    /// The plugin's name as text.
    pub fn name(&self) -> &str {
        self.descriptor.plugin.as_str()
    }

    /// The plugin's version, as it says itself.
    pub fn version(&self) -> &str {
        &self.descriptor.version
    }

    /// The SHA-256 of the component, in hexadecimal.
    pub fn digest(&self) -> &str {
        self.descriptor.digest.as_str()
    }

    /// The operator's text that its instances are started with.
    pub fn config(&self) -> &str {
        &self.blueprint.config
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

    pub(super) fn site(&self) -> &Site {
        &self.site
    }

    pub(super) fn blueprint(&self) -> &Arc<Blueprint> {
        &self.blueprint
    }

    pub(super) fn author(&self) -> &Author {
        &self.blueprint.author
    }

    pub(super) fn recent(&self) -> &Recent {
        &self.recent
    }

    /// What it is to be given as a shadow.
    pub(super) fn comparisons(&self) -> &Comparisons {
        &self.comparisons
    }

    /// Calls the handler with an event, or with a stored message in the context of one, in an instance that belongs to the
    /// channel's tenant. Waits for the tenant's turn; takes at most the time of [`super::Limits::wall`] after that.
    pub(super) async fn call(
        &self,
        channel: &ChannelKey,
        event: &Event,
        message: Option<&Message>,
        allowance: &Arc<Allowance>,
    ) -> Called {
        let slot = self.site.pool.slot(self.serial, &channel.tenant, || self.meter.of(&channel.tenant));
        let turn = match self.site.turns.turn(self.serial, &channel.tenant, &allowance.limits).await {
            Ok(turn) => turn,
            Err(busy) => {
                slot.meter.ended(Some(&busy), 0, Duration::ZERO);
                return Called { answer: Err(busy), fails: false, now: Instant::now() };
            }
        };
        let began = Instant::now();
        let (answer, used) = self.run(channel, event, message, allowance, &slot, turn).await;
        let now = Instant::now();
        let (error, took) = (answer.as_ref().err(), now - began);
        let effects = answer.as_ref().map_or(0, Vec::len);
        self.meter.took(error.map_or("ok", CallError::word), took);
        self.recent.add(now, took, error.is_some_and(CallError::is_fault));
        let fails = slot.meter.ended(error, effects, used);
        Called { answer, fails, now }
    }

    async fn run(
        &self,
        channel: &ChannelKey,
        event: &Event,
        message: Option<&Message>,
        allowance: &Arc<Allowance>,
        slot: &Slot,
        mut turn: Turn,
    ) -> (Result<Vec<Effect>, CallError>, Duration) {
        let limits = &allowance.limits;
        let kept = slot.take().filter(|kept| kept.serves(allowance));
        let usage = kept.as_ref().map_or_else(|| Arc::new(Usage::new()), |kept| Arc::clone(kept.usage()));
        usage.begin(limits.cpu);
        let given = Given::new(channel, event, message);
        let job = match kept {
            Some(instance) => again(instance, channel.clone(), given),
            None => match self.site.pool.place(Some(&channel.tenant)) {
                Ok(place) => {
                    let (blueprint, allowance) = (Arc::clone(&self.blueprint), Arc::clone(allowance));
                    let (present, usage, channel) = (slot.meter.instance(), Arc::clone(&usage), channel.clone());
                    let job: Job<Ended> = Box::pin(async move {
                        let tenant = Some(&channel.tenant);
                        let made = Instance::instantiate(&blueprint, tenant, &allowance, &usage, place, Some(present));
                        let mut instance = Box::new(made.await?);
                        if let Err(reason) = instance.init(&blueprint.config).await? {
                            return Ok(Err(CallError::Failed(format!("its init failed: {reason}"))));
                        }
                        let answer = instance.call(channel, &given).await?;
                        Ok(Ok((instance, answer)))
                    });
                    job
                }
                Err(busy) => return (Err(busy), Duration::ZERO),
            },
        };
        let Ran { answer, used, slow } = self.site.floor.run(along(job), &usage, limits.wall, turn.is_slow()).await;
        // Whoever's call failed waits as after a slow one: a trap costs more than the processor time that was counted for it.
        turn.spent(used, slow || !matches!(answer, Some(Ok(_))));
        let tenant = Some(&channel.tenant);
        let answer = match answer {
            None => {
                let line = format!("`{}` was stopped after {} ms", event.kind, limits.wall.as_millis());
                self.author().write(tenant, Level::Error, line);
                Err(CallError::TimedOut)
            }
            Some(Err(error)) => Err(broken(&error, self.author(), tenant)),
            Some(Ok(Err(error))) => Err(error),
            Some(Ok(Ok((instance, answer)))) => {
                let answer = read(answer, event, allowance);
                slot.meter.memory(instance.memory());
                // A guest that says it is at fault, or answered nonsense, may have left anything in its memory.
                let sound = !matches!(answer, Err(CallError::Failed(_)));
                if sound && instance.is_fresh(limits) && !self.retired.load(Ordering::Acquire) {
                    slot.put_back(instance, Instant::now());
                } else {
                    slot.touch(Instant::now());
                }
                return (answer, used);
            }
        };
        slot.touch(Instant::now());
        (answer, used)
    }

    /// Keeps nothing warm any more, because no new event comes here.
    pub(super) fn retire(&self) {
        self.retired.store(true, Ordering::Release);
        self.site.pool.retire(self.serial);
    }

    /// New events come here again.
    pub(super) fn revive(&self) {
        self.retired.store(false, Ordering::Release);
    }
}

/// How a job ends: in a trap, in an instance that did not start, or in an answer.
type Ended = wasmtime::Result<Result<(Box<Instance>, Answer), CallError>>;

/// A call of an instance that was kept.
fn again(mut instance: Box<Instance>, channel: ChannelKey, given: Given) -> Job<Ended> {
    Box::pin(async move {
        let answer = instance.call(channel, &given).await?;
        Ok(Ok((instance, answer)))
    })
}

impl Drop for Generation {
    fn drop(&mut self) {
        self.site.pool.retire(self.serial);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use uuid::Uuid;

    use super::super::fixture::{component, engine};
    use super::super::{Limits, Order};
    use super::*;
    use crate::model::{ChannelId, MessageId, Timestamp, User};

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
            let turn = generation.site.turns.turn(generation.serial, &channel.tenant, &enough.limits);
            turn.now_or_never().expect("nobody else is here").unwrap().is_slow()
        };

        let (channel, event) = said("acme");
        let called = generation.call(&channel, &event, None, &too_little).await;
        assert!(matches!(called.answer, Err(CallError::Trapped(_))), "{:?}", called.answer);
        assert!(is_slow(&channel));

        let (channel, event) = said("good");
        let called = generation.call(&channel, &event, None, &enough).await;
        assert!(called.answer.is_ok(), "{:?}", called.answer);
        assert!(!is_slow(&channel));
    }
}
