//! Runs a plugin on recorded events: the broker's own engine, the same limits, no clients and no store.
//!
//! Effects are shown and not applied. The one exception is the plugin's own keys and values, which later events may
//! read; they live in memory in [`script`]. A host read is answered from the recording if it has an answer, and
//! otherwise from what earlier events wrote.
//!
//! A replay's engine meters fuel, roughly one unit for each instruction. The broker's engine does not, because metering
//! slows a guest down.
//!
//! Each event is retried when a key has changed underneath it, as the broker does. An instance stays warm between
//! events of one tenant as long as the broker would have kept it.
//!
//! Start with [`Replay::play`].

mod script;
mod shown;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use script::Script;
use tokio::sync::broadcast::Receiver;

pub use self::shown::{Played, Shown};
use crate::contract::Input;
use crate::contract::descriptor::Descriptor;
use crate::contract::host::usage::Usage;
use crate::contract::host_data::HostData;
use crate::error::CallError;
use crate::guest_log::LogLine;
use crate::limits::{Allowance, Bounds};
use crate::recording::recorded::Recorded;
use crate::runtime::compile::Compiler;
use crate::runtime::engine::{Engine, LoadError, Options, Order};
use crate::runtime::executor::{Job, Ran};
use crate::runtime::generation::Generation;
use crate::runtime::instance::{Instance, broken};
use crate::runtime::start::start;
use switchboard_model::catalogue::Scope;
use switchboard_model::{ChannelKey, Clock, Effect, Event, KvWrite, Message, TenantSlug};

/// Attempts when a key has changed meanwhile, as many as the broker makes.
const TRIES: usize = 4;

/// A plugin under replay.
pub struct Replay {
    _engine: Arc<Engine>,
    generation: Arc<Generation>,
    allowance: Arc<Allowance>,
    script: Arc<Script>,
    log: Receiver<Arc<LogLine>>,
    warm: Option<(TenantSlug, Box<Instance>)>,
    played: usize,
}

impl std::fmt::Debug for Replay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Replay").field(&self.generation).finish()
    }
}

impl Replay {
    /// Compiles a component, or takes it from the cache in `folder`, and starts it with the operator's configuration.
    pub async fn open(
        folder: PathBuf,
        name: &str,
        component: &[u8],
        config: &str,
        allowance: Allowance,
    ) -> Result<Self, LoadError> {
        let script = Arc::new(Script::default());
        let options =
            Options { folder, compiler: Compiler::Metered, bounds: Bounds::default(), clock: Clock::system() };
        let (engine, _) = Engine::new(options, Arc::clone(&script) as Arc<dyn HostData>)?;
        let allowance = Arc::new(allowance);
        let order = Order { name, component, id: None, config, allowance: Arc::clone(&allowance), scope: &Scope::All };
        let generation = engine.prepare(order).await?;
        let log = engine.logs().follow();
        Ok(Self { _engine: engine, generation, allowance, script, log, warm: None, played: 0 })
    }

    pub fn descriptor(&self) -> &Descriptor {
        self.generation.descriptor()
    }

    /// Handles the next event of a file.
    pub async fn play(&mut self, recorded: &Recorded) -> Played {
        let (channel, event, message) = recorded.event(self.played);
        self.played += 1;
        let mut last = self.once(recorded, &channel, &event, message.as_ref()).await;
        for _ in 1..TRIES {
            if last.conflict.is_none() {
                break;
            }
            last = self.once(recorded, &channel, &event, message.as_ref()).await;
        }
        last
    }

    async fn once(
        &mut self,
        recorded: &Recorded,
        channel: &ChannelKey,
        event: &Event,
        message: Option<&Message>,
    ) -> Played {
        self.script.begin(event.at, &recorded.reads);
        let warm = self.warm.take().filter(|(tenant, _)| *tenant == channel.tenant);
        let started = warm.is_none();
        let instance = match warm {
            Some((_, instance)) => Ok(instance),
            None => self.start(&channel.tenant).await,
        };
        let mut played = Played {
            asked: Ok(Vec::new()),
            conflict: None,
            time: Duration::ZERO,
            started,
            fuel: 0,
            memory: 0,
            reads: 0,
            unrecorded: 0,
            log: Vec::new(),
        };
        match instance {
            Err(error) => played.asked = Err(error),
            Ok(instance) => self.call(instance, channel, event, message, &mut played).await,
        }
        (played.reads, played.unrecorded) = self.script.asked();
        if let Ok(effects) = &played.asked {
            let writes: Vec<&KvWrite> = effects.iter().filter_map(as_write).collect();
            played.conflict = self.script.write(&channel.tenant, &writes).err();
        }
        while let Ok(line) = self.log.try_recv() {
            played.log.push(line);
        }
        played
    }

    /// Starts an instance exactly as a live event would.
    async fn start(&self, tenant: &TenantSlug) -> Result<Box<Instance>, CallError> {
        let shared = self.generation.shared();
        let permit = shared.pool.permit(Some(tenant))?;
        let (blueprint, usage) = (self.generation.blueprint(), Arc::new(Usage::new()));
        start(shared, blueprint, Some(tenant), &self.allowance, permit, None, &usage).await.instance
    }

    /// Calls the guest and keeps the instance for the next event, unless it has to be replaced.
    async fn call(
        &mut self,
        mut instance: Box<Instance>,
        channel: &ChannelKey,
        event: &Event,
        message: Option<&Message>,
        played: &mut Played,
    ) {
        let (limits, fuel) = (&self.allowance.limits, instance.fuel_used());
        let usage = Arc::clone(instance.usage());
        usage.begin(limits.cpu);
        let (input, of_job) = (Input::new(channel, event, message), channel.clone());
        let job: Job<wasmtime::Result<_>> = Box::pin(async move {
            let answer = instance.call(of_job, None, &input).await?;
            Ok((instance, answer))
        });
        let Ran { answer, used, .. } = self.generation.shared().executor.run(job, &usage, limits.wall, false).await;
        played.time = used;
        match self.ended(answer, &channel.tenant) {
            Err(error) => played.asked = Err(error),
            Ok((instance, answer)) => {
                played.asked = answer;
                played.fuel = instance.fuel_used() - fuel;
                played.memory = instance.memory();
                let sound = !matches!(played.asked, Err(CallError::Failed(_)));
                if sound && instance.is_fresh(limits) {
                    self.warm = Some((channel.tenant.clone(), instance));
                }
            }
        }
    }

    fn ended<T>(&self, ended: Option<wasmtime::Result<T>>, tenant: &TenantSlug) -> Result<T, CallError> {
        let ended = ended.ok_or(CallError::TimedOut)?;
        ended.map_err(|error| broken(&error, self.generation.author(), Some(tenant)))
    }
}

fn as_write(effect: &Effect) -> Option<&KvWrite> {
    match effect {
        Effect::KvPut(write) => Some(write),
        _ => None,
    }
}
