//! The hot path: the durable effects of a batch of events, in one statement and one round trip. A batch with a commit that
//! changes keys or messages goes another way, `changes`, which runs this statement within a transaction.
//!
//! A statement outside a transaction block is a transaction. It cannot be left half done by a caller that goes away,
//! and it holds the channels' rows only while it runs. Nothing here decides which events make a batch.

use super::changes;
use super::connection::{Database, unreadable, within};
use super::statement::{ATTEMPTS, Columns, lost_to_another, outcomes};
use crate::{Commit, Outcome, StoreError, answer};
use switchboard_model::TenantSlug;

pub(super) async fn commit(
    database: &Database,
    tenant: &TenantSlug,
    batch: &[Commit],
) -> Result<Vec<Outcome>, StoreError> {
    debug_assert!(answer::has_distinct_keys(batch), "a key stands twice in a batch");
    if batch.is_empty() {
        return Ok(Vec::new());
    }
    if batch.iter().any(Commit::has_changes) {
        return changes::commit(database, tenant, batch).await;
    }
    let batch: Vec<&Commit> = batch.iter().collect();
    let columns = Columns::of(&batch);
    let params = columns.params();
    let (template, params) = columns.statement(&params);
    let sql = within(tenant, template);
    let answer = database.bounded(Some(tenant), async {
        let mut answer = database.attempt(&sql, params).await;
        for _ in 1..ATTEMPTS {
            if !answer.as_ref().is_err_and(lost_to_another) {
                break;
            }
            answer = database.attempt(&sql, params).await;
        }
        match answer {
            Ok(rows) => Ok(rows),
            Err(fault) => Err(database.tenant_error(tenant, fault).await),
        }
    });
    outcomes(&answer.await?, &batch).map_err(unreadable)
}
