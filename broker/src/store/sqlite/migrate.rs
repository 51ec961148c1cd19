//! Makes the files and brings them to the version this broker needs.
//!
//! Everything here waits for disks and locks: it belongs on a blocking thread.

use std::fs::{self, DirBuilder, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::Instant;

use super::file::{BOUND, connect, explain};
use crate::model::TenantSlug;
use crate::store::StoreError;

mod catalogue {
    refinery::embed_migrations!("migrations/sqlite/catalog");
}

mod tenant {
    refinery::embed_migrations!("migrations/sqlite/tenant");
}

/// The catalogue's file.
pub(super) fn catalogue_path(folder: &Path) -> PathBuf {
    folder.join("catalog.db")
}

/// A tenant's file. A slug is a safe file name.
pub(super) fn tenant_path(folder: &Path, slug: &TenantSlug) -> PathBuf {
    folder.join("tenants").join(format!("{slug}.db"))
}

/// Makes the folders, for this user alone, and the catalogue in them.
pub(super) fn catalogue(folder: &Path) -> Result<(), StoreError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder.join("tenants"))
        .map_err(|error| no_file(folder, error))?;
    file(folder, &catalogue_path(folder), "the catalogue", catalogue::migrations::runner())
}

/// Makes a tenant's file, or migrates the one that is there.
pub(super) fn tenant(folder: &Path, slug: &TenantSlug) -> Result<(), StoreError> {
    file(folder, &tenant_path(folder, slug), &format!("tenant {slug}"), tenant::migrations::runner())
}

fn file(folder: &Path, path: &Path, subject: &str, runner: refinery::Runner) -> Result<(), StoreError> {
    let _turn = lock(folder)?;
    // The file is made here, since SQLite would make it readable for everyone; its log and index take its mode.
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(|error| no_file(path, error))?;
    let mut connection = connect(path).map_err(explain)?;
    connection.pragma_update(None, "journal_mode", "WAL").map_err(explain)?;
    let failed = |error| StoreError::Migrate { subject: subject.to_owned(), source: Box::new(error) };
    runner.run(&mut connection).map(drop).map_err(failed)
}

/// Makes migrations take turns, also those of other processes on the same folder. SQLite's own locks do not do: they
/// refuse at once when two switch a new file to its log, or when a reader finds that it has to write.
fn lock(folder: &Path) -> Result<fs::File, StoreError> {
    let path = folder.join("migrate.lock");
    let options = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).to_owned();
    let file = options.open(&path).map_err(|error| no_file(&path, error))?;
    let deadline = Instant::now() + BOUND;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(5)),
            Err(error) => return Err(no_file(&path, error.into())),
        }
    }
}

fn no_file(path: &Path, source: io::Error) -> StoreError {
    StoreError::Unavailable(Box::new(NoFile { path: path.to_owned(), source }))
}

#[derive(Debug, thiserror::Error)]
#[error("{}: {source}", path.display())]
struct NoFile {
    path: PathBuf,
    #[source]
    source: io::Error,
}
