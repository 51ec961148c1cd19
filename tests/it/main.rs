//! The integration tests: whole brokers, seen from outside.
//!
//! Each module holds one promise of the documentation. Run them with `tests/run`, which starts what they need.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod addresses;
mod admin;
mod authors;
mod bad_input;
mod bounds;
mod bus;
mod chat;
mod cluster;
mod deploy;
mod dismissal;
mod durability;
mod examples;
mod fan_out;
mod faults;
mod forgery;
mod frames;
mod handshake;
mod hooks;
mod hostile;
mod hostile_inputs;
mod idempotency;
mod instances;
mod key_sets;
mod languages;
mod liveness;
mod page;
mod pipeline;
mod plugins;
mod presence;
mod rates;
mod redis_server;
mod repair;
mod rest;
mod resume;
mod runtime;
mod sessions;
mod startup;
mod store;
mod swaps;
mod tenants;
mod tokens;
