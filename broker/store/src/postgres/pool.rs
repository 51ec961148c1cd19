//! The pool: open connections, each with the statements it has prepared.
//!
//! A statement is prepared once on each connection and kept in a bounded LRU cache. Connections are created on demand
//! and reused last in, first out, so a quiet broker keeps its statements on few of them.
//!
//! The pool bounds connections and statements. It does not bound waiting; `places` and the caller's timeout do.
//!
//! Invariant: every connection is driven on the runtime that opened the store, whoever asked for it. A connection that
//! is closed is never handed out again.
//!
//! Start with [`Connections`].

use deadpool::managed::{self, Metrics, QueueMode, RecycleError, RecycleResult};
use hashlink::LruCache;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio_postgres::{Client, Config, Error, NoTls, Statement};
use tokio_util::task::AbortOnDropHandle;

/// Prepared statements kept by a connection. Each active tenant has about ten of its own, so those of about 60 tenants
/// stay prepared. The server process uses some 200 KiB for each, plan and catalogue included (printed by
/// `a_connections_statements_are_bounded_and_the_used_ones_stay_on_postgres`), so this bounds its memory.
pub(super) const STATEMENTS: usize = 750;

pub(super) type Pool = managed::Pool<Connections>;
pub(super) type PoolError = managed::PoolError<Error>;
pub(super) type Pooled = managed::Object<Connections>;

/// A pool that connects on demand.
pub(super) fn pool(config: Config, connections: usize, statements: usize) -> Pool {
    Pool::builder(Connections { config, statements, runtime: Handle::current() })
        .max_size(connections)
        // Last in, first out: a quiet broker prepares its statements on few connections.
        .queue_mode(QueueMode::Lifo)
        .build()
        .expect("a pool without time limits of its own needs no runtime")
}

/// Creates connections on the runtime that opened the store. The caller may run on another one, such as the background
/// runtime of plugins; there, the connection would be driven late and end with that runtime.
#[derive(Debug)]
pub(super) struct Connections {
    config: Config,
    statements: usize,
    runtime: Handle,
}

/// A connection to the server. Dropping it closes it.
#[derive(Debug)]
pub(super) struct Connection {
    client: Client,
    prepared: Mutex<LruCache<String, Statement>>,
    _driving: AbortOnDropHandle<()>,
}

impl Connection {
    /// A statement that the server has parsed and keeps for this connection.
    pub(super) async fn prepare(&self, sql: &str) -> Result<Statement, Error> {
        if let Some(known) = self.prepared.lock().get(sql) {
            return Ok(known.clone());
        }
        let statement = self.client.prepare(sql).await?;
        switchboard_metrics::DATABASE_PREPARED.handle().increment(1);
        // Dropping an evicted statement also closes it on the server.
        self.prepared.lock().insert(sql.to_owned(), statement.clone());
        Ok(statement)
    }
}

impl std::ops::Deref for Connection {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl managed::Manager for Connections {
    type Type = Connection;
    type Error = Error;

    async fn create(&self) -> Result<Connection, Error> {
        let (config, runtime) = (self.config.clone(), self.runtime.clone());
        let connecting = AbortOnDropHandle::new(self.runtime.spawn(async move {
            let (client, connection) = config.connect(NoTls).await?;
            let driving = runtime.spawn(async move {
                if let Err(error) = connection.await {
                    tracing::debug!(%error, "a connection to the database ended");
                }
            });
            Ok((client, AbortOnDropHandle::new(driving)))
        }));
        match connecting.await {
            Ok(connected) => {
                let (client, driving) = connected?;
                let prepared = Mutex::new(LruCache::new(self.statements));
                Ok(Connection { client, prepared, _driving: driving })
            }
            // The runtime is shutting down, and this caller with it.
            Err(_) => std::future::pending().await,
        }
    }

    async fn recycle(&self, connection: &mut Connection, _: &Metrics) -> RecycleResult<Error> {
        if connection.client.is_closed() {
            return Err(RecycleError::message("it is closed"));
        }
        Ok(())
    }
}
