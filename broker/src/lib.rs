//! Switchboard: a multi-tenant chat message broker whose message types are hot-swappable WebAssembly plugins.
//!
//! The modules in the order a message meets them:
//!
//! socket → session → router → handler → effects → store → bus → hub → socket

pub mod model;

pub mod bus;
pub mod presence;
pub mod store;
