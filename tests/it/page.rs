//! The client of the chat page keeps a log-in whatever tabs, networks and clocks do.
//!
//! It is JavaScript, so its tests are too: `tests/web/client.test.mjs`, which Node runs with a browser and a broker that are made
//! up there. Where Node is missing the test says so and ends, as the ones of plugins in JavaScript do.

use std::path::Path;
use std::process::Command;

/// The first version with the test runner that is used.
const NODE: u32 = 20;

#[test]
fn the_chat_pages_client_keeps_its_log_in() {
    let version = Command::new("node").arg("--version").output().map(|output| output.stdout).unwrap_or_default();
    // v20.20.2
    let version = String::from_utf8_lossy(&version).into_owned();
    let major = version.trim().trim_start_matches('v').split('.').next().and_then(|major| major.parse::<u32>().ok());
    if major.is_none_or(|major| major < NODE) {
        println!("Node {NODE} or later is missing: the client of the chat page is NOT TESTED");
        return;
    }
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("web/client.test.mjs");
    let output = Command::new("node").args(["--test", "--test-reporter=tap"]).arg(&file).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let told = said.lines().filter(|line| line.starts_with("ok ")).count();
    assert!(output.status.success() && told > 0, "{said}{}", String::from_utf8_lossy(&output.stderr));
    println!("the client of the chat page: {told} tests passed in Node {}", version.trim());
}
