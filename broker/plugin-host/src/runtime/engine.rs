//! Turns components into generations: checks, compiles, links against the grants, describes and test-starts them.
//!
//! All of this happens off the hot path. A failure is one line for whoever deployed the component, and changes nothing
//! about what already runs. One component is compiled at a time on a node, and each is compiled once: the result is
//! cached on disk by its digest.
//!
//! A component never runs unlinked or unbounded. Even to be described, it runs in a bounded instance under the
//! executor, which serves no tenant and is dropped afterwards.
//!
//! The engine also owns what all generations of the node share: scheduler, executor, instance pool, logs and recorder.
//! A process needs only one.
//!
//! Start with [`Engine::prepare`].

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use wasmtime::component::Component;

use crate::contract::Linked;
use crate::contract::descriptor;
use crate::contract::descriptor::Description;
use crate::contract::descriptor::Descriptor;
use crate::contract::host::usage::Usage;
use crate::contract::host_data::HostData;
use crate::contract::linker::linker;
use crate::contract::text::for_client;
use crate::error::CallError;
use crate::guest_log::{Author, Logs};
use crate::limits::{Allowance, Bounds};
use crate::recording::recorder::{RecordedReads, Recorder};
use crate::runtime::cache::Cache;
use crate::runtime::compile::Compiler;
use crate::runtime::declared::Declared;
use crate::runtime::executor::{Executor, Job};
use crate::runtime::generation::Generation;
use crate::runtime::incident::{Incidents, Reporter};
use crate::runtime::instance::{Blueprint, Instance, broken};
use crate::runtime::machine_code::{self, digest, in_one_line, settings};
use crate::runtime::pool::Pool;
use crate::runtime::scheduler::Scheduler;
use crate::runtime::shared::Shared;
use crate::runtime::start::{start, stopped};
use crate::runtime::ticker::Ticker;
use switchboard_model::catalogue::{GenerationId, Import, Scope};
use switchboard_model::{Clock, Digest, PluginName};

/// Processor time for describing a component.
const ASKED_FOR: Duration = Duration::from_secs(1);

/// Deadline for the same, on a machine that serves others first.
const ASKED_WITHIN: Duration = Duration::from_secs(20);

/// Why a component cannot become a generation: one line for whoever deployed it.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("failed to read the plugin {path}: {source}")]
    File {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("failed to open the folder {path} for compiled plugins: {source}")]
    Cache {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("failed to start the WebAssembly engine: {0}")]
    Engine(String),
    #[error("failed to load the plugin {name}: {reason}")]
    Refused {
        name: String,
        /// What the author has to correct, in one line.
        reason: String,
    },
    #[error("failed to load the plugin {name}: it needs {import}, which is not granted for {scope}")]
    NotGranted {
        name: String,
        import: Import,
        /// Where it was to run.
        scope: Scope,
    },
}

#[derive(Debug)]
pub struct Options {
    /// Where compiled components are kept. The folder must be private to this user.
    pub folder: PathBuf,
    pub compiler: Compiler,
    pub bounds: Bounds,
    /// For the times of log lines and the age of cached files.
    pub clock: Clock,
}

/// A component to prepare.
#[derive(Debug)]
pub struct Order<'a> {
    /// Its name in errors: a file, or a plugin and its version.
    pub name: &'a str,
    pub component: &'a [u8],
    /// `None` for a component that is built in or named at start-up.
    pub id: Option<GenerationId>,
    /// The operator's configuration for `init`.
    pub config: &'a str,
    /// The grants to link against. For a generation that serves several tenants, this is everything granted to any of
    /// them; each call is checked again against the handler's own allowance.
    pub allowance: Arc<Allowance>,
    /// The scope that errors name.
    pub scope: &'a Scope,
}

impl<'a> Order<'a> {
    /// An order for a component that is built in or named at start-up, and trusted with every interface.
    pub fn builtin(name: &'a str, component: &'a [u8]) -> Self {
        let allowance = Arc::new(Allowance::trusted());
        Self { name, component, id: None, config: "", allowance, scope: &Scope::All }
    }
}

/// The WebAssembly engine with everything its generations share.
pub struct Engine {
    engine: wasmtime::Engine,
    cache: Arc<Cache>,
    compiler: Compiler,
    compiling: Semaphore,
    declared: Arc<Declared>,
    bounds: Bounds,
    shared: Arc<Shared>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("bounds", &self.bounds).finish_non_exhaustive()
    }
}

