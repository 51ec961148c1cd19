//! Conversions between the model's types and database columns, for the store.
//!
//! They are here because only this crate may implement foreign traits for its types. Each database is a feature, so
//! that crates without one build without its driver. Values are checked as they are read: what the model would refuse
//! is an error, never a silent default. There is no SQL here.

#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "sqlite")]
mod sqlite;
