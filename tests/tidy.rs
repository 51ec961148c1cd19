//! The conventions of the source, as tests: what may import what, where a dependency may appear, how long a file may be.
//!
//! It reads the files as text. A line that breaks a rule is named with its file; nothing is repaired.

use std::fs;
use std::path::{Path, PathBuf};

/// The modules of the broker, lowest first. A module imports from lower ranks, and siblings leave each other alone.
const RANKS: &[&[&str]] = &[
    &["model"],
    &["protocol"],
    &["config", "telemetry", "auth", "store", "bus", "presence", "plugin", "hub"],
    &["relay", "reads", "identity"],
    &["effects", "deploy"],
    &["router"],
    &["session"],
    &["http"],
    &["broker"],
    &["cli"],
];

/// Imports between siblings that are part of the design: settings reach whoever is set up by them.
const ALLOWED: &[(&str, &str)] = &[("auth", "config"), ("telemetry", "config")];

/// Lines of code that a file may have, comments, blank lines and tests not counted.
const MAX_LINES: usize = 500;

/// A word, and the only modules of the broker that may use it.
const AT_HOME: &[(&str, &[&str])] = &[
    ("wasmtime::", &["plugin"]),
    ("wasmtime_wasi::", &["plugin"]),
    ("tokio_postgres::", &["store"]),
    ("deadpool::", &["store"]),
    ("rusqlite::", &["store"]),
    ("redis::cmd", &["bus", "presence"]),
    ("redis::pipe", &["bus", "presence"]),
    ("redis::Client", &["bus", "presence"]),
    ("redis::Script", &["bus", "presence"]),
    ("SELECT ", &["store"]),
    ("INSERT INTO", &["store"]),
    ("DELETE FROM", &["store"]),
    ("fastwebsockets::", &["protocol", "session", "http"]),
    ("jsonwebtoken::", &["auth"]),
    ("argon2::", &["auth"]),
    ("anyhow::", &["cli"]),
];

/// Names that say nothing.
const EMPTY_NAMES: &[&str] = &["util", "utils", "helper", "helpers", "common", "misc", "manager"];

#[test]
fn imports_go_downwards() {
    let mut broken = Vec::new();
    for file in broker_files() {
        let Some(importer) = file.module.as_deref().filter(|module| rank(module).is_some()) else { continue };
        for (number, line) in file.code_lines() {
            for imported in crate_paths(line) {
                let Some(above) = rank(imported).zip(rank(importer)).map(|(to, from)| to >= from) else { continue };
                if above && imported != importer && !ALLOWED.contains(&(importer, imported)) {
                    broken.push(format!("{}:{number}: {importer} imports {imported}", file.name()));
                }
            }
        }
    }
    assert!(broken.is_empty(), "these imports go up or sideways:\n{}", broken.join("\n"));
}

#[test]
fn every_module_has_a_rank() {
    let root = fs::read_to_string(workspace().join("broker/src/lib.rs")).expect("the map of the house");
    let unranked: Vec<&str> = root
        .lines()
        .filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'))
        .filter(|module| rank(module).is_none())
        .collect();
    assert!(unranked.is_empty(), "give these modules a rank: {unranked:?}");
}

#[test]
fn a_dependency_stays_where_it_belongs() {
    let mut broken = Vec::new();
    for file in broker_files() {
        let module = file.module.clone().unwrap_or_default();
        for (number, line) in file.code_lines() {
            for (word, homes) in AT_HOME {
                if line.contains(word) && !homes.contains(&module.as_str()) {
                    broken.push(format!("{}:{number}: {word} belongs in {}", file.name(), homes.join(", ")));
                }
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn a_file_says_what_it_is_for_and_stays_short() {
    let mut broken = Vec::new();
    for file in all_files() {
        if !file.text.starts_with("//!") && !file.path.ends_with("tests.rs") {
            broken.push(format!("{}: begins without a //! line", file.name()));
        }
        let lines = file.code_lines().count();
        if lines > MAX_LINES {
            broken.push(format!("{}: {lines} lines of code, and {MAX_LINES} are the most", file.name()));
        }
        let stem = file.path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        if EMPTY_NAMES.contains(&stem) {
            broken.push(format!("{}: a name that says nothing", file.name()));
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn every_direct_dependency_is_explained() {
    let architecture = fs::read_to_string(workspace().join("docs/architecture.md")).expect("docs/architecture.md");
    let mut missing = Vec::new();
    for manifest in ["broker/Cargo.toml", "plugin-sdk/Cargo.toml", "tests/Cargo.toml"] {
        let text = fs::read_to_string(workspace().join(manifest)).expect("a manifest");
        let mut listing = false;
        for line in text.lines() {
            if line.starts_with('[') {
                listing = line.contains("dependencies]");
            } else if listing && let Some((name, _)) = line.split_once(['=', '.', ' ']) {
                let name = name.trim();
                if !name.is_empty() && !name.starts_with('#') && !architecture.contains(&format!("`{name}`")) {
                    missing.push(format!("{manifest}: {name}"));
                }
            }
        }
    }
    assert!(missing.is_empty(), "docs/architecture.md has no line for:\n{}", missing.join("\n"));
}

struct File {
    path: PathBuf,
    text: String,
    /// The module of the broker that it is part of.
    module: Option<String>,
}

impl File {
    fn name(&self) -> String {
        self.path.strip_prefix(workspace()).unwrap_or(&self.path).display().to_string()
    }

    /// Lines of code with their numbers, up to the file's unit tests.
    fn code_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text
            .lines()
            .enumerate()
            .take_while(|(_, line)| *line != "#[cfg(test)]")
            .map(|(index, line)| (index + 1, line.trim()))
            .filter(|(_, line)| !line.is_empty() && !line.starts_with("//"))
    }
}

fn rank(module: &str) -> Option<usize> {
    RANKS.iter().position(|rank| rank.contains(&module))
}

/// The modules that a line names as `crate::…`.
fn crate_paths(line: &str) -> impl Iterator<Item = &str> {
    line.match_indices("crate::").filter_map(|(at, found)| {
        let rest = &line[at + found.len()..];
        let end = rest.find(|c: char| !c.is_ascii_lowercase() && c != '_').unwrap_or(rest.len());
        (end > 0).then(|| &rest[..end])
    })
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().expect("the workspace")
}

fn broker_files() -> Vec<File> {
    let mut files = read(&workspace().join("broker/src"));
    // A module's unit tests may use whatever they need.
    files.retain(|file| !file.path.ends_with("tests.rs"));
    files
}

fn all_files() -> Vec<File> {
    ["broker", "plugin-sdk", "plugins", "tests"].iter().flat_map(|folder| read(&workspace().join(folder))).collect()
}

fn read(folder: &Path) -> Vec<File> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next).expect("a readable folder") {
            let path = entry.expect("a readable entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("a readable file");
                let module = path.strip_prefix(workspace().join("broker/src")).ok().and_then(|inside| {
                    let first = inside.components().next()?.as_os_str().to_str()?;
                    Some(first.trim_end_matches(".rs").to_owned())
                });
                files.push(File { path, text, module });
            }
        }
    }
    assert!(!files.is_empty(), "no source in {}", folder.display());
    files
}
