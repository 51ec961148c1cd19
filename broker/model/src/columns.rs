//! How the model's types travel to a database and back, for the store.
//!
//! It is here because Rust lets nobody else implement a foreign trait for them, and each database is a feature, so that
//! what knows no database builds without one. A value is checked as it is read: one that the model would refuse is an
//! error, never a silent default. No statement is here.

#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "sqlite")]
mod sqlite;
