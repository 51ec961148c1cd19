//! Which version of which plugin handles what: commands, the catalogue they change, and the nodes that follow it.
//!
//! A command is planned against the catalogue without any I/O ([`plan`]); what comes of it is written down by the
//! desk, and each node brings itself to what is written. Nothing here calls a handler, knows a message type by name, or
//! speaks HTTP.

mod automatic;
mod command;
mod plan;
mod routes;
mod routing;
mod terms;
mod view;

pub use command::{Choice, Command, Deployed, Edit, Refused, Step};
pub use plan::{Planner, plan};
pub use view::{BuiltIn, View};

#[cfg(test)]
mod tests;
