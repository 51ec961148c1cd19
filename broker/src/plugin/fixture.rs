//! What unit tests of this module share.

use std::sync::Arc;

use super::{BUILTIN, Bounds, Compiler, Engine, Options, Silent};
use crate::model::Clock;

/// An engine that compiles in this process, for plugins that are answered nothing.
pub(super) async fn engine() -> Arc<Engine> {
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
