//! The conventions of the source, as tests: what may import what, where a dependency may appear, how long a file may be, and
//! that what is declared once is told everywhere.
//!
//! They read the files as text. A line that breaks a rule is named with its file; nothing is repaired.

mod docs;
mod imports;
mod picture;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use imports::Imports;

/// A crate of the broker: the folder of its source, and its modules, lowest first. A module imports from lower ranks, and
/// siblings leave each other alone. Between crates, Cargo sees to it.
pub(crate) struct Layers {
    pub(crate) folder: &'static str,
    ranks: &'static [&'static [&'static str]],
}

pub(crate) const CRATES: &[Layers] = &[
    Layers {
        folder: "broker/src",
        ranks: &[
            &["dice", "protocol"],
            &["config"],
            &["telemetry"],
            &["auth", "bus", "presence", "hub", "rates"],
            &["relay", "host_data", "identity"],
            &["effects", "deploy"],
            &["router"],
            &["session"],
            &["http"],
            &["broker"],
            &["cli"],
            &["main"],
        ],
    },
    Layers {
        folder: "broker/plugin-host/src",
        ranks: &[
            &["error", "limits", "private"],
            &["guest_log"],
            &["contract"],
            &["recording"],
            &["runtime"],
            &["routing", "replay"],
            &["fixture"],
        ],
    },
    Layers {
        folder: "broker/store/src",
        ranks: &[
            &["error"],
            &["tenants", "members", "channels", "messages", "commit", "catalogue", "keys"],
            &["answer", "entries"],
            &["changes"],
            &["postgres", "sqlite"],
        ],
    },
    Layers {
        folder: "broker/model/src",
        ranks: &[&["names"], &["json", "ids", "address"], &["clock"], &["catalogue", "columns"]],
    },
];

/// Lines of code that a file may have, comments, blank lines and tests not counted.
const MAX_LINES: usize = 500;

/// A word, and the only modules of the broker that may use it.
const AT_HOME: &[(&str, &[&str])] = &[
    ("wasmtime::", &["plugin-host"]),
    ("wasmtime_wasi::", &["plugin-host"]),
    ("tokio_postgres::", &["store"]),
    ("deadpool::", &["store"]),
    ("rusqlite::", &["store", "model"]),
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

const MANIFESTS: &[&str] = &[
    "broker/Cargo.toml",
    "broker/builtin/Cargo.toml",
    "broker/metrics/Cargo.toml",
    "broker/model/Cargo.toml",
    "broker/plugin-host/Cargo.toml",
    "broker/store/Cargo.toml",
    "plugin-sdk/Cargo.toml",
    "tests/Cargo.toml",
    "tests/fuzz/Cargo.toml",
];

/// Names that say nothing.
const EMPTY_NAMES: &[&str] = &["util", "utils", "helper", "helpers", "common", "misc", "manager"];

#[test]
fn imports_go_downwards() {
    let mut broken = Vec::new();
    for Layers { folder, ranks } in CRATES {
        let rank = |module: &str| ranks.iter().position(|rank| rank.contains(&module));
        for (file, imported) in Imports::of(&workspace().join(folder)).edges {
            let Some(importer) = file.first() else { continue };
            let Some(from) = rank(importer) else { panic!("give {folder}/{importer} a rank") };
            for leads in imported.iter().filter_map(|leads| leads.first()).collect::<BTreeSet<_>>() {
                if leads != importer && rank(leads).is_none_or(|to| to >= from) {
                    broken.push(format!("{folder}/{}: {importer} imports {leads}", file.join("/")));
                }
            }
        }
    }
    assert!(broken.is_empty(), "these imports go up or sideways:\n{}", broken.join("\n"));
}

#[test]
fn no_file_imports_one_that_imports_it() {
    let of = |layers: &Layers| Imports::of(&workspace().join(layers.folder)).circles();
    let circles: Vec<Vec<String>> = CRATES.iter().flat_map(of).collect();
    assert!(circles.is_empty(), "these files import each other:\n{circles:#?}");
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
    for manifest in MANIFESTS {
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

pub(crate) fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().expect("the workspace")
}

fn broker_files() -> Vec<File> {
    let mut files: Vec<File> = CRATES.iter().flat_map(|layers| read(&workspace().join(layers.folder))).collect();
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
                let module = module_of(&path);
                files.push(File { path, text, module });
            }
        }
    }
    assert!(!files.is_empty(), "no source in {}", folder.display());
    files
}

/// The module of the broker that a file is part of: a crate below it, or what is in its own source.
fn module_of(path: &Path) -> Option<String> {
    let inside = path.strip_prefix(workspace().join("broker")).ok()?;
    let mut parts = inside.components().filter_map(|part| part.as_os_str().to_str());
    let first = match parts.next()? {
        "src" => parts.next()?,
        below => below,
    };
    Some(first.trim_end_matches(".rs").to_owned())
}
