//! What a command is planned with: what is decided now, and who asks.

use super::view::View;
use crate::model::Timestamp;

/// What a plan is made with.
#[derive(Debug, Clone, Copy)]
pub struct Planner<'a> {
    /// What is decided now.
    pub view: View<'a>,
    /// This moment.
    pub now: Timestamp,
    /// Who asks.
    pub actor: &'a str,
    /// Whether there is a limit of this name that takes this value; the error says what it takes.
    pub limit: fn(&str, u64) -> Result<(), String>,
}
