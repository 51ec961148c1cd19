//! Recording of live events: what a handler was given, and what the host answered.
//!
//! [`recorder`] captures matching events while somebody records, and [`recorded`] is the line of JSON that each one
//! becomes. [`crate::Replay`] reads the same lines back.
//!
//! Recording never delays an event and never changes its outcome. An event that a recording has no room for is counted
//! as missed. While nobody records, an event pays one atomic load. Answers are captured through a task-local, so a call
//! that moves to the background runtime must take it along (`recorder::along`).
//!
//! Start with `Recorder::during`.

#[cfg(feature = "fuzzing")]
pub mod fuzzing;
pub(crate) mod recorded;
pub(crate) mod recorder;
