//! Live events in a file: what a handler was given, and what the host answered it.

pub(crate) mod recorded;
pub(crate) mod recorder;
