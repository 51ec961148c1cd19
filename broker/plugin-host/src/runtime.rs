//! Runs components: compiled, started, kept warm and scheduled, each within its limits.

pub(crate) mod asides;
pub(crate) mod cache;
pub(crate) mod capacity;
pub(crate) mod compile;
pub(crate) mod declared;
pub(crate) mod engine;
pub(crate) mod executor;
pub(crate) mod generation;
pub(crate) mod incident;
pub(crate) mod instance;
pub(crate) mod machine_code;
pub(crate) mod metrics;
pub(crate) mod pool;
pub(crate) mod recent;
pub(crate) mod scheduler;
pub(crate) mod shared;
pub(crate) mod start;
pub(crate) mod ticker;
