//! What clients are told when something behind the broker fails. The operator reads the reason in the log.

use crate::protocol::{ErrorCode, Refusal};
use crate::store::StoreError;

/// The answer for a frame that names a message which is not in the channel.
pub fn unknown_message() -> Refusal {
    Refusal::new(ErrorCode::BadRequest, "there is no such message in this channel")
}

/// What a client hears when the store fails; the operator reads the reason in the log.
pub fn refusal(error: &StoreError) -> Refusal {
    match error {
        StoreError::Away => Refusal::unavailable(),
        StoreError::Unavailable(_) | StoreError::Contended => {
            tracing::warn!(%error, "the store did not do it");
            Refusal::unavailable()
        }
        _ => {
            tracing::error!(%error, "the store failed");
            Refusal::new(ErrorCode::Internal, "the broker failed; its operator can read why in the log")
        }
    }
}

/// What a client hears when something other than the store is away.
pub fn away(what: &'static str, error: &dyn std::error::Error) -> Refusal {
    tracing::warn!(what, %error, "not available");
    Refusal { retry_after_ms: Some(1_000), ..Refusal::new(ErrorCode::Unavailable, "not available now; try again") }
}
