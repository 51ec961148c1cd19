//! Lists the files for `switchboard plugin new`: the SDK, the contract and the plugins that a new one is copied from.
//!
//! It writes `kit.rs` to `OUT_DIR`, with the path below the workspace and the text of each file. All of them are text.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// Folders and files below the workspace. Build results in a folder are left out.
const PARTS: [&str; 7] = [
    "Cargo.toml",
    "plugin-sdk/Cargo.toml",
    "plugin-sdk/src",
    "plugins/examples/shout",
    "plugins/examples/shout-js",
    "plugins/examples/shout-py",
    "wit/0.1.0",
];

/// Names of what builds and tests leave in a plugin's folder.
const LEFT_BY_BUILDS: [&str; 5] = ["__pycache__", "dist", "node_modules", "target", "venv"];

/// Writes the list.
pub(super) fn embed(workspace: &Path, out: &Path) -> Result<(), String> {
    let mut source = String::from("/// Files of the workspace: the path of each and its text.\n");
    source.push_str("pub static KIT: &[(&str, &str)] = &[\n");
    for part in PARTS {
        println!("cargo::rerun-if-changed={}", workspace.join(part).display());
        for file in files(&workspace.join(part))? {
            let name = file.strip_prefix(workspace).map_err(|error| error.to_string())?;
            let path = fs::canonicalize(&file).map_err(|error| super::failed("find", &file, &error))?;
            let _ = writeln!(source, "    ({:?}, include_str!({:?})),", name.display(), path.display());
        }
    }
    source.push_str("];\n");
    let list = out.join("kit.rs");
    fs::write(&list, source).map_err(|error| super::failed("write", &list, &error))
}

/// A file, or all files of a folder and its subfolders, in the order of their names.
fn files(path: &Path) -> Result<Vec<PathBuf>, String> {
    if path.is_file() {
        return Ok(vec![path.to_owned()]);
    }
    let failed = |error| super::failed("list", path, &error);
    let mut found = Vec::new();
    for entry in fs::read_dir(path).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if !LEFT_BY_BUILDS.iter().any(|name| entry.file_name() == *name) {
            found.extend(files(&entry.path())?);
        }
    }
    found.sort();
    Ok(found)
}
