//! Compiles the built-in plugins, which are the packages directly below `plugins/`, to components for the broker to embed.
//!
//! It writes `builtin.rs` to `OUT_DIR`, with the name and the bytes of each. It runs again only if a plugin, the SDK, the
//! contract or a dependency changes, and must not write anything outside the target folder.

#[path = "build/kit.rs"]
mod kit;

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

const TARGET: &str = "wasm32-wasip2";
const PROFILE: &str = "plugin";
/// The magic number, and the version and layer that distinguish a component from a module.
const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";

fn main() -> ExitCode {
    match embed_plugins() {
        Ok(()) => ExitCode::SUCCESS,
        Err(line) => {
            println!("cargo::error={line}");
            ExitCode::FAILURE
        }
    }
}

fn embed_plugins() -> Result<(), String> {
    let workspace = folder("CARGO_MANIFEST_DIR")?.join("../..");
    let out = folder("OUT_DIR")?;
    let plugins = names(&workspace.join("plugins"))?;
    // Adding or removing a plugin changes Cargo.lock. The examples do not affect this build.
    let sources = plugins.iter().map(|name| format!("plugins/{name}"));
    for input in sources.chain(["plugin-sdk/src", "wit", "Cargo.lock"].map(str::to_owned)) {
        println!("cargo::rerun-if-changed={}", workspace.join(input).display());
    }
    require_target()?;
    let target_folder = target_folder(&out)?.join("plugins");
    compile(&workspace, &plugins, &target_folder)?;

    let mut source = String::from("/// The built-in handlers: the name of each and its component.\n");
    source.push_str("pub static BUILTIN: &[(&str, &[u8])] = &[\n");
    for name in &plugins {
        let built = target_folder.join(TARGET).join(PROFILE).join(format!("{}.wasm", name.replace('-', "_")));
        let embedded = out.join(format!("{name}.wasm"));
        let bytes = fs::read(&built).map_err(|error| failed("read", &built, &error))?;
        if !bytes.starts_with(COMPONENT) {
            return Err(format!("{} is not a component", built.display()));
        }
        fs::write(&embedded, bytes).map_err(|error| failed("write", &embedded, &error))?;
        let _ = writeln!(source, "    ({name:?}, include_bytes!(concat!(env!(\"OUT_DIR\"), \"/{name}.wasm\"))),");
    }
    source.push_str("];\n");
    let list = out.join("builtin.rs");
    fs::write(&list, source).map_err(|error| failed("write", &list, &error))?;
    kit::embed(&workspace, &out)
}

/// The packages directly below `plugins/`, each named like its folder.
fn names(plugins: &Path) -> Result<Vec<String>, String> {
    let entries = fs::read_dir(plugins).map_err(|error| failed("list", plugins, &error))?;
    let mut names: Vec<String> = entries
        .filter_map(Result::ok)
        .filter(|entry| entry.path().join("Cargo.toml").is_file())
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    Ok(names)
}

/// Ensures that the toolchain of this build has the standard library for components.
fn require_target() -> Result<(), String> {
    if has_target()? {
        return Ok(());
    }
    // Rustup tells child processes which toolchain it runs, so this adds the target to the one that compiles the broker.
    let added = Command::new("rustup").args(["target", "add", TARGET]).stdout(Stdio::null()).status();
    if added.is_ok_and(|status| status.success()) && has_target()? {
        return Ok(());
    }
    Err(format!("the plugins need the target {TARGET}, which this toolchain lacks; run: rustup target add {TARGET}"))
}

fn has_target() -> Result<bool, String> {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let asked = Command::new(rustc).args(["--print", "target-libdir", "--target", TARGET]).output();
    let answer = asked.map_err(|error| format!("failed to run rustc: {error}"))?;
    let folder = PathBuf::from(String::from_utf8_lossy(&answer.stdout).trim());
    Ok(answer.status.success() && folder.is_dir())
}

/// Runs cargo on the plugins, with a separate target folder: the cargo that runs this script locks its own until the
/// script has ended.
fn compile(workspace: &Path, plugins: &[String], target_folder: &Path) -> Result<(), String> {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(workspace).args(["build", "--locked", "--profile", PROFILE, "--target", TARGET]);
    cargo.arg("--target-dir").arg(target_folder);
    for name in plugins {
        cargo.args(["--package", name]);
    }
    for (variable, _) in env::vars_os() {
        if variable.to_str().is_some_and(is_of_the_outer_build) {
            cargo.env_remove(variable);
        }
    }
    // The outer cargo would interpret lines on this script's standard output.
    let status = cargo.stdout(Stdio::null()).status().map_err(|error| format!("failed to run cargo: {error}"))?;
    if status.success() { Ok(()) } else { Err("failed to compile the plugins: see above".to_owned()) }
}

/// Whether a variable controls how the broker is compiled, checked or measured, which must not affect the plugins. The
/// sources of crates (`CARGO_HOME`, `CARGO_NET_…`, `CARGO_REGISTRIES_…`) and the job server stay.
fn is_of_the_outer_build(variable: &str) -> bool {
    const NAMES: [&str; 20] = [
        "CARGO_ENCODED_RUSTFLAGS",
        "CARGO_ENCODED_RUSTDOCFLAGS",
        "CARGO_INCREMENTAL",
        "CARGO_MANIFEST_DIR",
        "CARGO_MANIFEST_PATH",
        "CARGO_PRIMARY_PACKAGE",
        "CLIPPY_ARGS",
        "DEBUG",
        "HOST",
        "LLVM_PROFILE_FILE",
        "OPT_LEVEL",
        "OUT_DIR",
        "PROFILE",
        "RUSTC_LINKER",
        "RUSTC_WRAPPER",
        "RUSTC_WORKSPACE_WRAPPER",
        "RUSTDOC",
        "RUSTDOCFLAGS",
        "RUSTFLAGS",
        "TARGET",
    ];
    const PREFIXES: [&str; 7] = [
        "CARGO_BUILD_",
        "CARGO_CFG_",
        "CARGO_FEATURE_",
        "CARGO_LLVM_COV",
        "CARGO_PKG_",
        "CARGO_PROFILE_",
        "CARGO_TARGET_",
    ];
    NAMES.contains(&variable) || PREFIXES.iter().any(|prefix| variable.starts_with(prefix))
}

/// The target folder of this build: the folder above `<profile>/build/…`, or `<triple>/<profile>/build/…`, where `OUT_DIR`
/// is.
fn target_folder(out: &Path) -> Result<PathBuf, String> {
    let build = out.ancestors().find(|folder| folder.ends_with("build"));
    let above = build.and_then(Path::parent).and_then(Path::parent);
    let cross = env::var("TARGET").is_ok_and(|triple| above.is_some_and(|folder| folder.ends_with(triple)));
    let found = if cross { above.and_then(Path::parent) } else { above };
    found.map(Path::to_path_buf).ok_or_else(|| format!("no target folder is above {}", out.display()))
}

fn folder(variable: &str) -> Result<PathBuf, String> {
    env::var_os(variable).map(PathBuf::from).ok_or_else(|| format!("cargo did not set {variable}"))
}

fn failed(verb: &str, path: &Path, error: &std::io::Error) -> String {
    format!("failed to {verb} {}: {error}", path.display())
}
