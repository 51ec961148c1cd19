//! One database file: a writer, two readers, and the threads they work on.
//!
//! SQLite allows one write at a time, so one connection is for writing. The readers see the last commit and never wait
//! for a writer's fsync. Work runs on blocking threads and always to its end: a caller that goes away leaves either all
//! of it or nothing.

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

/// Concurrent reads of one file.
const READERS: usize = 2;

/// Prepared statements kept by a connection; there are about fifty.
const STATEMENTS: usize = 64;

/// Pages of 4 KiB in the write-ahead log before a checkpoint, which waits for the disk twice. Four times the default,
/// because a batch touches two pages for each message.
const CHECKPOINT_PAGES: u32 = 4_000;

#[derive(Clone)]
pub(super) struct File {
    writer: Connections,
    readers: Connections,
}

impl File {
    /// Opens nothing yet; connections are made on demand.
    pub(super) fn new(path: &Path) -> Self {
        Self { writer: Connections::new(path, 1), readers: Connections::new(path, READERS) }
    }

    /// Reads in one transaction, so from one moment.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.readers.run(TransactionBehavior::Deferred, work).await
    }

    /// Writes in one transaction: all of it, or nothing on an error. On return it is on the disk.
    pub(super) async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.writer.run(TransactionBehavior::Immediate, work).await
    }
}

/// Interchangeable connections, one for each permit. The work holds the permit, not its caller: a cancelled call frees
/// the connection only once its work is done.
#[derive(Clone)]
struct Connections {
    path: PathBuf,
    permits: Arc<Semaphore>,
    idle: Arc<Mutex<Vec<Connection>>>,
}

impl Connections {
    fn new(path: &Path, width: usize) -> Self {
        Self { path: path.to_owned(), permits: Arc::new(Semaphore::new(width)), idle: Arc::default() }
    }

    async fn run<T: Send + 'static>(
        &self,
        behavior: TransactionBehavior,
        work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let call = async {
            let permit = Arc::clone(&self.permits).acquire_owned().await.expect("a lane is never closed");
            let connections = self.clone();
            blocking(move || {
                let _permit = permit;
                connections.transact(behavior, work).map_err(explain)
            })
            .await
        };
        match timeout(BOUND, call).await {
            Ok(answer) => answer,
            Err(_) => Err(StoreError::Unavailable(Arc::new(NoAnswer(self.path.clone())))),
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
        // After an error the connection is closed instead, so that the next call starts with a clean one.
        self.idle.lock().push(connection);
        Ok(answer)
    }
}

/// Opens an existing file.
pub(super) fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let connection =
        Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(BOUND)?;
    // FULL: in WAL mode, anything less may lose acknowledged commits in a power failure.
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
    connection.pragma_update(None, "foreign_keys", true)?;
    // Without this, SQLite plans again for each new value wherever a partial index might apply, such as each commit's
    // key.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    Ok(connection)
}

/// Runs work that waits for a disk on a blocking thread.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(answer) => answer,
        Err(error) => Err(StoreError::Failed(Arc::new(error))),
    }
}

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
    if passing { StoreError::Unavailable(Arc::new(error)) } else { StoreError::Failed(Arc::new(error)) }
}

#[derive(Debug, thiserror::Error)]
#[error("{}: no answer within {BOUND:?}", .0.display())]
struct NoAnswer(PathBuf);
