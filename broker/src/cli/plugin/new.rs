//! `switchboard plugin new`: a folder with a plugin that builds and passes its tests.
//!
//! What a new plugin starts from is the example `shout`, in three languages, with another name. The SDK and the contract
//! are written beside it as this program has them, so that it needs no checkout and fits this broker.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use switchboard_builtin::KIT;

use crate::cli::output::print_line;
use crate::model::PluginName;

/// Where the SDK and the contract are in a new plugin.
const SDK: &str = "sdk";

const GITIGNORE: &str = "/target\n";

const MANIFEST: &str = r#"[package]
name = "shout"
version = "0.1.0"
edition = "2024"
publish = false

# Its own, also when its folder is inside of another workspace.
[workspace]

[lib]
# cdylib is the component; rlib is what the tests link.
crate-type = ["cdylib", "rlib"]

[dependencies]
serde = { version = "1", features = ["derive"] }
serde_json = "1"
switchboard-plugin-sdk = { path = "sdk/plugin-sdk" }

# Small components load fast.
[profile.release]
opt-level = "s"
lto = true
codegen-units = 1
panic = "abort"
# The names of functions stay for the backtraces in the broker's log; they cost nothing at run time.
strip = "debuginfo"
"#;

#[derive(Debug, Args)]
pub(super) struct New {
    /// The plugin's name, of its folder, and of the message type it handles: a-z, 0-9 and -, a letter first
    name: PluginName,
    /// What it is written in
    #[arg(long, value_enum, default_value = "rust")]
    lang: Language,
    /// Take the SDK and the contract from this checkout of Switchboard, instead of writing them into the folder
    #[arg(long, value_name = "FOLDER")]
    sdk: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Language {
    Rust,
    Javascript,
    Python,
}

impl Language {
    /// The example that a plugin in this language starts from.
    fn example(self) -> &'static str {
        match self {
            Language::Rust => "shout",
            Language::Javascript => "shout-js",
            Language::Python => "shout-py",
        }
    }
}

/// Makes the folder here. One that is there already is left as it is.
pub(super) fn run(command: &New) -> Result<()> {
    let name = command.name.as_str();
    if !name.starts_with(|first: char| first.is_ascii_lowercase()) {
        bail!("the name of a plugin starts with a letter here, since it names a package");
    }
    if ["auth", "subscribe", "unsubscribe", "ping"].contains(&name) {
        bail!("`{name}` is a message type of the broker's own; name the plugin otherwise");
    }
    let checkout = command.sdk.as_deref().map(checkout).transpose()?;
    let folder = Path::new(name);
    fs::create_dir(folder).with_context(|| format!("failed to make the folder {name}"))?;
    for (path, text) in files(command.lang, name, checkout.as_deref())? {
        let path = folder.join(path);
        let parent = path.parent().unwrap_or(folder);
        fs::create_dir_all(parent)
            .and_then(|()| fs::write(&path, text))
            .with_context(|| format!("failed to write {}", path.display()))?;
    }
    print_line!("{name}/ is a plugin; {name}/README.md says how to test and to build it");
    Ok(())
}

/// The checkout's folder from the root, so that the plugin can be moved.
fn checkout(path: &Path) -> Result<String> {
    let found = fs::canonicalize(path).with_context(|| format!("failed to find {}", path.display()))?;
    for part in ["plugin-sdk/Cargo.toml", "wit/0.1.0"] {
        if !found.join(part).exists() {
            bail!("{} is no checkout of Switchboard: it has no {part}", path.display());
        }
    }
    found.into_os_string().into_string().ok().context("the path of the checkout is no UTF-8")
}

/// All files of a new plugin, below its folder.
fn files(language: Language, name: &str, checkout: Option<&str>) -> Result<Vec<(String, String)>> {
    let sdk = checkout.unwrap_or(SDK);
    let rename = |text: &str| {
        text.replace("../../../wit", &format!("{sdk}/wit"))
            .replace("sdk/plugin-sdk\"", &format!("{sdk}/plugin-sdk\""))
            .replace("release/shout.wasm", &format!("release/{}.wasm", name.replace('-', "_")))
            .replace(language.example(), name)
            .replace("shout", name)
    };
    let example = format!("plugins/examples/{}/", language.example());
    let mut files: Vec<(String, String)> = KIT
        .iter()
        .filter_map(|(path, text)| Some((path.strip_prefix(&example)?, *text)))
        .map(|(path, text)| (path.to_owned(), rename(text)))
        .collect();
    let is_rust = matches!(language, Language::Rust);
    if is_rust {
        files.retain(|(path, _)| path != "Cargo.toml");
        files.push(("Cargo.toml".to_owned(), rename(MANIFEST)));
        files.push((".gitignore".to_owned(), GITIGNORE.to_owned()));
    }
    if checkout.is_none() {
        let wanted = |path: &str| path.starts_with("wit/") || (is_rust && path.starts_with("plugin-sdk/"));
        for (path, text) in KIT.iter().filter(|(path, _)| wanted(path)) {
            let standalone = *path == "plugin-sdk/Cargo.toml";
            let text = if standalone { without_workspace(text)? } else { (*text).to_owned() };
            files.push((format!("{SDK}/{path}"), text));
        }
    }
    Ok(files)
}

/// The manifest of the SDK with what it takes from the workspace written out.
fn without_workspace(manifest: &str) -> Result<String> {
    let root = KIT.iter().find(|(path, _)| *path == "Cargo.toml").context("the kit has the workspace's manifest")?;
    let mut root: toml::Table = root.1.parse()?;
    let workspace = root.remove("workspace").context("the manifest has a workspace")?;
    let mut manifest: toml::Table = manifest.parse()?;
    // What is checked here is not the author's concern.
    manifest.remove("lints");
    for section in ["package", "dependencies"] {
        let Some(toml::Value::Table(entries)) = manifest.get_mut(section) else { continue };
        for (key, value) in entries {
            let inherits = value.get("workspace").and_then(toml::Value::as_bool).unwrap_or(false);
            if inherits {
                let shared = workspace.get(section).and_then(|shared| shared.get(key));
                *value = shared.with_context(|| format!("the workspace has {section}.{key}"))?.clone();
            }
        }
    }
    Ok(manifest.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_language_leaves_the_name_of_the_example_or_a_path_out_of_its_folder() {
        for language in [Language::Rust, Language::Javascript, Language::Python] {
            let files = files(language, "my-plugin", None).unwrap();
            for (path, text) in &files {
                assert!(!text.contains("../../"), "{path} leaves the folder:\n{text}");
                let own = !path.starts_with("sdk/");
                assert!(!own || !text.contains("shout"), "{path} has the example's name:\n{text}");
            }
            let names: Vec<&str> = files.iter().map(|(path, _)| path.as_str()).collect();
            assert!(names.contains(&"README.md") && names.contains(&".gitignore"), "{names:?}");
            assert!(names.contains(&"sdk/wit/0.1.0/world.wit"), "{names:?}");
        }
    }

    #[test]
    fn the_manifest_of_the_sdk_stands_alone() {
        let manifest = KIT.iter().find(|(path, _)| *path == "plugin-sdk/Cargo.toml").unwrap().1;
        assert!(manifest.contains("workspace = true"));
        let alone = without_workspace(manifest).unwrap();
        assert!(!alone.contains("workspace"), "{alone}");
        assert!(alone.contains("serde_json") && alone.contains("edition = \"2024\""), "{alone}");
    }
}
