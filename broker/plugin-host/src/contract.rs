//! The contract between the broker and a component: what each side may say, and how it is read.
//!
//! `v0_1` holds the generated types of one version of the contract and everything that touches them. The rest serves
//! every version: [`descriptor`] checks what a component says about itself, [`host`] is the state behind its imports,
//! [`host_data`] is what it may read, and [`linker`] decides which imports exist at all.
//!
//! Nothing here schedules or times a component, and no generated type leaves `v0_1`: an event goes in as [`Input`], and
//! its effects come out as the broker's own types.
//!
//! Invariant: channel, tenant and plugin always come from the broker. No import takes any of them as an argument.
//!
//! Start with `host.rs`, then `v0_1/guest.rs` for the way in and `v0_1/effects.rs` for the way out.

pub(crate) mod descriptor;
pub(crate) mod earlier;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
pub(crate) mod host;
pub(crate) mod host_data;
pub(crate) mod linker;
pub(crate) mod text;
mod v0_1;

pub(crate) use v0_1::guest::{Guest, Input, Linked, effect_bytes};
