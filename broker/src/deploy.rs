//! Which version of which plugin handles what: commands, the catalogue they change, and the nodes that follow it.
//!
//! A command is planned against the catalogue without any I/O ([`plan`]); what comes of it is written down by the
//! desk, and each node brings itself to what is written. Nothing here calls a handler, knows a message type by name, or
//! speaks HTTP.

mod automatic;
mod command;
mod desk;
mod follower;
mod incidents;
mod plan;
mod routes;
mod routing;
mod standing;
mod terms;
mod view;

pub use command::{Choice, Command, Edit, Refused, Step};
pub use desk::{Desk, DeskError, Outcome, Reach};
pub use follower::{Follower, Parts};
pub use incidents::act_on;
pub use plan::{Planner, plan};
pub use standing::Standing;
pub use view::{BuiltIn, View};

#[cfg(test)]
mod tests;
