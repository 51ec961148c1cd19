//! Which generation an event goes to, and what follows from how it does there.

pub(crate) mod canary;
pub(crate) mod handler;
pub(crate) mod registry;
pub(crate) mod shadow;
pub(crate) mod table;
