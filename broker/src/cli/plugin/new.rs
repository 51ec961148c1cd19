//! `switchboard plugin new`: creates a folder with a plugin that builds and passes its tests.
//!
//! A new plugin is the example `shout` under another name, in one of three languages. The SDK and the contract are copied
//! from this program, so the plugin needs no checkout and fits this broker.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use switchboard_builtin::KIT;

use crate::cli::output::print_line;
use crate::model::PluginName;

/// The folder of the SDK and the contract in a new plugin.
const SDK: &str = "sdk";

const GITIGNORE: &str = "/target\n";

const MANIFEST: &str = r#"[package]
name = "shout"
version = "0.1.0"
edition = "2024"
publish = false

# A workspace of its own, even inside the folder of another one.
[workspace]

[lib]
# cdylib builds the component; rlib is for the tests.
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
# Keep function names for the backtraces in the broker's log; they cost nothing at run time.
strip = "debuginfo"
"#;

#[derive(Debug, Args)]
pub(super) struct New {
    /// Name of the plugin, its folder and the message type that it handles: a-z, 0-9 and -, starting with a letter
    name: PluginName,
    /// Programming language
    #[arg(long, value_enum, default_value = "rust")]
    lang: Language,
    /// Use the SDK and the contract of this checkout of Switchboard instead of copying them into the folder
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
    /// The example that a new plugin in this language is copied from.
    fn example(self) -> &'static str {
        match self {
            Language::Rust => "shout",
            Language::Javascript => "shout-js",
            Language::Python => "shout-py",
        }
    }
}

/// Creates the folder in the working directory. An existing folder is left unchanged.
pub(super) fn run(command: &New) -> Result<()> {
    let name = command.name.as_str();
    if !name.starts_with(|first: char| first.is_ascii_lowercase()) {
        bail!("the name must be that of a package, which starts with a letter");
    }
    if ["auth", "subscribe", "unsubscribe", "ping"].contains(&name) {
        bail!("`{name}` is one of the broker's own message types; choose another name");
    }
    let checkout = command.sdk.as_deref().map(checkout).transpose()?;
    let folder = Path::new(name);
    fs::create_dir(folder).with_context(|| format!("failed to create the folder {name}"))?;
    for (path, text) in files(command.lang, name, checkout.as_deref())? {
        let path = folder.join(path);
        let parent = path.parent().unwrap_or(folder);
        fs::create_dir_all(parent)
            .and_then(|()| fs::write(&path, text))
            .with_context(|| format!("failed to write {}", path.display()))?;
    }
    print_line!("created the plugin {name}/; {name}/README.md explains how to test and build it");
    Ok(())
}

/// The absolute path of the checkout, so that the plugin can be moved.
fn checkout(path: &Path) -> Result<String> {
    let found = fs::canonicalize(path).with_context(|| format!("failed to find {}", path.display()))?;
    for part in ["plugin-sdk/Cargo.toml", "wit/0.1.0"] {
        if !found.join(part).exists() {
            bail!("{} is no checkout of Switchboard: it has no {part}", path.display());
        }
    }
    found.into_os_string().into_string().ok().context("the path of the checkout is not valid UTF-8")
}

/// All files of a new plugin, with paths relative to its folder.
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

/// The manifest of the SDK, with everything that it inherits from the workspace written out.
fn without_workspace(manifest: &str) -> Result<String> {
    let root = KIT.iter().find(|(path, _)| *path == "Cargo.toml").context("the kit lacks the workspace's manifest")?;
    let mut root: toml::Table = root.1.parse()?;
    let workspace = root.remove("workspace").context("the manifest has no workspace")?;
    let mut manifest: toml::Table = manifest.parse()?;
    // The lints of this workspace are no concern of the author.
    manifest.remove("lints");
    for section in ["package", "dependencies"] {
        let Some(toml::Value::Table(entries)) = manifest.get_mut(section) else { continue };
        for (key, value) in entries {
            let inherits = value.get("workspace").and_then(toml::Value::as_bool).unwrap_or(false);
            if inherits {
                let shared = workspace.get(section).and_then(|shared| shared.get(key));
                *value = shared.with_context(|| format!("the workspace has no {section}.{key}"))?.clone();
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
