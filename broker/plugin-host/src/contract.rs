//! What a component and the broker say to each other.
//!
//! `v0_1` has the forms of one version of the contract, and all else here is the same for every version: what a component
//! says of itself ([`descriptor`]), the state behind its imports ([`host`]) and what is linked to them ([`linker`]). Nothing
//! here runs a component, and nothing outside sees a generated type: an event goes in as [`Input`], and effects come out of
//! an [`Answer`] as the broker's own.

pub(crate) mod descriptor;
pub(crate) mod earlier;
pub(crate) mod host;
pub(crate) mod host_data;
pub(crate) mod linker;
pub(crate) mod text;
mod v0_1;

pub(crate) use v0_1::guest::{Guest, Input, Linked, effect_bytes};
