//! One database file: a writer and two readers, and the threads they work on.
//!
//! SQLite lets one write at a time, so there is one connection for it; the readers see the last commit and never wait
//! for a writer's fsync. Work runs on blocking threads and always runs to its end: a caller that goes away leaves
//! either all of it or nothing.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags, Transaction, TransactionBehavior};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::StoreError;

/// How long a call may take, and how long it waits for another process that is writing.
pub(super) const BOUND: Duration = Duration::from_secs(4);

/// How many reads of one file go on at once.
const READERS: usize = 2;

/// How many prepared statements a connection keeps; there are about fifty.
const STATEMENTS: usize = 64;

/// How many pages of 4 KiB the log holds before they are written to the file, which waits for the disk twice. Four times
/// what is usual: a batch touches two pages a message.
const CHECKPOINT_PAGES: u32 = 4_000;

/// A file and the connections to it.
#[derive(Clone)]
pub(super) struct File {
    writer: Lane,
    readers: Lane,
}

impl File {
    /// Names the file. Connections are made when they are first needed.
    pub(super) fn new(path: &Path) -> Self {
        Self { writer: Lane::new(path, 1), readers: Lane::new(path, READERS) }
    }

    /// Reads, all of it from one moment.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.readers.run(TransactionBehavior::Deferred, work).await
    }

    /// Writes, all of it or, on an error, nothing. What is returned is on the disk.
    pub(super) async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.writer.run(TransactionBehavior::Immediate, work).await
    }
}

/// Connections that do the same, as many as there are turns. The turn is held by the work, not by its caller, so that
/// a cancelled call frees the connection when the work is done and no sooner.
#[derive(Clone)]
struct Lane {
    path: PathBuf,
    turns: Arc<Semaphore>,
    idle: Arc<Mutex<Vec<Connection>>>,
}

impl Lane {
    fn new(path: &Path, width: usize) -> Self {
        Self { path: path.to_owned(), turns: Arc::new(Semaphore::new(width)), idle: Arc::default() }
    }

    async fn run<T: Send + 'static>(
        &self,
        behavior: TransactionBehavior,
        work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let call = async {
            let turn = Arc::clone(&self.turns).acquire_owned().await.expect("a lane is never closed");
            let lane = self.clone();
            blocking(move || {
                let _turn = turn;
                lane.transact(behavior, work).map_err(explain)
            })
            .await
        };
        match timeout(BOUND, call).await {
            Ok(answer) => answer,
            Err(_) => Err(StoreError::Unavailable(Box::new(NoHostData(self.path.clone())))),
        }
    }

    fn transact<T>(
        &self,
        behavior: TransactionBehavior,
        work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<T> {
        let idle = self.idle.lock().pop();
        let mut connection = match idle {
            Some(connection) => connection,
            None => connect(&self.path)?,
        };
        let transaction = connection.transaction_with_behavior(behavior)?;
        let answer = work(&transaction)?;
        transaction.commit()?;
        // After an error the connection is not put back but closed: the next call starts from a clean one.
        self.idle.lock().push(connection);
        Ok(answer)
    }
}

/// Opens a file that exists.
pub(super) fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let connection =
        Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(BOUND)?;
    // FULL: in WAL mode anything less may lose acknowledged commits when the power goes.
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
    connection.pragma_update(None, "foreign_keys", true)?;
    // Without it SQLite makes a new plan for each new value, wherever a partial index could serve: each commit's key.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    Ok(connection)
}

/// Runs work that waits for a disk on a thread that may wait.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(answer) => answer,
        Err(error) => Err(StoreError::Failed(Box::new(error))),
    }
}

/// What to say of an error of SQLite.
pub(super) fn explain(error: rusqlite::Error) -> StoreError {
    let passing = matches!(
        error.sqlite_error_code(),
        Some(
            ErrorCode::DatabaseBusy
                | ErrorCode::DatabaseLocked
                | ErrorCode::CannotOpen
                | ErrorCode::DiskFull
                | ErrorCode::SystemIoFailure
        )
    );
    if passing { StoreError::Unavailable(Box::new(error)) } else { StoreError::Failed(Box::new(error)) }
}

#[derive(Debug, thiserror::Error)]
#[error("{}: no answer within {BOUND:?}", .0.display())]
struct NoHostData(PathBuf);
