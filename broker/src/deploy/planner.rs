//! The input of a plan.

use super::view::View;
use crate::model::Timestamp;

#[derive(Debug, Clone, Copy)]
pub struct Planner<'a> {
    pub view: View<'a>,
    pub now: Timestamp,
    pub actor: &'a str,
    /// Checks a limit's name and value. The error says what is accepted.
    pub limit: fn(&str, u64) -> Result<(), String>,
}
