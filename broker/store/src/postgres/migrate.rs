//! Migrates the schemas to the version this broker needs, and creates new ones.
//!
//! This uses a connection of its own outside the pool, because it sets the search path and holds a lock for the life of
//! the session.

use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_postgres::{Client, NoTls};

use super::connection::{Database, Fault, schema};
use crate::StoreError;
use switchboard_model::{Tenant, TenantSlug, Timestamp};

mod catalogue {
    refinery::embed_migrations!("migrations/postgres/catalog");
}

mod tenant {
    refinery::embed_migrations!("migrations/postgres/tenant");
}

/// The advisory lock for creating and changing schemas, one at a time in the whole database.
const LOCK: i64 = i64::from_be_bytes(*b"switchbd");

/// How long a starting node waits while another one migrates, or for a table in use.
const WAIT: &str = "60s";

/// Migrates the catalogue and then every tenant in it. Reaching the server is bounded; migrating is not, because only
/// the operator knows how long an index takes to build.
pub(super) async fn everything(database: &Database) -> Result<(), StoreError> {
    let mut session = Session::open(database).await?;
    let settings = format!("SET statement_timeout = 0; SET lock_timeout = '{WAIT}'");
    session.client.batch_execute(&settings).await.map_err(|error| database.error(error.into()))?;
    session.lock(database).await?;
    session.migrate("switchboard", catalogue::migrations::runner()).await?;
    let rows = session.client.query("SELECT slug FROM switchboard.tenant ORDER BY slug", &[]).await;
    for row in rows.map_err(|error| database.error(error.into()))? {
        let slug: TenantSlug = row.try_get(0).map_err(super::connection::unreadable)?;
        let schema = schema(&slug);
        if session.has(&schema).await.map_err(|error| database.error(error.into()))? {
            session.migrate(&schema, tenant::migrations::runner()).await?;
        } else {
            // Created again, it would pass for a tenant without history.
            let (subject, place) = (format!("tenant {slug}"), format!("schema {schema}"));
            let error = StoreError::Damaged { subject, place, fault: "is missing" };
            tracing::error!(%error, "skipped a tenant");
        }
    }
    Ok(())
}

/// Creates a tenant's schema, then its row in the catalogue. A crash in between leaves a schema that nobody can reach
/// and that the next attempt takes over.
pub(super) async fn create_tenant(
    database: &Database,
    slug: &TenantSlug,
    external_id: Option<&str>,
    at: Timestamp,
) -> Result<Option<Tenant>, StoreError> {
    let mut session = Session::open(database).await?;
    session.lock(database).await?;
    let taken = session.client.query("SELECT FROM switchboard.tenant WHERE slug = $1", &[slug]).await;
    if !taken.map_err(|error| database.error(error.into()))?.is_empty() {
        return Ok(None);
    }
    session.migrate(&schema(slug), tenant::migrations::runner()).await?;
    let insert = "INSERT INTO switchboard.tenant (slug, external_id, created_at) VALUES ($1, $2, $3)";
    session.client.execute(insert, &[slug, &external_id, &at]).await.map_err(|error| database.error(error.into()))?;
    Ok(Some(Tenant {
        slug: slug.clone(),
        external_id: external_id.map(str::to_owned),
        enabled: true,
        created_at: at,
        tokens_since: None,
        revision: 0,
    }))
}

/// Deletes a tenant's row and its schema in one transaction. How long that takes depends on the data, so it is not bounded.
pub(super) async fn delete_tenant(database: &Database, slug: &TenantSlug) -> Result<bool, StoreError> {
    let session = Session::open(database).await?;
    session.lock(database).await?;
    let failed = |error: tokio_postgres::Error| database.error(error.into());
    session.client.batch_execute("SET statement_timeout = 0; BEGIN").await.map_err(failed)?;
    let gone = session.client.execute("DELETE FROM switchboard.tenant WHERE slug = $1", &[slug]).await;
    if gone.map_err(failed)? == 0 {
        return Ok(false);
    }
    // A tenant of the same name that is created later begins without what was decided for this one.
    let decided = "WITH gone AS (DELETE FROM switchboard.plugin_entry WHERE scope = $1)
                   UPDATE switchboard.plugin_catalogue SET revision = revision + 1";
    session.client.execute(decided, &[&slug.as_str()]).await.map_err(failed)?;
    let drop = format!("DROP SCHEMA IF EXISTS \"{}\" CASCADE; COMMIT", schema(slug));
    session.client.batch_execute(&drop).await.map_err(failed)?;
    Ok(true)
}

/// A connection for migrations. Dropping it closes it and releases the lock.
struct Session {
    client: Client,
    link: JoinHandle<()>,
}

impl Session {
    async fn open(database: &Database) -> Result<Self, StoreError> {
        let connected = timeout(database.bound, database.config.connect(NoTls)).await;
        let (client, connection) = connected
            .map_err(|_| database.error(Fault::NoAnswer(database.bound)))?
            .map_err(|error| database.error(error.into()))?;
        // Whatever ends the connection also fails the statement waiting on it, where the error is handled.
        let link = tokio::spawn(async move { drop(connection.await) });
        Ok(Self { client, link })
    }

    async fn lock(&self, database: &Database) -> Result<(), StoreError> {
        let taken = self.client.execute("SELECT pg_advisory_lock($1)", &[&LOCK]).await;
        taken.map(drop).map_err(|error| database.error(error.into()))
    }

    async fn has(&self, schema: &str) -> Result<bool, tokio_postgres::Error> {
        let found = "SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1)";
        self.client.query_one(found, &[&schema]).await?.try_get(0)
    }

    async fn migrate(&mut self, schema: &str, runner: refinery::Runner) -> Result<(), StoreError> {
        let failed = |source| StoreError::Migrate { subject: format!("schema {schema}"), source };
        let enter = format!(
            "SET client_min_messages = warning; CREATE SCHEMA IF NOT EXISTS \"{schema}\"; \
             SET search_path TO \"{schema}\""
        );
        self.client.batch_execute(&enter).await.map_err(|error| failed(std::sync::Arc::new(Fault::from(error))))?;
        runner.run_async(&mut self.client).await.map(drop).map_err(|error| failed(std::sync::Arc::new(error)))
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.link.abort();
    }
}
