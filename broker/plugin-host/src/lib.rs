//! Runs message handlers: WebAssembly components behind the contract in `wit/`.
//!
//! A handler reads through imports and returns effects. It cannot write, open a file or a socket, or name another
//! tenant, and everything it uses is bounded by [`Limits`]. This crate knows neither the store nor the hub: reads go
//! through [`HostData`], and effects are returned to the caller, never applied here.
//!
//! An instance serves one tenant for its whole life and runs one call at a time. An event takes its [`Handler`] once
//! and keeps it to the end, whatever is deployed meanwhile.
//!
//! Begin with [`Engine::prepare`], which turns a component into a [`Generation`]; then [`Registry`], which picks the
//! handler of a message type; then [`Handler::handle`], which calls it. `runtime` runs instances, `contract` is what
//! they see, and `recording` and `replay` capture events and run them again offline.

mod contract;
mod error;
#[cfg(test)]
mod fixture;
mod guest_log;
mod limits;
mod private;
mod recording;
mod replay;
mod routing;
mod runtime;

pub use contract::descriptor::Descriptor;
pub use contract::earlier::{Earlier, Settling};
pub use contract::host_data::{HostData, NoHostData, Unavailable};
pub use error::CallError;
pub use guest_log::{Level, LogLine, Logs};
pub use limits::{Allowance, Bounds, LimitError, LimitSpec, Limits};
pub use private::{kept, private_folder};
pub use recording::recorded::Recorded;
pub use recording::recorder::{Recorder, Recording, Redaction, TooMany, Wanted};
pub use replay::{Played, Replay, Shown};
pub use routing::handler::{Handler, Role};
pub use routing::registry::Registry;
pub use routing::table::{Plan, Table, Unprepared};
pub use runtime::compile::{Compiler, VERB as COMPILE_VERB, child as compile_child};
pub use runtime::engine::{Engine, LoadError, Options, Order};
pub use runtime::generation::Generation;
pub use runtime::incident::{Incident, Incidents};

/// What `tests/fuzz` calls of the inside. In no default build.
#[cfg(feature = "fuzzing")]
pub mod fuzzing {
    pub use crate::contract::fuzzing as contract;
    pub use crate::recording::fuzzing as recordings;
}
