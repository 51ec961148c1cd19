//! What an instance of a plugin may take to begin with, and what it may have copied.

use serde_json::{Value, json};
use switchboard_tests::{App, Goal, Member, Part, Settings, Socket, figure, mib, number, plugin, text, with_instances};

/// What a broker may take more for good: caches that fill with work, heap that is not given back.
const MARGIN: u64 = 64 << 20;

/// A component is compiled in a child of the broker, and what it declares is added up before there is an instance of it.
#[tokio::test]
async fn a_component_that_declares_more_than_an_instance_may_have_is_refused() {
    let app = App::start(Settings::embedded()).await;
    let operator = app.operator();
    let before = app.broker().memory();
    for (part, times, said) in [
        (Part::Globals(1_000_000), 60, "the engine allows"),
        (Part::References(20_000), 60, "the engine allows"),
        (Part::Globals(1), 130, "core module instances"),
        (Part::Memories(4, 1), 1, "memories"),
        (Part::Tables(70, 1), 1, "tables"),
        (Part::Memories(3, 160), 1, "memory_mib is 16"),
        (Part::Tables(60, 100_000), 1, "memory_mib is 16"),
    ] {
        let component = with_instances(plugin("versions"), &part, times);
        let path = app.settings().folder().path().join("much.wasm");
        std::fs::write(&path, &component).unwrap();
        let (status, answer) = operator.upload(component).await;
        let line = text(&answer["error"], "message");
        println!("{part:?} x {times}: {status} {line}");
        assert_eq!(status, 422, "{answer}");
        assert!(line.contains(said) && !line.contains('\n'), "{line}");
        let checked = app.settings().run(&["plugin", "check", path.to_str().unwrap()]).await;
        if said.contains("memory_mib") {
            // More memory is an operator's to give.
            assert!(checked.success().contains("it needs a limit"));
        } else {
            assert!(checked.code() == Some(1) && checked.stderr.contains(said), "{checked:?}");
        }
    }
    let more = app.broker().memory().saturating_sub(before);
    println!("the broker has {} more", mib(more));
    assert!(more <= MARGIN, "{}", mib(more));
}

#[tokio::test]
async fn what_an_instance_takes_is_what_is_reported() {
    const DECLARED: u64 = 3 * (32 * 65_536) + 8 * 10_000 * 8;
    let app = App::start(Settings::embedded()).await;
    let component = with_instances(plugin("versions"), &Part::Memories(3, 32), 1);
    let folder = app.settings().folder().path();
    let (first, path) = (folder.join("memories.wasm"), folder.join("both.wasm"));
    std::fs::write(&first, &component).unwrap();
    let component = with_instances(first.to_str().unwrap(), &Part::Tables(8, 10_000), 1);
    std::fs::write(&path, &component).unwrap();
    std::fs::write(folder.join("events.jsonl"), "{\"kind\":\"versions.which\",\"payload\":{},\"user\":\"alice\"}\n")
        .unwrap();

    let path = path.to_str().unwrap();
    let tried = app.settings().run(&["plugin", "test", path, "events.jsonl", "--json"]).await.success();
    let tried: Value = serde_json::from_str(&tried).unwrap();
    let of_trial = number(&tried, "memory_bytes");

    app.operator().deploy(path).await;
    app.operator().activate("versions", "1.0.0", None, "").await;
    let mut socket = joined(&app).await.1;
    socket.acked(json!({"type": "versions.which"})).await;
    let of_metric = app.broker().metric("switchboard_plugin_memory_bytes", &["plugin=\"versions\""]).await;
    println!("declared beside its own: {DECLARED}, plugin test: {of_trial}, metric: {of_metric}");
    assert!((DECLARED..DECLARED + (3 << 20)).contains(&of_trial), "{of_trial}");
    assert!((of_metric - of_trial as f64).abs() < 1.0, "{of_metric}");
}

#[tokio::test]
async fn the_start_of_an_instance_counts_into_no_event() {
    const LONG: &str = "starts for 200";
    let app = App::start(Settings::embedded()).await;
    let operator = app.operator();
    operator.deploy(plugin("versions")).await;
    let checked = app.settings().run(&["plugin", "check", plugin("versions"), "--init", LONG]).await;
    checked.success();
    operator.activate("versions", "1.0.0", None, LONG).await;
    // An event has 50 ms of processor time and 250 ms in all.
    for name in ["acme", "globex", "initech"] {
        let tenant = app.tenant(name).await;
        let alice = tenant.member("alice").await;
        let lobby = tenant.channel("lobby", &[&alice]).await;
        let mut socket = alice.join(&lobby).await;
        for _ in 0..3 {
            socket.acked(json!({"type": "versions.which"})).await;
            assert_eq!(socket.next_of("versions.answer").await["message"]["content"], format!("1.0.0 {LONG}"));
        }
    }
    let starts = app.broker().metric("switchboard_plugin_start_seconds_count", &["plugin=\"versions\""]).await;
    assert!((starts - 3.0).abs() < 0.1, "one for each tenant, {starts}");
}

#[tokio::test]
async fn what_does_not_start_in_time_is_never_in_force() {
    let app = App::start(Settings::embedded()).await;
    let operator = app.operator();
    operator.deploy(plugin("versions")).await;
    operator.activate("versions", "1.0.0", None, "as before").await;
    let (status, answer) = operator.try_activate("versions", "1.0.0", None, "starts for 100000").await;
    let line = text(&answer["error"], "message");
    println!("{status}: {line}");
    assert_eq!(status, 422, "{answer}");
    assert!(line.contains("1 s of processor time") && !line.contains('\n'), "{line}");
    let mut socket = joined(&app).await.1;
    socket.acked(json!({"type": "versions.which"})).await;
    assert_eq!(socket.next_of("versions.answer").await["message"]["content"], "1.0.0 as before");
}

/// One text of a mebibyte, twenty thousand times, and 64 MiB of random bytes: both are refused before the host has them.
#[tokio::test]
async fn what_a_guest_has_copied_at_once_is_bounded() {
    let app = App::start(Settings::embedded().with("SWITCHBOARD_PLUGIN", plugin("hostile"))).await;
    app.operator().be_patient_with("hostile").await;
    let mut socket = joined(&app).await.1;
    socket.acked(json!({"type": "hostile.calls"})).await;
    for (kind, said) in [("hostile.alias", "effect_kib"), ("hostile.random", "random")] {
        app.broker().peak_memory();
        let before = app.broker().memory();
        let error = socket.refused(json!({"type": kind})).await;
        assert_eq!(error["code"], 202, "{error}");
        let more = app.broker().peak_memory().saturating_sub(before);
        println!("{kind}: at most {} more", mib(more));
        assert!(more <= MARGIN, "{kind}: {}", mib(more));
        app.broker().logged(said).await;
    }
    let used = app.broker().metric("switchboard_plugin_cpu_microseconds_total", &["plugin=\"hostile\""]).await;
    figure("processor time of both, ms", used / 1_000.0, Goal::AtMost(150.0));
}

async fn joined(app: &App) -> (Member, Socket) {
    let acme = app.tenant("acme").await;
    let alice = acme.member("alice").await;
    let lobby = acme.channel("lobby", &[&alice]).await;
    let socket = alice.join(&lobby).await;
    (alice, socket)
}
