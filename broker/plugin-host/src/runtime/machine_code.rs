//! The engine's settings, and the machine code made and loaded under them.
//!
//! The process that compiles and the process that loads need identical settings, so there is one definition.

use sha2::{Digest as _, Sha256};
use switchboard_model::Digest;
use wasmtime::component::Component;

/// An engine with these settings. Code compiled by one process loads in another only if the settings agree.
pub(crate) fn compiler(metered: bool) -> wasmtime::Result<wasmtime::Engine> {
    wasmtime::Engine::new(&settings(metered))
}

pub(crate) fn settings(metered: bool) -> wasmtime::Config {
    let mut config = wasmtime::Config::new();
    config.wasm_component_model(true);
    config.epoch_interruption(true);
    config.consume_fuel(metered);
    // Guest frames share the fibre's stack with the host calls they make; the remainder is for the host.
    config.max_wasm_stack(512 << 10);
    config.async_stack_size(1 << 20);
    config
}

#[expect(unsafe_code, reason = "there is no safe way to load compiled code")]
pub(crate) fn deserialize(engine: &wasmtime::Engine, code: &[u8]) -> wasmtime::Result<Component> {
    // SAFETY: all callers have the bytes from this program's own compiler: from its child's pipe, or from a
    // file whose seal and place show that this broker wrote it. The engine checks its own version and settings besides.
    unsafe { Component::deserialize(engine, code) }
}

pub(crate) fn digest(component: &[u8]) -> Digest {
    hex::encode(Sha256::digest(component)).parse().expect("64 hexadecimal digits")
}

/// The error's whole chain of causes in one line, outermost first.
pub(crate) fn in_one_line(error: wasmtime::Error) -> String {
    let chain: Vec<String> =
        error.chain().map(|cause| cause.to_string().lines().next().unwrap_or_default().to_owned()).collect();
    chain.join(": ")
}
