//! Compiled plugins that brokers under test hand on to each other.
//!
//! Compiling the built-in plugins takes longer than most tests. A broker finds in its data folder what an earlier one of
//! this target folder has compiled, named after content and compiler, so a change of either is compiled anew. All of them
//! share the key that seals it. Tests of the start itself take no part. Should the broker keep its artefacts elsewhere one day, tests get slow, not wrong.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::{process, unique};

const FOLDER: &str = "compiled";

/// What brokers under test seal with. Whoever can write the target folder can change the broker itself.
const KEY: &[u8; 32] = b"the key of all brokers in tests.";

/// Bytes of an artefact that is copied where it cannot be linked to. A runtime of another language has many times as many.
const LARGEST: u64 = 2 << 20;

/// Puts what earlier brokers compiled into a data folder. It may be many times what the broker itself needs, so it is not
/// for a small disk. Brokers replace and remove artefacts, and write into none.
pub(crate) fn lend(data: &Path) {
    let compiled = data.join(FOLDER);
    let mut private = fs::DirBuilder::new();
    private.recursive(true).mode(0o700).create(&compiled).expect("the test's own folder is writable");
    fs::write(compiled.join("key"), KEY).expect("the test's own folder is writable");
    fs::set_permissions(compiled.join("key"), fs::Permissions::from_mode(0o600)).expect("the file is ours");
    // The first test of all finds nothing.
    let _ = share_missing(&shared(), &compiled);
}

/// Keeps what a broker compiled into its data folder for later ones.
pub(crate) fn keep(data: &Path) {
    let _ = share_missing(&data.join(FOLDER), &shared());
}

fn shared() -> PathBuf {
    process::program().with_file_name("tmp").join("switchboard-sealed")
}

/// Files appear whole or not at all, whoever else is at it.
fn share_missing(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            share_missing(&entry.path(), &target)?;
        } else if entry.path().extension().is_some_and(|kind| kind == "cwasm")
            && !target.exists()
            && fs::hard_link(entry.path(), &target).is_err()
            && entry.metadata()?.len() <= LARGEST
        {
            // On another disk, or someone else was quicker.
            let begun = to.join(format!("{}.part", unique()));
            fs::copy(entry.path(), &begun)?;
            fs::rename(&begun, &target)?;
        }
    }
    Ok(())
}
