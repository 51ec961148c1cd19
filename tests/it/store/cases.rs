//! The cases, a file a noun of the store.

pub(crate) mod amendments;
pub(crate) mod batches;
pub(crate) mod catalogue;
pub(crate) mod channels;
pub(crate) mod commits;
pub(crate) mod keys;
pub(crate) mod members;
pub(crate) mod reads;
pub(crate) mod tenants;
