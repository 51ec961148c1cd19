//! Applies effects: from what a handler asked for to everyone who has to receive it.
//!
//! The modules in the order of processing:
//!
//! - `apply`: effects become one commit, all or none, and are queued. The caller is free from here on.
//! - `committer`: commits that arrive together share a transaction. The batch's own task does the rest, whoever waits.
//! - `publish`: what was stored goes to the hub and the bus, in batch order.
//! - `hooks`: plugins that watch stored messages are called. Their effects start over at `apply`.
//!
//! Invariant: nothing is sent before it is committed, and nothing is sent if the commit fails. What an effect means is
//! up to the handler that asked for it.
//!
//! Start with [`Effects::carry_out`].

mod apply;
pub mod committer;
mod hooks;
mod publish;
mod refusals;

pub use apply::{Applied, ApplyError, Carried, Cause, Effects, Queued};
pub use committer::{Flush, given_up};
pub use hooks::Hooks;
pub use refusals::{away, unknown_message};
