//! Looks up what commands name in the store. If it does not exist, the error says how to create it.

use std::sync::Arc;

use anyhow::{Context, Result, bail};

use crate::broker::open_store;
use crate::config::Config;
use crate::model::{Tenant, TenantSlug, User, Username};
use crate::store::Store;

/// Opens the store and finds a tenant in it.
pub(super) async fn tenant_in_store(config: &Config, slug: &TenantSlug) -> Result<(Arc<dyn Store>, Tenant)> {
    let store = open_store(&config.data).await?;
    match store.tenant(slug).await? {
        Some(tenant) => Ok((store, tenant)),
        None => bail!("there is no tenant `{slug}`; `switchboard tenant create {slug}` creates it"),
    }
}

/// Finds a member of a tenant.
pub(super) async fn member(store: &dyn Store, tenant: &TenantSlug, username: &Username) -> Result<User> {
    let found = store.credentials(tenant, username).await?;
    found.map(|credentials| credentials.user).with_context(|| {
        format!(
            "tenant `{tenant}` has no member `{username}`; `switchboard user create {tenant} {username}` creates it"
        )
    })
}
