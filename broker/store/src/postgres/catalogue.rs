//! Which tenants there are. What is theirs is none of this file's business.

use super::connection::{Database, unreadable};
use super::rows;
use crate::StoreError;
use switchboard_model::{Tenant, TenantSlug};

pub(super) async fn find(database: &Database, slug: &TenantSlug) -> Result<Option<Tenant>, StoreError> {
    let sql = "SELECT slug, external_id, enabled, created_at FROM switchboard.tenant WHERE slug = $1";
    let found = database.catalogue(sql, &[slug]).await?;
    found.first().map(rows::tenant).transpose().map_err(unreadable)
}

pub(super) async fn find_by_external_id(database: &Database, id: &str) -> Result<Option<Tenant>, StoreError> {
    let sql = "SELECT slug, external_id, enabled, created_at FROM switchboard.tenant WHERE external_id = $1";
    let found = database.catalogue(sql, &[&id]).await?;
    found.first().map(rows::tenant).transpose().map_err(unreadable)
}

pub(super) async fn all(database: &Database) -> Result<Vec<Tenant>, StoreError> {
    let sql = "SELECT slug, external_id, enabled, created_at FROM switchboard.tenant ORDER BY slug";
    let found = database.catalogue(sql, &[]).await?;
    found.iter().map(rows::tenant).collect::<Result<_, _>>().map_err(unreadable)
}

pub(super) async fn set_enabled(database: &Database, slug: &TenantSlug, enabled: bool) -> Result<bool, StoreError> {
    let sql = "UPDATE switchboard.tenant SET enabled = $2 WHERE slug = $1 RETURNING slug";
    Ok(!database.catalogue(sql, &[slug, &enabled]).await?.is_empty())
}
