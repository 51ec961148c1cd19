//! The engine's settings, and the machine code that is made and loaded under them.
//!
//! Who compiles and who loads must have the same settings; so they stand here once, for the broker and for its compiler.

use sha2::{Digest as _, Sha256};
use switchboard_model::Digest;
use wasmtime::component::Component;

/// The compiler and its settings. What one process compiles another loads only if both have the same.
pub(crate) fn compiler(metered: bool) -> wasmtime::Result<wasmtime::Engine> {
    wasmtime::Engine::new(&settings(metered))
}

pub(crate) fn settings(metered: bool) -> wasmtime::Config {
    let mut config = wasmtime::Config::new();
    config.wasm_component_model(true);
    config.epoch_interruption(true);
    config.consume_fuel(metered);
    // A guest's frames and the host calls it makes share a fibre's stack; the rest is for the host.
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

/// The digest of a component.
pub(crate) fn digest(component: &[u8]) -> Digest {
    let digest: String = Sha256::digest(component).iter().map(|byte| format!("{byte:02x}")).collect();
    digest.parse().expect("64 hexadecimal digits")
}

/// The reason in one line: the engine explains in the chain of causes, outermost first.
pub(crate) fn in_one_line(error: wasmtime::Error) -> String {
    let chain: Vec<String> =
        error.chain().map(|cause| cause.to_string().lines().next().unwrap_or_default().to_owned()).collect();
    chain.join(": ")
}
