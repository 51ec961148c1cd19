//! Compiled plugins that brokers under test hand on to each other.
//!
//! Compiling the built-in plugins takes longer than most tests. A broker finds in its data folder what an earlier one of
//! this target folder has compiled, named after content and compiler, so a change of either is compiled anew. Tests of
//! the start itself take no part. Should the broker keep its artefacts elsewhere one day, tests get slow, not wrong.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::{process, unique};

const FOLDER: &str = "compiled";

/// Bytes of an artefact that is handed on. A runtime of another language has many times as many, and each broker of each
/// test would copy it.
const LARGEST: u64 = 2 << 20;

/// Puts what earlier brokers compiled into a data folder. It may be many times what the broker itself needs, so it is not
/// for a small disk.
pub(crate) fn lend(data: &Path) {
    fs::create_dir_all(data).expect("the test's own folder is writable");
    // The first test of all finds nothing.
    let _ = copy_missing(&shared(), &data.join(FOLDER));
}

/// Keeps what a broker compiled into its data folder for later ones.
pub(crate) fn keep(data: &Path) {
    let _ = copy_missing(&data.join(FOLDER), &shared());
}

fn shared() -> PathBuf {
    process::program().with_file_name("tmp").join("switchboard-compiled")
}

/// Files appear whole or not at all, whoever else is copying.
fn copy_missing(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_missing(&entry.path(), &target)?;
        } else if entry.path().extension().is_some_and(|kind| kind == "cwasm")
            && entry.metadata()?.len() <= LARGEST
            && !target.exists()
        {
            let begun = to.join(format!("{}.part", unique()));
            fs::copy(entry.path(), &begun)?;
            fs::rename(&begun, &target)?;
        }
    }
    Ok(())
}
