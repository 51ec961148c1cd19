//! Files embedded in the broker's program: the built-in plugins, compiled to components, and the files that
//! `switchboard plugin new` writes.
//!
//! The build script generates both lists. They are in a separate crate, so that the components are compiled in parallel
//! with the crates that do not need them, and again only if a plugin, the SDK or the contract changes.

include!(concat!(env!("OUT_DIR"), "/builtin.rs"));

include!(concat!(env!("OUT_DIR"), "/kit.rs"));
