//! Version 0.1 of the contract, `wit/0.1.0`.
//!
//! All that knows the forms of this version is here: the generated bindings, what a guest finds behind its imports, and how
//! an event is given to it and its answer read. A later version of the contract is a folder beside this one.

pub(super) mod bindings;
mod convert;
mod effects;
pub(super) mod guest;
mod host;

/// The version as components name it.
pub(super) const VERSION: &str = "0.1.0";
