//! The store on Postgres: a schema a tenant, `tenant_<slug>`, and the catalogue in the schema `switchboard`.
//!
//! Any number of brokers may use one database. Each call is one statement with qualified names, but for commits that change
//! keys or messages, which are a transaction; so no call depends on what another left in a session. Connections are not encrypted; the server belongs on the broker's own network.

use async_trait::async_trait;

use crate::{Store, StoreError};

mod catalogue;
mod changes;
mod channels;
mod circuit;
mod commit;
mod connection;
mod keys;
mod members;
mod messages;
mod migrate;
mod permits;
mod pool;
mod rows;
mod statement;
mod tenants;

pub use connection::Options;

/// For `tests/fuzz`: the unquoted name of a tenant's schema.
#[cfg(feature = "fuzzing")]
pub fn schema_name(tenant: &switchboard_model::TenantSlug) -> String {
    connection::schema(tenant)
}

/// A pool of connections to a Postgres server.
pub struct Postgres {
    database: connection::Database,
}

impl Postgres {
    /// Connects to `postgres://user:password@host:port/name` and migrates the catalogue and every tenant. Brokers that
    /// start together take turns.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] names host and port, never the password, and comes within the bound.
    pub async fn open(url: &str, options: Options) -> Result<Self, StoreError> {
        let database = connection::Database::new(url, &options)?;
        migrate::everything(&database).await?;
        Ok(Self { database })
    }
}

#[async_trait]
impl Store for Postgres {
    async fn ping(&self) -> Result<(), StoreError> {
        self.database.catalogue("SELECT 1", &[]).await.map(drop)
    }
}
