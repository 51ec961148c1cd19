//! What `tests/fuzz` calls of how effects are read.

use switchboard_model::{Effect, Timestamp, UserId};

use super::effects::{SentBy, read};
use crate::error::CallError;
use crate::limits::Limits;

pub use super::bindings::switchboard::plugin::types;

/// Reads what a handler returned for an event of this user.
pub fn effects(
    asked: Vec<types::Effect>,
    user: UserId,
    at: Timestamp,
    limits: &Limits,
) -> Result<Vec<Effect>, CallError> {
    read(asked, &SentBy { user, at }, limits)
}
