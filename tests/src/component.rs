//! Components of the workspace's plugins, compiled as a test needs them.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use crate::process;

/// The path of a package's component. It is compiled when a test first asks for it.
///
/// # Panics
/// When it does not compile.
pub fn component(package: &'static str) -> String {
    static COMPILED: Mutex<BTreeMap<&'static str, String>> = Mutex::new(BTreeMap::new());
    // Others wait meanwhile, as they would for cargo's own lock.
    let mut compiled = COMPILED.lock().unwrap_or_else(PoisonError::into_inner);
    compiled.entry(package).or_insert_with(|| compile(package)).clone()
}

fn compile(package: &str) -> String {
    // Where the broker's own build puts the built-in ones: what they share is compiled once.
    let target = process::profile().with_file_name("plugins");
    let status = Command::new(env!("CARGO"))
        .args(["build", "--locked", "--package", package, "--profile", "plugin", "--target", "wasm32-wasip2"])
        .arg("--target-dir")
        .arg(&target)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()
        .expect("cargo runs");
    assert!(status.success(), "the plugin {package} compiles");
    let built = target.join("wasm32-wasip2/plugin").join(format!("{}.wasm", package.replace('-', "_")));
    built.into_os_string().into_string().expect("a path in UTF-8")
}
