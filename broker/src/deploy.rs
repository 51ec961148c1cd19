//! Which version of which plugin handles what: commands, the catalogue they change, and the nodes that follow it.
//!
//! A command is planned against the catalogue without any I/O ([`plan`]); what comes of it is written down by the
//! control, and each node brings itself to what is written. Nothing here calls a handler, knows a message type by name, or
//! speaks HTTP.

mod automatic;
mod command;
mod control;
mod incidents;
mod node_status;
mod plan;
mod planner;
mod policy;
mod reconciler;
mod routes;
mod routing;
mod view;

pub use command::{Choice, Command, Edit, Refused, Step};
pub use control::{ControlError, ControlPlane, Outcome, Reach};
pub use incidents::act_on;
pub use node_status::NodeStatus;
pub use plan::plan;
pub use planner::Planner;
pub use reconciler::{Parts, Reconciler};
pub use view::{BuiltIn, View};

#[cfg(test)]
mod tests;