impl Engine {
    /// Creates an engine and the receiving end of its incident reports.
    pub fn new(options: Options, data: Arc<dyn HostData>) -> Result<(Arc<Self>, Incidents), LoadError> {
        let Options { folder, compiler, bounds, clock } = options;
        let broken = |error: String| LoadError::Engine(error);
        let metered = compiler == Compiler::Metered;
        let engine = machine_code::compiler(metered).map_err(|error| broken(error.to_string()))?;
        let declared = Declared::new(settings(metered)).map_err(|error| broken(error.to_string()))?;
        let cache = Cache::open(&folder, &engine, bounds.cache, clock.clone())
            .map_err(|source| LoadError::Cache { path: folder, source })?;
        let (reporter, incidents) = Reporter::new();
        let pool = Arc::new(Pool::new(bounds.clone()));
        let swept = Arc::clone(&pool);
        let ticker = Ticker::start(engine.clone(), move |now| swept.sweep(now), bounds.idle / 4)
            .map_err(|error| broken(error.to_string()))?;
        let shared = Shared {
            scheduler: Arc::new(Scheduler::new(&bounds)),
            executor: Executor::new(ticker),
            pool,
            labels: Arc::default(),
            logs: Arc::new(Logs::new(clock)),
            reporter,
            recorder: Arc::default(),
            data: Arc::new(RecordedReads(data)),
        };
        let (cache, compiling, shared) = (Arc::new(cache), Semaphore::new(1), Arc::new(shared));
        let declared = Arc::new(declared);
        let made = Self { engine, cache, compiler, compiling, declared, bounds, shared };
        Ok((Arc::new(made), incidents))
    }

    /// What a component says about itself and needs. Compiles and describes it; grants nothing, and does not call its
    /// `init`.
    pub async fn describe(&self, name: &str, component: &[u8]) -> Result<Descriptor, LoadError> {
        let refused = |reason: String| LoadError::Refused { name: name.to_owned(), reason };
        let compiled = self.compiled(component).await.map_err(refused)?;
        let everything = Arc::new(Allowance::trusted());
        let imports = self.imports(&compiled.code).map_err(refused)?;
        let linked = self.link(&compiled.code, &everything.grants).map_err(refused)?;
        let blueprint = self.blueprint(linked, unnamed(&compiled.digest), "", None, "");
        let said = self.ask(blueprint, everything).await.map_err(refused)?;
        Descriptor::read(said, imports, compiled.digest, component.len()).map_err(refused)
    }

    /// Prepares a generation: compiles the component or takes it from the cache, links it against its grants, describes
    /// it, and test-starts it with its configuration. Compiles one component at a time.
    pub async fn prepare(&self, order: Order<'_>) -> Result<Arc<Generation>, LoadError> {
        let Order { name, component, id, config, allowance, scope } = order;
        let refused = |reason: String| LoadError::Refused { name: name.to_owned(), reason };
        let ungranted = |import| LoadError::NotGranted { name: name.to_owned(), import, scope: scope.clone() };
        let compiled = self.compiled(component).await.map_err(refused)?;
        let imports = self.imports(&compiled.code).map_err(refused)?;
        if let Some(import) = imports.iter().find(|import| !allowance.grants.contains(import)) {
            return Err(ungranted(*import));
        }
        let linked = self.link(&compiled.code, &allowance.grants).map_err(refused)?;
        let blueprint = self.blueprint(linked.clone(), unnamed(&compiled.digest), "", id, config);
        let said = self.ask(blueprint, allowance.clone()).await.map_err(refused)?;
        let descriptor = Descriptor::read(said, imports, compiled.digest, component.len()).map_err(refused)?;
        if let Some(import) = descriptor.ungranted(&allowance.grants) {
            return Err(ungranted(import));
        }
        let blueprint = self.blueprint(linked, descriptor.plugin.clone(), &descriptor.version, id, config);
        let blueprint = Arc::new(blueprint);
        let memory = self.try_start(&blueprint, &allowance).await.map_err(refused)?;
        let generation = Generation::new(id, descriptor, blueprint, memory, Arc::clone(&self.shared));
        tracing::info!(
            plugin = generation.name(),
            version = generation.version(),
            digest = &generation.digest()[..12],
            generation = id,
            from_cache = compiled.from_cache,
            "plugin prepared"
        );
        Ok(Arc::new(generation))
    }

    pub fn bounds(&self) -> &Bounds {
        &self.bounds
    }

    /// The recordings of this node.
    pub fn recorder(&self) -> &Arc<Recorder> {
        &self.shared.recorder
    }

    /// The guest logs of this node.
    pub fn logs(&self) -> &Arc<Logs> {
        &self.shared.logs
    }

    /// Instances in existence, running and warm.
    pub fn instances(&self) -> usize {
        self.shared.pool.instances()
    }

    async fn compiled(&self, component: &[u8]) -> Result<Compiled, String> {
        if component.len() > self.bounds.component {
            let (has, most) = (component.len(), self.bounds.component);
            return Err(format!("it has {has} bytes; the maximum for a component is {most}"));
        }
        check_form(component)?;
        let digest = digest(component);
        if let Some(code) = self.cached(&digest).await? {
            return Ok(Compiled { code, digest, from_cache: true });
        }
        let _permit = self.compiling.acquire().await.map_err(|error| error.to_string())?;
        // Another caller may have compiled it while this one waited.
        if let Some(code) = self.cached(&digest).await? {
            return Ok(Compiled { code, digest, from_cache: true });
        }
        let code = self.compiler.compile(&self.engine, component, &self.bounds).await?;
        let (cache, engine, key) = (Arc::clone(&self.cache), self.engine.clone(), digest.clone());
        let declared = Arc::clone(&self.declared);
        let keeping = tokio::task::spawn_blocking(move || {
            declared.check(&code)?;
            cache.keep(&engine, &key, &code).map_err(in_one_line)
        });
        let code = keeping.await.map_err(|error| error.to_string())??;
        Ok(Compiled { code, digest, from_cache: false })
    }

