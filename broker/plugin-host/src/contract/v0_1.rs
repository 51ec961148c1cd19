//! Version 0.1 of the contract, `wit/0.1.0`.
//!
//! Everything that knows this version's types is here: the generated bindings, the imports, and how an event is passed
//! in and its answer read. A later version gets a module beside this one.

pub(super) mod bindings;
mod convert;
mod effects;
#[cfg(feature = "fuzzing")]
pub(super) mod fuzzing;
pub(super) mod guest;
mod host;

/// The version as component imports spell it.
pub(super) const VERSION: &str = "0.1.0";
