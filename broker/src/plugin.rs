//! Handlers: WebAssembly components behind the contract in `wit/`.
//!
//! A handler reads through imports and returns effects; it is given no way to write, to open a file or a socket, or to
//! name another tenant. Everything it may use is bounded by [`Limits`]. This module knows neither the store nor the hub:
//! what handlers may read comes through [`Sources`], and what they ask for is returned, not done.

mod bindings;
mod builtin {
    include!(concat!(env!("OUT_DIR"), "/builtin.rs"));
}
mod cache;
mod effects;
mod engine;
mod generation;
mod host;
mod instance;
mod pool;
mod registry;
mod sources;

use std::time::Duration;

pub use builtin::BUILTIN;
pub use engine::{Engine, LoadError};
pub use generation::Generation;
pub use registry::{Handler, Registry};
pub use sources::{Sources, Unavailable};

/// What one call of a handler, and all instances together, may use.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Time on a processor for one call, counted in ticks of [`Limits::TICK`]. Default 50 ms.
    pub cpu: Duration,
    /// Time from the call to its answer, host reads included. Default 250 ms.
    pub wall: Duration,
    /// Linear memory of one instance in bytes. Default 16 MiB.
    pub memory: usize,
    /// Effects of one event. Default 64.
    pub effects: usize,
    /// Bytes of text in the effects of one event. Default 256 KiB.
    pub effect_bytes: usize,
    /// Host reads of one event. Default 32.
    pub reads: u32,
    /// Log lines of one event, each cut at [`Limits::LOG_LINE`]. Default 20.
    pub log_lines: u32,
    /// The size of a component in bytes. Default 32 MiB, since those of interpreted languages carry their interpreter.
    pub component: usize,
    /// Calls that one tenant may have under way in one generation. Default 8.
    pub running: usize,
    /// Calls that may wait for one of those. Default 256; a further one is refused as overloaded.
    pub waiting: usize,
    /// Instances in all, running and warm. Default 1,024; beyond it the one unused longest makes room.
    pub instances: usize,
    /// Calls after which an instance is replaced, so that what leaks in it stays small. Default 10,000.
    pub calls: u32,
    /// How long an unused instance is kept warm. Default 60 s.
    pub idle: Duration,
}

impl Limits {
    /// How often running guests are interrupted to count their time and let others run.
    pub const TICK: Duration = Duration::from_millis(5);

    /// The longest line of a plugin's log, in bytes.
    pub const LOG_LINE: usize = 1_024;
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            cpu: Duration::from_millis(50),
            wall: Duration::from_millis(250),
            memory: 16 << 20,
            effects: 64,
            effect_bytes: 256 << 10,
            reads: 32,
            log_lines: 20,
            component: 32 << 20,
            running: 8,
            waiting: 256,
            instances: 1_024,
            calls: 10_000,
            idle: Duration::from_secs(60),
        }
    }
}

/// Why an event has no effects.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The handler found the event malformed; its text is for the sender.
    #[error("failed to take the event: {0}")]
    Invalid(String),
    /// The handler does not want the event; its text is for the sender.
    #[error("failed to take the event, the handler refused: {0}")]
    Denied(String),
    /// The handler asks to be tried again after so many milliseconds.
    #[error("failed to take the event now, the handler asks for {0} ms")]
    Retry(u32),
    /// The handler named a message that cannot be one.
    #[error("failed to take the event: it names a message that is no message")]
    UnknownMessage,
    /// The handler says it is at fault, or trapped, or returned what cannot be applied. The text is for the operator.
    #[error("failed to run the handler: {0}")]
    Failed(String),
    /// The handler used up its time.
    #[error("failed to run the handler within its time")]
    TimedOut,
    /// Too many calls of this tenant are waiting.
    #[error("failed to run the handler: too many calls are waiting")]
    Busy,
}

impl CallError {
    /// A word for metrics.
    pub fn word(&self) -> &'static str {
        match self {
            CallError::Invalid(_) | CallError::UnknownMessage => "invalid",
            CallError::Denied(_) => "denied",
            CallError::Retry(_) => "retry",
            CallError::Failed(_) => "failed",
            CallError::TimedOut => "timed_out",
            CallError::Busy => "busy",
        }
    }
}
