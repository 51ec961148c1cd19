//! The hot path: the durable effects of a batch in one statement and one round trip. A batch that changes keys or
//! messages goes through `changes`, which runs this statement inside a transaction.
//!
//! A statement outside a transaction block is its own transaction. A caller that goes away cannot leave it half done,
//! and it locks the channels' rows only while it runs. Which events form a batch is decided elsewhere.

use super::Postgres;
use super::changes;
use super::connection::{unreadable, within};
use super::statement::{ATTEMPTS, Columns, lost_to_another, outcomes};
use crate::{Commit, CommitStore, Outcome, StoreError, answer};
use async_trait::async_trait;
use switchboard_model::TenantSlug;

#[async_trait]
impl CommitStore for Postgres {
    async fn commit(&self, tenant: &TenantSlug, batch: &[Commit]) -> Result<Vec<Outcome>, StoreError> {
        debug_assert!(answer::has_distinct_keys(batch), "a key stands twice in a batch");
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        if batch.iter().any(Commit::has_changes) {
            return changes::commit(&self.database, tenant, batch).await;
        }
        let batch: Vec<&Commit> = batch.iter().collect();
        let columns = Columns::of(&batch);
        let params = columns.params();
        let (template, params) = columns.statement(&params);
        let sql = within(tenant, template);
        let answer = self.database.bounded(Some(tenant), async {
            let mut answer = self.database.attempt(&sql, params).await;
            for _ in 1..ATTEMPTS {
                if !answer.as_ref().is_err_and(lost_to_another) {
                    break;
                }
                answer = self.database.attempt(&sql, params).await;
            }
            match answer {
                Ok(rows) => Ok(rows),
                Err(fault) => Err(self.database.tenant_error(tenant, fault).await),
            }
        });
        outcomes(&answer.await?, &batch).map_err(unreadable)
    }

    /// While the server waits for its disk with one batch, or for a lock, it works on another.
    fn batches_at_once(&self) -> usize {
        3
    }
}
