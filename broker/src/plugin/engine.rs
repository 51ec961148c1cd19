//! Compiles components and links them against what handlers may use.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::Semaphore;
use wasmtime::component::{Component, HasSelf, Linker};

use super::bindings::{Plugin, PluginPre};
use super::host::HostState;
use super::pool::Pool;
use super::{Generation, Limits, Sources, cache};

/// Why a component cannot become a generation: one line for whoever brought it.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file cannot be read.
    #[error("failed to read the plugin {path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The folder for compiled components cannot be used.
    #[error("failed to open the folder {path} for compiled plugins: {source}")]
    Cache {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The engine does not start on this machine.
    #[error("failed to start the WebAssembly engine: {0}")]
    Engine(String),
    /// It is no component, or one that does not fit the contract.
    #[error("failed to load the plugin {name}: {reason}")]
    Refused {
        /// The plugin's file or folder.
        name: String,
        /// What to correct.
        reason: String,
    },
}

/// The engine, its linker and its bounds. There is one a process.
pub struct Engine {
    engine: wasmtime::Engine,
    linker: Linker<HostState>,
    cache: cache::Cache,
    compiling: Semaphore,
    pool: Arc<Pool>,
    limits: Arc<Limits>,
    sources: Arc<dyn Sources>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("limits", &self.limits).finish_non_exhaustive()
    }
}

impl Engine {
    /// An engine that keeps compiled components below `folder`.
    pub fn new(folder: &Path, limits: Limits, sources: Arc<dyn Sources>) -> Result<Self, LoadError> {
        let engine = wasmtime::Engine::new(&settings()).map_err(|error| LoadError::Engine(error.to_string()))?;
        tick(&engine).map_err(|error| LoadError::Engine(error.to_string()))?;
        let cache = cache::Cache::open(folder, &engine)
            .map_err(|source| LoadError::Cache { path: folder.to_owned(), source })?;
        let linker = linker(&engine).map_err(|error| LoadError::Engine(error.to_string()))?;
        let limits = Arc::new(limits);
        let pool = Arc::new(Pool::new(Arc::clone(&limits)));
        Ok(Self { engine, linker, cache, compiling: Semaphore::new(1), pool, limits, sources })
    }

    /// Makes a generation of a component: checks its size and form, compiles it off the event loop or takes it from the
    /// cache, links it, and asks it to describe itself. One component is compiled at a time.
    pub async fn load(self: &Arc<Self>, name: &str, component: &[u8]) -> Result<Arc<Generation>, LoadError> {
        let refused = |reason: String| LoadError::Refused { name: name.to_owned(), reason };
        if component.len() > self.limits.component {
            return Err(refused(format!(
                "it has {} bytes, and a component has at most {}",
                component.len(),
                self.limits.component
            )));
        }
        check_form(component).map_err(&refused)?;
        let _turn = self.compiling.acquire().await.map_err(|error| refused(error.to_string()))?;
        let digest = cache::digest(component);
        let (engine, bytes, key) = (Arc::clone(self), component.to_vec(), digest.clone());
        let (linked, from_cache) = tokio::task::spawn_blocking(move || engine.prepare(&bytes, &key))
            .await
            .map_err(|error| refused(error.to_string()))?
            .map_err(&refused)?;
        let generation = Generation::new(
            linked,
            digest,
            Arc::clone(&self.pool),
            Arc::clone(&self.limits),
            Arc::clone(&self.sources),
        )
        .await
        .map_err(&refused)?;
        tracing::info!(
            plugin = generation.name(),
            version = generation.version(),
            digest = &generation.digest()[..12],
            from_cache,
            "plugin loaded"
        );
        Ok(Arc::new(generation))
    }

    /// Instances that exist now, running and warm.
    pub fn instances(&self) -> usize {
        self.pool.instances()
    }

