//! Switchboard: a multi-tenant chat message broker whose message types are hot-swappable WebAssembly plugins.
//!
//! The modules in the order a message meets them:
//!
//! socket → session → router → handler → effects → committer (store, then publish) → relay → hub → socket

pub mod cli;

pub mod broker;
pub mod http;

pub mod identity;
pub mod session;

pub mod router;

pub use switchboard_plugin_host as plugin;
pub mod host_data;

pub mod deploy;

pub mod effects;

pub use switchboard_store as store;

pub mod relay;

pub mod bus;

pub mod hub;
pub mod presence;

pub mod auth;
pub mod config;
pub use switchboard_metrics as metrics;
pub use switchboard_model as model;
pub mod protocol;
pub mod rates;
pub mod telemetry;

#[cfg(test)]
mod dice;

/// What `tests/fuzz` calls of the inside. In no default build.
#[cfg(feature = "fuzzing")]
pub mod fuzzing {
    pub use crate::http::fuzzing as paging;
    pub use crate::relay::fuzzing as envelope;
    pub use crate::session::fuzzing as frames;
    pub use switchboard_plugin_host::fuzzing as plugin;
    pub use switchboard_store::postgres::schema_name;
    pub use switchboard_store::sqlite::tenant_file_path;
}
