//! The catalogue of plugins, its audit, and node statuses.

use async_trait::async_trait;
use switchboard_model::catalogue::{Audit, Catalogue, Change, NodeReport};
use switchboard_model::{Digest, Timestamp};

use crate::StoreError;

/// The catalogue of plugins, its audit, and node statuses.
#[async_trait]
pub trait CatalogueStore: Send + Sync + 'static {
    /// The number of the last change; 0 if there was none. It is cheap: every node calls it once a second.
    async fn catalogue_revision(&self) -> Result<u64, StoreError>;

    /// All entries, as of one moment.
    async fn catalogue(&self) -> Result<Catalogue, StoreError>;

    /// The bytes of a component.
    async fn artefact(&self, digest: &Digest) -> Result<Option<Vec<u8>>, StoreError>;

    /// Changes the catalogue if it is still at a revision, and returns the new revision. `None`: it is not, and nothing was
    /// changed. A change of only the audit is recorded at any revision, and leaves the revision unchanged. A component that
    /// is already stored stays unchanged.
    ///
    /// # Errors
    /// [`StoreError::Failed`] if a version or a generation to add already exists; nothing was changed.
    async fn change_catalogue(&self, at: u64, change: &Change) -> Result<Option<u64>, StoreError>;

    /// Lines of the audit, latest first, starting before a number.
    async fn audit(&self, before: Option<u64>, limit: u32) -> Result<Vec<Audit>, StoreError>;

    /// Records a node status, which replaces the previous one of the node.
    async fn report_node(&self, report: &NodeReport) -> Result<(), StoreError>;

    /// The node statuses since a time, by name. Older ones may be gone.
    async fn nodes(&self, since: Timestamp) -> Result<Vec<NodeReport>, StoreError>;
}