    fn prepare(&self, bytes: &[u8], digest: &str) -> Result<(PluginPre<HostState>, bool), String> {
        let cached = self.cache.load(&self.engine, digest);
        let from_cache = cached.is_some();
        let component = match cached {
            Some(component) => component,
            None => {
                let component = Component::new(&self.engine, bytes).map_err(first_line)?;
                if let Err(error) = self.cache.save(&component, digest) {
                    tracing::warn!(%error, "failed to keep a compiled plugin; the next start compiles it again");
                }
                component
            }
        };
        let linked = self.linker.instantiate_pre(&component).map_err(first_line)?;
        PluginPre::new(linked).map_err(first_line).map(|linked| (linked, from_cache))
    }
}

fn settings() -> wasmtime::Config {
    let mut config = wasmtime::Config::new();
    config.wasm_component_model(true);
    config.epoch_interruption(true);
    // A guest's frames and the host calls it makes share a fibre's stack; the rest is for the host.
    config.max_wasm_stack(512 << 10);
    config.async_stack_size(1 << 20);
    config
}

/// Counts time for running guests from a thread of its own: a task would not run while guests hold every worker.
fn tick(engine: &wasmtime::Engine) -> io::Result<()> {
    let engine = engine.weak();
    std::thread::Builder::new().name("plugin-ticks".to_owned()).spawn(move || {
        loop {
            std::thread::sleep(Limits::TICK);
            let Some(engine) = engine.upgrade() else { return };
            engine.increment_epoch();
        }
    })?;
    Ok(())
}

/// The contract's imports, and of WASI what a language's standard library needs to start. There are no sockets, and a
/// component that wants them is refused when it is loaded.
fn linker(engine: &wasmtime::Engine) -> wasmtime::Result<Linker<HostState>> {
    use wasmtime_wasi::cli::{WasiCli, WasiCliView};
    use wasmtime_wasi::filesystem::{WasiFilesystem, WasiFilesystemView};
    use wasmtime_wasi::p2::bindings::{cli, filesystem, random};
    use wasmtime_wasi::random::{WasiRandom, WasiRandomView};

    let mut linker = Linker::new(engine);
    let l = &mut linker;
    Plugin::add_to_linker::<HostState, HasSelf<HostState>>(l, |state| state)?;
    wasmtime_wasi::p2::add_to_linker_proxy_interfaces_async(l)?;
    cli::environment::add_to_linker::<HostState, WasiCli>(l, HostState::cli)?;
    cli::exit::add_to_linker::<HostState, WasiCli>(l, HostState::cli)?;
    cli::terminal_input::add_to_linker::<HostState, WasiCli>(l, HostState::cli)?;
    cli::terminal_output::add_to_linker::<HostState, WasiCli>(l, HostState::cli)?;
    cli::terminal_stdin::add_to_linker::<HostState, WasiCli>(l, HostState::cli)?;
    cli::terminal_stdout::add_to_linker::<HostState, WasiCli>(l, HostState::cli)?;
    cli::terminal_stderr::add_to_linker::<HostState, WasiCli>(l, HostState::cli)?;
    filesystem::types::add_to_linker::<HostState, WasiFilesystem>(l, HostState::filesystem)?;
    filesystem::preopens::add_to_linker::<HostState, WasiFilesystem>(l, HostState::filesystem)?;
    random::insecure::add_to_linker::<HostState, WasiRandom>(l, HostState::random)?;
    random::insecure_seed::add_to_linker::<HostState, WasiRandom>(l, HostState::random)?;
    Ok(linker)
}

/// Tells apart what people mistake for a component.
fn check_form(bytes: &[u8]) -> Result<(), String> {
    match bytes.get(..8) {
        Some([0x00, 0x61, 0x73, 0x6d, _, _, 0x01, 0x00]) => Ok(()),
        Some([0x00, 0x61, 0x73, 0x6d, 0x01, ..]) => {
            Err("it is a core WebAssembly module, not a component; build it for wasm32-wasip2".to_owned())
        }
        _ => Err("it is no WebAssembly component".to_owned()),
    }
}

/// The reason in one line: the engine explains in the chain of causes, outermost first.
fn first_line(error: wasmtime::Error) -> String {
    let chain: Vec<String> =
        error.chain().map(|cause| cause.to_string().lines().next().unwrap_or_default().to_owned()).collect();
    chain.join(": ")
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
