//! The control plane and its reconcilers: which version of which plugin handles what.
//!
//! A command is planned against the catalogue without any I/O ([`plan()`]). The control plane records the result, and
//! each node's reconciler brings itself to what is recorded. Nothing here calls a handler, knows a message type by
//! name, or speaks HTTP.

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
