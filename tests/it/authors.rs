//! What plugin authors are given: a plugin to start from, and commands that try one out without a running broker.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};
use switchboard_tests::{App, PROCESS_DEADLINE, Settings, number, plugin, text};
use tokio::sync::OnceCell;
use tokio::time::timeout;

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
            // Set by tests/run for its own sake; an author has no such variable.
            .env_remove("RUSTC_BOOTSTRAP")
            .env("CARGO_PROFILE_DEV_DEBUG", "0")
            .output()
            .expect("cargo runs")
    };
    let offline = run(&["--offline"]);
    let output = if offline.status.success() { offline } else { run(&[]) };
    let said = |bytes| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{arguments:?}:\n{}{}", said(&output.stdout), said(&output.stderr));
    output
}

/// A plugin as `switchboard plugin new` makes it, tested and built as its README says, once for all tests.
async fn louder_now() -> &'static str {
    static COMPONENT: OnceCell<String> = OnceCell::const_new();
    let made = COMPONENT.get_or_init(async || {
        let settings = Settings::bare();
        settings.run(&["plugin", "new", "louder-now"]).await.success();
        let folder = settings.folder().path().join("louder-now");
        let tests = cargo(&folder, &["test"]);
        assert!(String::from_utf8_lossy(&tests.stdout).contains("3 passed"), "{tests:?}");
        cargo(&folder, &["build", "--target", "wasm32-wasip2"]);
        let component = target().join("new-plugins/wasm32-wasip2/debug/louder_now.wasm");
        component.into_os_string().into_string().expect("a path in UTF-8")
    });
    made.await
}

/// Writes a file into the folder that commands run in.
fn written(settings: &Settings, name: &str, text: &str) {
    std::fs::write(settings.folder().path().join(name), text).unwrap();
}

#[tokio::test]
async fn a_new_plugin_passes_its_tests_and_a_broker_takes_it() {
    let app = App::start(Settings::embedded().with("SWITCHBOARD_PLUGIN", louder_now().await)).await;
    let acme = app.tenant("acme").await;
    let alice = acme.member("alice").await;
    let lobby = acme.channel("lobby", &[&alice]).await;
    let mut socket = alice.join(&lobby).await;
    socket.acked(json!({"type": "louder-now", "text": "hello"})).await;
    assert_eq!(socket.next_of("louder-now").await["message"]["content"], json!({"text": "HELLO!"}));
}

#[tokio::test]
async fn a_component_is_checked_without_a_broker() {
    let settings = Settings::bare();
    let said = settings.run(&["plugin", "check", louder_now().await]).await.success();
    for line in ["louder-now 0.1.0", "handles   louder-now (durable, from clients)", "a broker accepts it"] {
        assert!(said.contains(line), "{said}");
    }
    assert!(!said.contains("it needs"), "{said}");
    written(&settings, "config.json", "{\"marc\":1}");
    written(&settings, "rubbish.wasm", "rubbish");
    for (arguments, reason) in [
        (vec![louder_now().await, "--init-file", "config.json"], "unknown field `marc`"),
        (vec!["rubbish.wasm"], "not a WebAssembly component"),
        (vec!["missing.wasm"], "missing.wasm"),
    ] {
        let exit = settings.run(&[vec!["plugin", "check"], arguments].concat()).await;
        assert_eq!((exit.code(), exit.stderr.lines().count()), (Some(1), 1), "{exit:?}");
        assert!(exit.stderr.contains(reason), "{exit:?}");
    }
}

