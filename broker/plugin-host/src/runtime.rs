//! Compiles, starts, schedules and runs components, each within its limits.
//!
//! [`engine`] turns a component into a [`generation`]. A generation handles a call in four steps: the [`scheduler`]
//! grants a permit, the [`pool`] hands out a warm instance or a permit for a new one, the [`executor`] runs the call,
//! and the instance goes back to the pool if it is still sound.
//!
//! A guest does not hold a broker worker for much longer than a tick: the [`ticker`] interrupts it, and the executor
//! moves it to the low-priority background runtime. Dropping the future of a call cancels the call and still charges
//! the tenant for the time it used.
//!
//! Nothing here knows which generation should handle an event, and nothing here applies effects.
//!
//! Start with `Generation::call`.

pub(crate) mod cache;
pub(crate) mod capacity;
pub(crate) mod compile;
pub(crate) mod declared;
pub(crate) mod deferred;
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
