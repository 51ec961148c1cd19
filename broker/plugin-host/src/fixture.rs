//! Helpers shared by this crate's unit tests.

use std::sync::{Arc, Once};

use crate::contract::host_data::NoHostData;
use crate::limits::Bounds;
use crate::runtime::compile::Compiler;
use crate::runtime::engine::{Engine, Options};
use switchboard_model::Clock;

/// Installs a global subscriber. Without one, a thread that has none may cache a log call site as disabled for every
/// thread, just as another test begins to listen.
pub(crate) fn listened_to() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| tracing::subscriber::set_global_default(tracing_subscriber::registry()).unwrap());
}

/// An engine that compiles in this process and answers every host read with [`NoHostData`].
pub(crate) async fn engine() -> Arc<Engine> {
    listened_to();
    let options = Options {
        folder: std::env::temp_dir().join("switchboard-unit-tests"),
        compiler: Compiler::InProcess,
        bounds: Bounds::default(),
        clock: Clock::system(),
    };
    Engine::new(options, Arc::new(NoHostData)).unwrap().0
}

pub(crate) fn component() -> &'static [u8] {
    switchboard_builtin::BUILTIN.iter().find(|(name, _)| *name == "chat-message").unwrap().1
}
