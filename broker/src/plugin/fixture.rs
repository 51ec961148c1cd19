//! What unit tests of this module share.

use std::sync::{Arc, Once};

use super::{BUILTIN, Bounds, Compiler, Engine, Options, Silent};
use crate::model::Clock;

/// Has somebody listen to what is logged, on every thread. Otherwise a thread where nobody does may decide for all of them,
/// at the moment when another one begins to listen, that a line is of no interest.
pub(super) fn listened_to() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| tracing::subscriber::set_global_default(tracing_subscriber::registry()).unwrap());
}

/// An engine that compiles in this process, for plugins that are answered nothing.
pub(super) async fn engine() -> Arc<Engine> {
    listened_to();
    let options = Options {
        folder: std::env::temp_dir().join("switchboard-unit-tests"),
        compiler: Compiler::InProcess,
        bounds: Bounds::default(),
        clock: Clock::system(),
    };
    Engine::new(options, Arc::new(Silent)).unwrap().0
}

/// The component of the built-in `chat-message`.
pub(super) fn component() -> &'static [u8] {
    BUILTIN.iter().find(|(name, _)| *name == "chat-message").unwrap().1
}
