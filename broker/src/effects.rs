//! From what a handler asked for to everyone who is to hear of it.
//!
//! The files in the order of the way:
//!
//! 1. `apply`: effects become one commit, all or none, and are queued. The caller is free from here on.
//! 2. `committer`: what arrives together shares a transaction. The batch's own task does the rest, whoever waits.
//! 3. `publish`: what was stored goes to the hub and the bus, in the order of the batch.
//! 4. `hooks`: plugins that watch what was stored are told afterwards. What they ask for begins at 1.
//!
//! Nothing is sent before it is committed, and nothing is sent when the commit fails. What effects mean is the handler's affair.

mod apply;
pub mod committer;
mod hooks;
mod publish;
mod refusals;

pub use apply::{Applied, ApplyError, Carried, Cause, Effects, Queued};
pub use committer::{Flush, given_up};
pub use hooks::Hooks;
pub use refusals::{away, refusal, unknown_message};
