//! Connections that are kept open, each with the statements it has prepared.

use deadpool::managed::{self, Metrics, QueueMode, RecycleError, RecycleResult};
use hashlink::LruCache;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio_postgres::{Client, Config, Error, NoTls, Statement};
use tokio_util::task::AbortOnDropHandle;

/// How many prepared statements a connection keeps. A tenant's are its own, ten or so for one that is active, so those of about
/// 60 active tenants stay prepared; beyond it those used longest ago go. The server's process keeps some 200 KiB for each,
/// plan and catalogue included (`a_connections_statements_are_bounded_and_the_used_ones_stay_on_postgres` prints it), so it is
/// its memory that this bounds.
pub(super) const STATEMENTS: usize = 750;

pub(super) type Pool = managed::Pool<Connections>;
pub(super) type PoolError = managed::PoolError<Error>;
pub(super) type Pooled = managed::Object<Connections>;

/// A pool that makes its first connection when somebody needs one.
pub(super) fn pool(config: Config, connections: usize, statements: usize) -> Pool {
    Pool::builder(Connections { config, statements, runtime: Handle::current() })
        .max_size(connections)
        // Whoever comes next gets the connection that was used last: a quiet broker prepares its statements on a few.
        .queue_mode(QueueMode::Lifo)
        .build()
        .expect("a pool without time limits of its own needs no runtime")
}

/// Makes connections, on the runtime on which the store was opened. Whoever needs one first may be on another one, as a read of
/// a slow plugin is: there it would be served late, and end with that runtime.
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
        metrics::counter!("switchboard_database_prepared_total").increment(1);
        // The server is told to forget what is dropped here.
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
            // The runtime ends, and with it whoever waits here.
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
