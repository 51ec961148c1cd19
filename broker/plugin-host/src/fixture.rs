//! What unit tests of this module share.

use std::sync::{Arc, Once};

use crate::contract::host_data::NoHostData;
use crate::limits::Bounds;
use crate::runtime::compile::Compiler;
use crate::runtime::engine::{Engine, Options};
use switchboard_model::Clock;

/// Has somebody listen to what is logged, on every thread. Otherwise a thread where nobody does may decide for all of them,
/// at the moment when another one begins to listen, that a line is of no interest.
pub(crate) fn listened_to() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| tracing::subscriber::set_global_default(tracing_subscriber::registry()).unwrap());
}

/// An engine that compiles in this process, for plugins that are answered nothing.
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

/// The component of the built-in `chat-message`.
pub(crate) fn component() -> &'static [u8] {
    switchboard_builtin::BUILTIN.iter().find(|(name, _)| *name == "chat-message").unwrap().1
}
