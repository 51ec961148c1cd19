//! Why the store gave no answer.

use std::sync::Arc;

use switchboard_model::TenantSlug;

/// Why the store gave no answer. Every variant is the operator's to mend; clients hear `unavailable` or `internal`.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// The database cannot be reached, is shutting down, or did not answer within the bound. Trying later may help.
    #[error("failed to reach the database: {0}")]
    Unavailable(#[source] Arc<dyn std::error::Error + Send + Sync>),
    /// The database was found away a moment ago and was not asked; that was said when it was found.
    #[error("failed to reach the database: it was unreachable a moment ago")]
    Away,
    /// Somebody else held a lock for too long on what the call was to change. For a batch: on what one of its commits was
    /// to; the others may be done without it.
    #[error("failed to use the database: a row stayed locked")]
    Contended,
    /// The database refused a statement, or a row does not read as what was written.
    #[error("failed to use the database: {0}")]
    Failed(#[source] Arc<dyn std::error::Error + Send + Sync>),
    /// A schema could not be brought to the version this broker needs.
    #[error("failed to migrate {subject}: {source}")]
    Migrate {
        /// Whose schema.
        subject: String,
        /// What went wrong.
        #[source]
        source: Arc<dyn std::error::Error + Send + Sync>,
    },
    /// What was there is not any more, or cannot be read. It is not made anew: that would pass for an empty history.
    #[error("failed to use {subject}: {place} {fault}; restore it from a backup")]
    Damaged {
        /// Whose data.
        subject: String,
        /// The file or the schema.
        place: String,
        /// What is wrong with it.
        fault: &'static str,
    },
    /// The tenant is not in the catalogue.
    #[error("failed to find tenant {0}")]
    NoTenant(TenantSlug),
}

impl StoreError {
    /// Whether the database is not there, now or for a moment: trying later may help.
    pub fn is_unavailable(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Away | Self::Contended)
    }
}
