//! Handlers: WebAssembly components behind the contract in `wit/`.
//!
//! A handler reads through imports and returns effects; it is given no way to write, to open a file or a socket, or to
//! name another tenant. Everything it may use is bounded by [`Limits`]. This module knows neither the store nor the hub:
//! what handlers may read comes through [`HostData`], and what they ask for is returned, not done.

mod contract;
mod error;
#[cfg(test)]
mod fixture;
mod guest_log;
mod limits;
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
