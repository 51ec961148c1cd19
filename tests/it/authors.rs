//! What plugin authors are given: a plugin to start from, and commands that try one out without a running broker.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::json;
use switchboard_tests::{App, Settings};

/// The target folder of this run; what is built for these tests is kept below it, for the next run.
fn target() -> PathBuf {
    let test = std::env::current_exe().expect("the path of this test");
    // <target>/<profile>/deps/<test>
    test.ancestors().nth(3).expect("a target folder").to_owned()
}

/// Runs cargo in a folder as an author would, and without the network where what earlier builds fetched suffices.
fn cargo(folder: &Path, arguments: &[&str]) -> Output {
    let run = |network: &[&str]| {
        Command::new(env!("CARGO"))
            .args(arguments)
            .args(network)
            .current_dir(folder)
            .env("CARGO_TARGET_DIR", target().join("new-plugins"))
            .env("CARGO_PROFILE_DEV_DEBUG", "0")
            .output()
            .expect("cargo runs")
    };
    let offline = run(&["--offline"]);
    let output = if offline.status.success() { offline } else { run(&[]) };
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{arguments:?}:\n{}{}", text(&output.stdout), text(&output.stderr));
    output
}

#[tokio::test]
async fn a_new_plugin_passes_its_tests_and_a_broker_takes_it() {
    let settings = Settings::embedded();
    settings.run(&["plugin", "new", "louder-now"]).await.success();
    let folder = settings.folder().path().join("louder-now");
    let tests = cargo(&folder, &["test"]);
    assert!(String::from_utf8_lossy(&tests.stdout).contains("3 passed"), "{tests:?}");
    cargo(&folder, &["build", "--target", "wasm32-wasip2"]);
    let component = target().join("new-plugins/wasm32-wasip2/debug/louder_now.wasm");

    let app = App::start(settings.with("SWITCHBOARD_PLUGIN", component.to_str().expect("a path in UTF-8"))).await;
    let acme = app.tenant("acme").await;
    let alice = acme.member("alice").await;
    let lobby = acme.channel("lobby", &[&alice]).await;
    let mut socket = alice.join(&lobby).await;
    socket.acked(json!({"type": "louder-now", "text": "hello"})).await;
    assert_eq!(socket.next_of("louder-now").await["message"]["content"], json!({"text": "HELLO!"}));
}

#[tokio::test]
async fn a_new_plugin_overwrites_nothing_and_has_a_name_that_a_package_can_have() {
    let settings = Settings::bare();
    for (arguments, reason) in [
        (["plugin", "new", "3d"].as_slice(), "starts with a letter"),
        (&["plugin", "new", "ping"], "the broker's own"),
        (&["plugin", "new", "mine", "--sdk", "."], "no checkout"),
    ] {
        let exit = settings.run(arguments).await;
        assert_eq!((exit.code(), exit.stderr.lines().count()), (Some(1), 1), "{exit:?}");
        assert!(exit.stderr.contains(reason), "{exit:?}");
    }
    let checkout = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let sdk = checkout.to_str().expect("a path in UTF-8");
    settings.run(&["plugin", "new", "mine", "--sdk", sdk]).await.success();
    let manifest = settings.folder().path().join("mine/Cargo.toml");
    let written = std::fs::read_to_string(&manifest).unwrap();
    let taken = checkout.canonicalize().unwrap().join("plugin-sdk");
    assert!(written.contains(&format!("path = \"{}\"", taken.display())), "{written}");
    assert!(!settings.folder().path().join("mine/sdk").exists());

    std::fs::write(&manifest, "changed").unwrap();
    let again = settings.run(&["plugin", "new", "mine"]).await;
    assert_eq!(again.code(), Some(1), "{again:?}");
    assert_eq!(std::fs::read_to_string(&manifest).unwrap(), "changed");
}
