//! Components of the workspace's plugins, compiled as a test needs them.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use crate::process;

/// The path of the component of a plugin in `tests/plugins` or `plugins/examples`. It is compiled when a test first asks
/// for it.
///
/// # Panics
/// When it does not compile.
pub fn plugin(package: &'static str) -> &'static str {
    compiled(package, None)
}

/// The same with a cargo feature, as another version of the plugin.
///
/// # Panics
/// When it does not compile.
pub fn plugin_with(package: &'static str, feature: &'static str) -> &'static str {
    compiled(package, Some(feature))
}

fn compiled(package: &'static str, feature: Option<&'static str>) -> &'static str {
    type Known = BTreeMap<(&'static str, Option<&'static str>), &'static str>;
    static COMPILED: Mutex<Known> = Mutex::new(BTreeMap::new());
    // Others wait meanwhile, as they would for cargo's own lock.
    let mut known = COMPILED.lock().unwrap_or_else(PoisonError::into_inner);
    known.entry((package, feature)).or_insert_with(|| compile(package, feature).leak())
}

fn compile(package: &str, feature: Option<&str>) -> String {
    // Where the broker's own build puts the built-in ones: what they share is compiled once.
    let target = process::profile().with_file_name("plugins");
    let status = Command::new(env!("CARGO"))
        .args(["build", "--locked", "--package", package, "--profile", "plugin", "--target", "wasm32-wasip2"])
        .args(feature.map(|feature| format!("--features={feature}")))
        .arg("--target-dir")
        .arg(&target)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()
        .expect("cargo runs");
    assert!(status.success(), "the plugin {package} compiles");
    let built = target.join("wasm32-wasip2/plugin").join(format!("{}.wasm", package.replace('-', "_")));
    // The next build of the package, with another feature or none, takes the place of this one.
    let folder = target.join("for-tests");
    let kept = folder.join(format!("{package}{}.wasm", feature.map(|name| format!("-{name}")).unwrap_or_default()));
    std::fs::create_dir_all(&folder).expect("the target folder is writable");
    std::fs::copy(&built, &kept).expect("the target folder is writable");
    kept.into_os_string().into_string().expect("a path in UTF-8")
}
