//! What clients are told when something behind the broker fails. The reason is in the log.

use crate::protocol::{ErrorCode, Refusal};
use crate::store::StoreError;

/// For a frame that names a message which is not in the channel.
pub fn unknown_message() -> Refusal {
    Refusal::new(ErrorCode::BadRequest, "there is no such message in this channel")
}

/// Logs the error: the one place where a failure of the store is logged.
impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        match error {
            // It was logged when the database was found away.
            StoreError::Away => Refusal::unavailable(),
            StoreError::Unavailable(_) | StoreError::Contended => {
                tracing::warn!(%error, "the store did not answer");
                Refusal::unavailable()
            }
            StoreError::Failed(_)
            | StoreError::Migrate { .. }
            | StoreError::Damaged { .. }
            | StoreError::NoTenant(_) => {
                tracing::error!(%error, "the store failed");
                Refusal::new(ErrorCode::Internal, "the broker failed; its log says why")
            }
        }
    }
}

/// For a failure of anything other than the store.
pub fn away(what: &'static str, error: &dyn std::error::Error) -> Refusal {
    tracing::warn!(what, %error, "not available");
    Refusal { retry_after_ms: Some(1_000), ..Refusal::new(ErrorCode::Unavailable, "not available now; try again") }
}