#[tokio::test]
async fn events_of_a_file_are_tried_out_and_two_versions_compared() {
    let settings = Settings::bare();
    let component = louder_now().await;
    written(
        &settings,
        "events.jsonl",
        r#"{"kind":"louder-now","payload":{"text":"hello"},"user":"bob"}

{"kind":"louder-now","payload":{"text":""}}
"#,
    );
    let said = settings.run(&["plugin", "test", component, "events.jsonl"]).await.success();
    println!("{said}");
    for line in ["store {\"content\":{\"text\":\"HELLO!\"}", "invalid `text` must be 1 to 500", "2 events, 0 failed"] {
        assert!(said.contains(line), "{said}");
    }
    let as_json = settings.run(&["plugin", "test", component, "events.jsonl", "--json"]).await.success();
    let first: Value = serde_json::from_str(as_json.lines().next().unwrap()).unwrap();
    let kept = json!([{"store": {"kind": "louder-now", "content": {"text": "HELLO!"}}}]);
    assert_eq!((&first["answer"], &first["failed"]), (&kept, &json!(false)));
    assert!(number(&first, "fuel") > 0 && number(&first, "memory_bytes") > 0, "{first}");

    written(&settings, "config.json", r#"{"mark":"?!"}"#);
    let replay = ["plugin", "replay", component, component, "events.jsonl"];
    assert!(settings.run(&replay).await.success().contains("2 events, 0 differ"));
    let exit = settings.run(&[&replay[..], &["--new-init-file", "config.json"]].concat()).await;
    assert_eq!(exit.code(), Some(1), "{exit:?}");
    println!("{}", exit.stdout);
    let differing: Vec<&str> = exit.stdout.lines().filter(|line| line.trim().starts_with(['-', '+'])).collect();
    assert_eq!(differing.len(), 2, "{exit:?}");
    assert!(differing[0].contains("HELLO!") && differing[1].contains("HELLO?!"), "{differing:?}");
    assert!(exit.stdout.contains("2 events, 1 differ"), "{exit:?}");
}

#[tokio::test]
async fn a_trap_and_an_endless_loop_fail_a_test_of_a_plugin() {
    let settings = Settings::bare();
    let kinds = ["hostile.trap", "hostile.calls", "hostile.calls", "hostile.loop", "typing"];
    let events: String = kinds.map(|kind| format!("{{\"kind\":\"{kind}\"}}\n")).concat();
    written(&settings, "events.jsonl", &events);
    let exit = settings.run(&["plugin", "test", plugin("hostile"), "events.jsonl"]).await;
    assert_eq!(exit.code(), Some(1), "{exit:?}");
    assert!(exit.stderr.contains("failed at 2 of 5 events"), "{exit:?}");
    for line in ["trapped ", "a secret of the plugin", "timed out", "denied typing is mine now"] {
        assert!(exit.stdout.contains(line), "`{line}`: {}", exit.stdout);
    }
    assert!(exit.stdout.contains("\"content\":\"2\""), "an instance goes on after an answer: {}", exit.stdout);

    written(&settings, "wrong.jsonl", "{\"kind\":\"typing\"}\n{\"kid\":1}\n");
    let exit = settings.run(&["plugin", "test", plugin("hostile"), "wrong.jsonl"]).await;
    assert_eq!((exit.code(), exit.stderr.lines().count()), (Some(1), 1), "{exit:?}");
    assert!(exit.stderr.contains("line 2: unknown field `kid`"), "{exit:?}");
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

#[tokio::test]
async fn live_events_are_recorded_with_consent_and_replayed_with_what_the_host_answered() {
    const VOTES: usize = 3;
    let poll_plugin = plugin("poll");
    let app = App::start(Settings::embedded().with("SWITCHBOARD_PLUGIN", poll_plugin)).await;
    let operator = app.operator();
    let (acme, apex) = (app.tenant("acme").await, app.tenant("apex").await);
    let alice = acme.member("alice").await;
    let lobby = acme.channel("lobby", &[&alice]).await;
    let mut socket = alice.join(&lobby).await;
    let create = json!({"type": "poll.create", "question": "Lunch, at noon?", "options": ["soup", "salad"]});
    let poll = text(&socket.acked(create).await, "message_id").to_owned();
    let vote = |option: usize| json!({"type": "poll.vote", "poll_id": poll, "option": option});

    let refused = operator.command(&["record", "poll.vote", "--tenant", &acme.slug]).await;
    assert_eq!((refused.code(), refused.stderr.lines().count()), (Some(1), 1), "{refused:?}");
    assert!(refused.stderr.contains(&format!("`switchboard plugin consent {} on`", acme.slug)), "{refused:?}");
    operator.consent(&acme, true).await;
    let of_another = operator.command(&["record", "poll.vote", "--tenant", &apex.slug]).await;
    assert_eq!(of_another.code(), Some(1), "{of_another:?}");

    let events = VOTES.to_string();
    let line = ["record", "poll.vote", "--tenant", &acme.slug, "--events", &events, "--redact"];
    let recording = async {
        let exit = operator.command(&line).await;
        assert!(exit.stderr.contains("0 events were left out"), "{exit:?}");
        exit.success()
    };
    let voting = async {
        // The audit has a line of the recording when it has begun.
        let begun = |audit: &[Value]| audit.iter().any(|line| line["action"] == "record" && line["result"] == "ok");
        timeout(PROCESS_DEADLINE, async { while !begun(&operator.audit().await) {} }).await.expect("it begins");
        for n in 0..VOTES {
            socket.acked(vote(n % 2)).await;
        }
    };
    let (recorded, ()) = tokio::join!(recording, voting);
    assert_eq!(recorded.lines().count(), VOTES, "{recorded}");
    for said in ["alice", "Lunch", "soup", &poll, &lobby.id] {
        assert!(!recorded.contains(said), "`{said}` is in it: {recorded}");
    }
    let first: Value = serde_json::from_str(recorded.lines().next().unwrap()).unwrap();
    assert_eq!((&first["tenant"], &first["payload"]["option"]), (&json!(acme.slug), &json!(0)));

    let author = Settings::bare();
    written(&author, "events.jsonl", &recorded);
    let tried = author.run(&["plugin", "test", poll_plugin, "events.jsonl", "--json"]).await.success();
    println!("{tried}");
    for line in tried.lines() {
        let played: Value = serde_json::from_str(line).unwrap();
        assert!(line.contains("kv_put") && played["unrecorded_reads"] == 0, "it votes as it did: {line}");
    }
    let replayed = author.run(&["plugin", "replay", poll_plugin, poll_plugin, "events.jsonl"]).await.success();
    assert!(replayed.contains("3 events, 0 differ"), "{replayed}");
}

#[tokio::test]
async fn what_one_event_keeps_the_next_one_of_a_file_reads() {
    let poll = "01a208f1-d77a-7917-9190-95d8c9c5e8fb";
    let message = json!({
        "id": poll, "kind": "poll.create", "seq": 1, "sender": {"id": "alice", "username": "alice"},
        "content": {"question": "Lunch?", "options": ["soup", "salad"]}, "created_at_ms": 1,
    });
    let vote = |user: &str, option: usize| {
        json!({
            "kind": "poll.vote", "user": user, "payload": {"poll_id": poll, "option": option},
            "reads": [{"call": "history.get", "answer": message}],
        })
    };
    let lines: String = [vote("alice", 0), vote("bob", 1), vote("carol", 1)].map(|line| format!("{line}\n")).concat();
    let author = Settings::bare();
    written(&author, "votes.jsonl", &lines);
    let said = author.run(&["plugin", "test", plugin("poll"), "votes.jsonl"]).await.success();
    assert!(said.contains(r#""tally":[1,0]"#) && said.contains(r#""tally":[1,2]"#), "{said}");
    let ungranted = author.run(&["plugin", "test", plugin("poll"), "votes.jsonl", "--grant", "history"]).await;
    assert_eq!(ungranted.code(), Some(1), "{ungranted:?}");
    assert!(ungranted.stderr.contains("kv"), "{ungranted:?}");
}

/// The blocks of a language in the documentation that contain a text.
fn block(page: &str, language: &str, part: &str) -> String {
    let mut blocks = page.split("\n```").skip(1).step_by(2);
    let found = blocks.find(|block| block.starts_with(&format!("{language}\n")) && block.contains(part));
    let (_, text) =
        found.and_then(|block| block.split_once('\n')).unwrap_or_else(|| panic!("no {language} with {part}"));
    format!("{text}\n")
}

#[tokio::test]
async fn the_tutorial_does_what_it_says() {
    let checkout = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let page = std::fs::read_to_string(checkout.join("docs/plugins.md")).unwrap();
    let settings = Settings::bare();
    let sdk = checkout.to_str().expect("a path in UTF-8");
    settings.run(&["plugin", "new", "poke", "--sdk", sdk]).await.success();
    let source = block(&page, "rust", "struct Poke;") + &block(&page, "rust", "mod tests");
    written(&settings, "poke/src/lib.rs", &source);
    let folder = settings.folder().path().join("poke");
    let tests = cargo(&folder, &["test"]);
    assert!(String::from_utf8_lossy(&tests.stdout).contains("3 passed"), "{tests:?}");
    cargo(&folder, &["build", "--target", "wasm32-wasip2"]);
    let component = target().join("new-plugins/wasm32-wasip2/debug/poke.wasm");
    let component = component.to_str().expect("a path in UTF-8");

    let checked = settings.run(&["plugin", "check", component]).await.success();
    assert!(checked.contains("switchboard plugin grants poke --add members"), "{checked}");
    assert!(page.contains("switchboard plugin grants poke --add members"), "as the page says");
    written(&settings, "events.jsonl", &block(&page, "json", "\"kind\":\"poke\""));
    let said = settings.run(&["plugin", "test", component, "events.jsonl"]).await.success();
    let shown = block(&page, "console", "$ switchboard plugin test");
    for line in shown.lines().filter(|line| line.starts_with("    ")) {
        assert!(said.contains(line), "`{line}` is not in\n{said}");
    }
}