    async fn cached(&self, digest: &Digest) -> Result<Option<Component>, String> {
        let (cache, engine, digest) = (Arc::clone(&self.cache), self.engine.clone(), digest.clone());
        let loading = tokio::task::spawn_blocking(move || cache.load(&engine, &digest));
        loading.await.map_err(|error| error.to_string())
    }

    fn imports(&self, code: &Component) -> Result<BTreeSet<Import>, String> {
        let kind = code.component_type();
        descriptor::imports(kind.imports(&self.engine).map(|(name, _)| name))
    }

    fn link(&self, code: &Component, grants: &BTreeSet<Import>) -> Result<Linked, String> {
        let linker = linker(&self.engine, grants).map_err(in_one_line)?;
        let linked = linker.instantiate_pre(code).map_err(in_one_line)?;
        Linked::new(linked).map_err(in_one_line)
    }

    fn blueprint(
        &self,
        linked: Linked,
        plugin: PluginName,
        version: &str,
        generation: Option<GenerationId>,
        config: &str,
    ) -> Blueprint {
        let author = Author { plugin, version: version.into(), generation, logs: Arc::clone(&self.shared.logs) };
        let (author, data) = (Arc::new(author), Arc::clone(&self.shared.data));
        Blueprint { linked, author, config: config.to_owned(), data }
    }

    /// Describes a component in an instance whose `init` is not called.
    async fn ask(&self, blueprint: Blueprint, allowance: Arc<Allowance>) -> Result<Description, String> {
        let usage = Arc::new(Usage::new());
        usage.begin(ASKED_FOR);
        let permit = self.shared.pool.permit(None).map_err(|error| error.to_string())?;
        let author = Arc::clone(&blueprint.author);
        let own = Arc::clone(&usage);
        let job: Job<wasmtime::Result<Description>> = Box::pin(async move {
            let mut instance = Instance::instantiate(&blueprint, None, &allowance, &own, permit, None).await?;
            instance.describe().await
        });
        let ran = self.shared.executor.run(job, &usage, ASKED_WITHIN, true).await;
        match ran.answer {
            None => Err(format!("it did not describe itself within {} s", ASKED_WITHIN.as_secs())),
            Some(Err(error)) => Err(first_line(&broken(&error, &author, None))),
            Some(Ok(said)) => Ok(said),
        }
    }

    /// Starts an instance exactly as events will, so that a plugin that cannot start is never routed to. Returns the
    /// bytes that its memories and tables occupy.
    async fn try_start(&self, blueprint: &Arc<Blueprint>, allowance: &Arc<Allowance>) -> Result<usize, String> {
        let permit = self.shared.pool.permit(None).map_err(|error| error.to_string())?;
        match start(&self.shared, blueprint, None, allowance, permit, None, &Arc::new(Usage::new())).await.instance {
            Ok(instance) => Ok(instance.memory()),
            Err(CallError::Failed(reason)) => Err(for_client(&reason)),
            Err(CallError::TimedOut) => Err(stopped()),
            Err(error) => Err(first_line(&error)),
        }
    }
}

struct Compiled {
    code: Component,
    digest: Digest,
    from_cache: bool,
}

/// Catches files that people mistake for a component.
fn check_form(bytes: &[u8]) -> Result<(), String> {
    match bytes.get(..8) {
        Some([0x00, 0x61, 0x73, 0x6d, _, _, 0x01, 0x00]) => Ok(()),
        Some([0x00, 0x61, 0x73, 0x6d, 0x01, ..]) => {
            Err("it is a core WebAssembly module, not a component; build it for wasm32-wasip2".to_owned())
        }
        _ => Err("it is not a WebAssembly component".to_owned()),
    }
}

/// A stand-in name for a component that has not been described yet.
fn unnamed(digest: &Digest) -> PluginName {
    digest.as_str()[..12].parse().expect("hexadecimal digits make a name")
}

fn first_line(error: &CallError) -> String {
    error.to_string().lines().next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::check_form;

    #[test]
    fn what_is_no_component_is_told_apart() {
        assert!(check_form(&[0x00, 0x61, 0x73, 0x6d, 0x0d, 0x00, 0x01, 0x00]).is_ok());
        assert!(check_form(&[0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00]).unwrap_err().contains("wasm32-wasip2"));
        assert!(check_form(b"rubbish rubbish").is_err());
        assert!(check_form(b"").is_err());
    }
}
