//! Components of the workspace's plugins, compiled as a test needs them.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread;

use wasm_encoder::{
    CodeSection, ComponentSection, Function, FunctionSection, Module, ModuleSection, TypeSection, ValType,
};

use crate::process;

/// The path of the component of a plugin in `tests/plugins` or `plugins/examples`. It is compiled when a test first asks
/// for it.
///
/// # Panics
/// When it does not compile.
pub fn plugin(package: &'static str) -> &'static str {
    compiled(package, Build::default())
}

/// The same with a cargo feature, as another version of the plugin.
///
/// # Panics
/// When it does not compile.
pub fn plugin_with(package: &'static str, feature: &'static str) -> &'static str {
    compiled(package, Build { feature: Some(feature), names: false })
}

/// The same with the names of its functions, as the manual tells authors to build it.
///
/// # Panics
/// When it does not compile.
pub fn plugin_with_names(package: &'static str) -> &'static str {
    compiled(package, Build { feature: None, names: true })
}

/// Has the broker's program compile a component as a broker does, within so many bytes of memory and seconds of a
/// processor. How it ended, and how many bytes of machine code came of it.
///
/// # Panics
/// When the program does not start.
pub fn compile_within(component: &[u8], memory: u64, seconds: u64) -> (ExitStatus, usize) {
    let mut child = Command::new(process::program())
        .args(["compile-plugin", "--seconds", &seconds.to_string(), "--memory", &memory.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the broker's program starts");
    let mut stdin = child.stdin.take().expect("it is piped");
    let output = thread::scope(|scope| {
        // It may end before it has read all.
        scope.spawn(move || stdin.write_all(component));
        child.wait_with_output().expect("it was started")
    });
    (output.status, output.stdout.len())
}

/// A component with a core module beside the others that nothing uses and that takes long to compile: so many functions,
/// each of ten thousand steps.
///
/// # Panics
/// When there is no such file.
pub fn with_much_code(component: &str, functions: u32) -> Vec<u8> {
    let mut steps = Function::new([(1, ValType::I32)]);
    for step in 0..2_500 {
        steps.instructions().local_get(1).i32_const(step).i32_add().local_set(0).local_get(0).i32_const(7).i32_mul();
        steps.instructions().local_set(1);
    }
    steps.instructions().local_get(1).end();
    let (mut types, mut declared, mut code) = (TypeSection::new(), FunctionSection::new(), CodeSection::new());
    types.ty().function([ValType::I32], [ValType::I32]);
    for _ in 0..functions {
        declared.function(0);
        code.function(&steps);
    }
    let mut module = Module::new();
    module.section(&types).section(&declared).section(&code);
    let mut bytes = std::fs::read(component).unwrap_or_else(|error| panic!("{component}: {error}"));
    ModuleSection(&module).append_to_component(&mut bytes);
    bytes
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Build {
    feature: Option<&'static str>,
    names: bool,
}

fn compiled(package: &'static str, build: Build) -> &'static str {
    type Known = BTreeMap<(&'static str, Build), &'static str>;
    static COMPILED: Mutex<Known> = Mutex::new(BTreeMap::new());
    // Others wait meanwhile, as they would for cargo's own lock.
    let mut known = COMPILED.lock().unwrap_or_else(PoisonError::into_inner);
    known.entry((package, build)).or_insert_with(|| compile(package, build).leak())
}

fn compile(package: &str, build: Build) -> String {
    // Where the broker's own build puts the built-in ones: what they share is compiled once.
    let target = process::profile().with_file_name("plugins");
    let status = Command::new(env!("CARGO"))
        .args(["build", "--locked", "--package", package, "--profile", "plugin", "--target", "wasm32-wasip2"])
        .args(build.feature.map(|feature| format!("--features={feature}")))
        .args(build.names.then_some("--config=profile.plugin.strip='debuginfo'"))
        .arg("--target-dir")
        .arg(&target)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        // Set by tests/run for its own sake; build scripts of dependencies would look at it and be compiled anew.
        .env_remove("RUSTC_BOOTSTRAP")
        .status()
        .expect("cargo runs");
    assert!(status.success(), "the plugin {package} compiles");
    let built = target.join("wasm32-wasip2/plugin").join(format!("{}.wasm", package.replace('-', "_")));
    // The next build of the package, with another feature or none, takes the place of this one.
    let folder = target.join("for-tests");
    let variant = build.feature.map(|name| format!("-{name}")).unwrap_or_default();
    let kept = folder.join(format!("{package}{variant}{}.wasm", if build.names { "-named" } else { "" }));
    std::fs::create_dir_all(&folder).expect("the target folder is writable");
    std::fs::copy(&built, &kept).expect("the target folder is writable");
    kept.into_os_string().into_string().expect("a path in UTF-8")
}
