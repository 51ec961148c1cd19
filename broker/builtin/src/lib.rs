//! What the broker's program carries with it: the built-in plugins, compiled to components, and the files that
//! `switchboard plugin new` writes.
//!
//! The build script makes both lists. They are a crate of their own so that the components are compiled beside the crates
//! that need no component, and again only when a plugin, the SDK or the contract changes.

include!(concat!(env!("OUT_DIR"), "/builtin.rs"));

include!(concat!(env!("OUT_DIR"), "/kit.rs"));
