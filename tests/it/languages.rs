//! Plugins in JavaScript and in Python: made by `switchboard plugin new`, tested and built as their README says, and run by a
//! broker like any other.
//!
//! They need npm and pip and what these fetch. Where one of them is missing its test says so and ends. What was built and
//! fetched is kept below the target folder.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::json;
use switchboard_tests::{App, Settings};
use tokio::time::Instant;

/// Calls of a warm instance that are measured.
const WARM: usize = 50;

struct Language {
    /// As `--lang` has it.
    name: &'static str,
    /// What must be there, and answers to `--version`.
    tool: &'static [&'static str],
    /// What is run in the plugin's folder.
    build: &'static [&'static [&'static str]],
    /// What a build leaves that the component does not need.
    left: &'static str,
}

const JAVASCRIPT: Language = Language {
    name: "javascript",
    tool: &["npm"],
    build: &[&["npm", "ci", "--no-audit", "--no-fund"], &["npm", "test"], &["npm", "run", "build"]],
    left: "node_modules",
};

const PYTHON: Language = Language {
    name: "python",
    tool: &["python3", "-m", "pip"],
    build: &[
        &["python3", "-m", "venv", "venv"],
        &["venv/bin/pip", "install", "--quiet", "-r", "requirements.txt"],
        &["venv/bin/python", "build.py"],
    ],
    left: "venv",
};

#[tokio::test]
async fn a_plugin_in_javascript_is_one_like_any_other() {
    runs_in_a_broker(&JAVASCRIPT).await;
}

#[tokio::test]
async fn a_plugin_in_python_is_one_like_any_other() {
    runs_in_a_broker(&PYTHON).await;
}

async fn runs_in_a_broker(language: &Language) {
    if !command(language.tool).arg("--version").output().is_ok_and(|output| output.status.success()) {
        println!("{} is missing: the plugin in {} is NOT TESTED", language.tool.join(" "), language.name);
        return;
    }
    let name = format!("louder-{}", language.name);
    let component = built(language, &name).await;
    let size = fs::metadata(&component).unwrap().len();

    let began = Instant::now();
    let settings = Settings::embedded().with("SWITCHBOARD_PLUGIN", component.to_str().expect("a path in UTF-8"));
    let app = App::start(settings).await;
    let started = began.elapsed();
    let from_cache = app
        .broker()
        .events("plugin prepared")
        .iter()
        .any(|event| event["plugin"] == name.as_str() && event["from_cache"] == true);
    let acme = app.tenant("acme").await;
    let alice = acme.member("alice").await;
    let lobby = acme.channel("lobby", &[&alice]).await;
    let mut socket = alice.join(&lobby).await;
    let mut times = Vec::with_capacity(WARM + 1);
    for n in 0..=WARM {
        let began = Instant::now();
        socket.acked(json!({"type": name, "text": format!("grüße {n}")})).await;
        times.push(began.elapsed());
        let said = socket.next_of(&name).await;
        assert_eq!(said["message"]["content"], json!({"text": format!("GRÜSSE {n}!")}));
    }
    let refused = socket.refused(json!({"type": name, "text": 7})).await;
    assert_eq!((&refused["code"], &refused["message"]), (&json!(107), &json!("`text` must be a string")));
    socket.acked(json!({"type": name, "text": "still here"})).await;

    let fresh = times.remove(0);
    times.sort();
    let (warm, compiled): (Duration, &str) = (times[WARM / 2], if from_cache { "from the cache" } else { "compiled" });
    println!(
        "{name}: {size} bytes; a broker with it starts in {started:?} ({compiled}); ack of the first event {fresh:?}, \
         median of {WARM} further ones {warm:?}"
    );
}

/// The component, built unless an earlier run has built it from the same files.
async fn built(language: &Language, name: &str) -> PathBuf {
    let settings = Settings::bare();
    settings.run(&["plugin", "new", name, "--lang", language.name]).await.success();
    let made = settings.folder().path().join(name);
    let mut hasher = DefaultHasher::new();
    digest(&made, &mut hasher).unwrap();
    let cache = target().join("languages");
    let folder = cache.join(format!("{name}-{:016x}", hasher.finish()));
    let component = folder.join(format!("dist/{name}.wasm"));
    if component.exists() {
        return component;
    }
    // What is left of a run that was interrupted, or nothing.
    let _ = fs::remove_dir_all(&folder);
    copy(&made, &folder).unwrap();
    for line in language.build {
        let mut run = command(line);
        if line[0].contains('/') {
            run = Command::new(folder.join(line[0]));
            run.args(&line[1..]);
        }
        let output = run
            .current_dir(&folder)
            .env("npm_config_cache", cache.join("npm"))
            .env("PIP_CACHE_DIR", cache.join("pip"))
            .output()
            .unwrap_or_else(|error| panic!("{line:?}: {error}"));
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        assert!(output.status.success(), "{line:?}:\n{}{}", text(&output.stdout), text(&output.stderr));
    }
    fs::remove_dir_all(folder.join(language.left)).unwrap();
    assert!(component.exists(), "{} is where the README says", component.display());
    component
}

fn command(line: &[&str]) -> Command {
    let mut command = Command::new(line[0]);
    command.args(&line[1..]);
    command
}

/// The target folder of this run.
fn target() -> PathBuf {
    let test = std::env::current_exe().expect("the path of this test");
    // <target>/<profile>/deps/<test>
    test.ancestors().nth(3).expect("a target folder").to_owned()
}

fn digest(folder: &Path, hasher: &mut DefaultHasher) -> io::Result<()> {
    for path in entries(folder)? {
        path.file_name().hash(hasher);
        if path.is_dir() { digest(&path, hasher)? } else { fs::read(&path)?.hash(hasher) }
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for path in entries(from)? {
        let target = to.join(path.file_name().expect("an entry of a folder has a name"));
        if path.is_dir() { copy(&path, &target)? } else { fs::copy(&path, &target).map(drop)? }
    }
    Ok(())
}

fn entries(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}
