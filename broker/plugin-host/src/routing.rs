//! Routing: which generation an event goes to, and what its results mean for the route.
//!
//! [`table`] builds the routing table from the operators' decisions, and [`registry`] swaps it in and looks handlers up
//! without a lock. A [`handler`] calls its generation; [`canary`] judges a canary by its recent calls, and [`shadow`]
//! repeats events on a shadow and compares the effects.
//!
//! Nothing here decides what should be in force, prepares a generation or applies an effect. A canary that does worse is
//! reported, not removed.
//!
//! Invariant: a table is swapped in whole, and an event keeps the handler it took. Start with `Registry::handler`.

pub(crate) mod canary;
pub(crate) mod handler;
pub(crate) mod registry;
pub(crate) mod shadow;
pub(crate) mod table;
