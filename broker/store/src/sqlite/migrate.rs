//! Creates the files and migrates them to the version this broker needs.
//!
//! Everything here waits for disks and locks, so it belongs on a blocking thread.

use std::fs::{self, DirBuilder, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode};
use tokio::time::Instant;

use super::file::{BOUND, connect, explain};
use crate::StoreError;
use switchboard_model::TenantSlug;

mod catalogue {
    refinery::embed_migrations!("migrations/sqlite/catalog");
}

mod tenant {
    refinery::embed_migrations!("migrations/sqlite/tenant");
}

pub(super) fn catalogue_path(folder: &Path) -> PathBuf {
    folder.join("catalog.db")
}

/// A tenant's file. A slug is a safe file name, but there are file systems that do not tell capital letters apart.
pub(super) fn tenant_path(folder: &Path, slug: &TenantSlug) -> PathBuf {
    let mut name = String::new();
    for letter in slug.as_str().chars() {
        if letter.is_ascii_uppercase() {
            name.push('^');
        }
        name.push(letter.to_ascii_lowercase());
    }
    folder.join("tenants").join(name + ".db")
}

/// Creates the folders, private to this user, and the catalogue in them, or migrates an existing one. If there are
/// files of tenants, the catalogue must exist.
pub(super) fn catalogue(folder: &Path) -> Result<(), StoreError> {
    let tenants = folder.join("tenants");
    DirBuilder::new().recursive(true).mode(0o700).create(&tenants).map_err(|error| no_file(folder, error))?;
    let mut files = fs::read_dir(&tenants).map_err(|error| no_file(&tenants, error))?.flatten();
    let known = files.any(|file| file.path().extension().is_some_and(|kind| kind == "db"));
    file(folder, &catalogue_path(folder), "the catalogue", known, &catalogue::migrations::runner())
}

/// Creates a tenant's file, or takes over the one that an earlier attempt left behind.
pub(super) fn new_tenant(folder: &Path, slug: &TenantSlug) -> Result<(), StoreError> {
    tenant_file(folder, slug, false)
}

/// Migrates the file of a tenant in the catalogue.
pub(super) fn known_tenant(folder: &Path, slug: &TenantSlug) -> Result<(), StoreError> {
    tenant_file(folder, slug, true)
}

/// Removes the file of a tenant, and what SQLite keeps beside it.
pub(super) fn remove_tenant(folder: &Path, slug: &TenantSlug) -> Result<(), StoreError> {
    let _turn = lock(folder)?;
    let path = tenant_path(folder, slug);
    for suffix in ["", "-wal", "-shm"] {
        let mut name = path.clone().into_os_string();
        name.push(suffix);
        match fs::remove_file(&name) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(no_file(Path::new(&name), error)),
            _ => {}
        }
    }
    Ok(())
}

fn tenant_file(folder: &Path, slug: &TenantSlug, known: bool) -> Result<(), StoreError> {
    file(folder, &tenant_path(folder, slug), &format!("tenant {slug}"), known, &tenant::migrations::runner())
}

/// `known` means that the file must exist already.
fn file(folder: &Path, path: &Path, subject: &str, known: bool, runner: &refinery::Runner) -> Result<(), StoreError> {
    let _turn = lock(folder)?;
    let damaged = |fault| StoreError::Damaged { subject: subject.to_owned(), place: path.display().to_string(), fault };
    let explained = |error: rusqlite::Error| match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => damaged("is not a database, or is damaged"),
        _ => explain(error),
    };
    if !known {
        // Create the file here: SQLite would make it readable for everyone. Its log and index inherit the mode.
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600);
        options.open(path).map_err(|error| no_file(path, error))?;
    } else if !path.try_exists().map_err(|error| no_file(path, error))? {
        return Err(damaged("is missing"));
    }
    let mut connection = connect(path).map_err(explained)?;
    if known && !is_migrated(&connection).map_err(explained)? {
        return Err(damaged("is empty"));
    }
    connection.pragma_update(None, "journal_mode", "WAL").map_err(explained)?;
    let failed = |error| StoreError::Migrate { subject: subject.to_owned(), source: Arc::new(error) };
    runner.run(&mut connection).map(drop).map_err(failed)
}

/// Whether the file has the table that the first migration creates.
fn is_migrated(connection: &Connection) -> rusqlite::Result<bool> {
    let table = "SELECT EXISTS (SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'refinery_schema_history')";
    connection.query_row(table, [], |row| row.get(0))
}

/// Serializes migrations, including those of other processes on the same folder. SQLite's own locks do not suffice:
/// they fail at once when two switch a new file to WAL, or when a reader finds that it has to write.
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
    StoreError::Unavailable(Arc::new(NoFile { path: path.to_owned(), source }))
}

#[derive(Debug, thiserror::Error)]
#[error("{}: {source}", path.display())]
struct NoFile {
    path: PathBuf,
    #[source]
    source: io::Error,
}
