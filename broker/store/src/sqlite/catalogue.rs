//! Which tenants there are. What is theirs is none of this file's business.

use rusqlite::{Connection, OptionalExtension, Result, params};

use super::rows;
use switchboard_model::{Tenant, TenantSlug};

pub(super) fn insert(db: &Connection, tenant: &Tenant) -> Result<()> {
    let sql = "INSERT INTO tenant (slug, external_id, enabled, created_at) VALUES (?1, ?2, ?3, ?4)";
    db.execute(sql, params![tenant.slug, tenant.external_id, tenant.enabled, tenant.created_at]).map(drop)
}

pub(super) fn find(db: &Connection, slug: &TenantSlug) -> Result<Option<Tenant>> {
    let sql = "SELECT slug, external_id, enabled, created_at FROM tenant WHERE slug = ?1";
    db.prepare_cached(sql)?.query_row([slug], rows::tenant).optional()
}

pub(super) fn find_by_external_id(db: &Connection, id: &str) -> Result<Option<Tenant>> {
    let sql = "SELECT slug, external_id, enabled, created_at FROM tenant WHERE external_id = ?1";
    db.prepare_cached(sql)?.query_row([id], rows::tenant).optional()
}

pub(super) fn all(db: &Connection) -> Result<Vec<Tenant>> {
    let sql = "SELECT slug, external_id, enabled, created_at FROM tenant ORDER BY slug";
    db.prepare_cached(sql)?.query_map([], rows::tenant)?.collect()
}

pub(super) fn set_enabled(db: &Connection, slug: &TenantSlug, enabled: bool) -> Result<bool> {
    let changed = db.execute("UPDATE tenant SET enabled = ?2 WHERE slug = ?1", params![slug, enabled])?;
    Ok(changed == 1)
}
