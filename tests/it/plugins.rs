//! What handlers are trusted with, and what becomes of one that misbehaves: it harms its own event and nothing else.

use serde_json::{Value, json};
use switchboard_tests::{App, Channel, Member, Settings, Socket, list, plugin};

struct Office {
    app: App,
    alice: Member,
    lobby: Channel,
    socket: Socket,
}

async fn office(settings: Settings) -> Office {
    let app = App::start(settings).await;
    let acme = app.tenant("acme").await;
    let alice = acme.member("alice").await;
    let lobby = acme.channel("lobby", &[&alice]).await;
    let socket = alice.join(&lobby).await;
    Office { app, alice, lobby, socket }
}

async fn with_hostile() -> Office {
    let office = office(Settings::embedded().with("SWITCHBOARD_PLUGIN", plugin("hostile"))).await;
    office.app.operator().be_patient_with("hostile").await;
    office
}

async fn stored(office: &Office) -> Vec<Value> {
    let (_, page) = office.alice.get(&office.lobby.path("messages/")).await;
    list(&page, "results").to_vec()
}

#[tokio::test]
async fn without_plugins_the_broker_knows_no_message_type() {
    let mut office = office(Settings::embedded().with("SWITCHBOARD_BUILTIN_PLUGINS", "false")).await;
    for frame in [
        json!({"type": "chat.message", "message": "hi"}),
        json!({"type": "typing", "is_typing": true}),
        json!({"type": "message.read", "message_id": "01a208f1-d77a-7917-9190-95d8c9c5e8fb"}),
        json!({"type": "user.join"}),
        json!({"type": "user.leave"}),
    ] {
        let error = office.socket.refused(frame.clone()).await;
        assert_eq!(error["code"], 104, "{frame}: {error}");
    }
    let _second = office.alice.join(&office.lobby).await;
    office.socket.expect_silence("user.join").await;
    assert!(stored(&office).await.is_empty());
}

#[tokio::test]
async fn a_plugin_that_misbehaves_is_stopped_and_harms_its_own_event_only() {
    let mut office = with_hostile().await;
    for (kind, code) in [
        ("hostile.trap", 202),
        ("hostile.loop", 201),
        ("hostile.grow", 202),
        ("hostile.recurse", 202),
        ("hostile.many", 202),
        ("hostile.big", 202),
        ("hostile.alias", 202),
        ("hostile.random", 202),
        ("hostile.half", 107),
    ] {
        let error = office.socket.refused(json!({"type": kind})).await;
        assert_eq!(error["code"], code, "{kind}: {error}");
        let text = error.to_string();
        assert!(!text.contains("secret") && !text.contains("wasm"), "nothing of its inside is told: {text}");
        assert!(stored(&office).await.is_empty(), "{kind} left something behind");
    }
    let ack = office.socket.say("the others go on").await;
    assert_eq!(ack["seq"], 1, "no number was used up");
    // Its operator reads why it trapped.
    office.app.broker().logged("a secret of the plugin").await;
    let log = office.app.broker().stderr();
    assert!(log.contains("hostile"), "and which plugin it was");
}

#[tokio::test]
async fn an_ephemeral_event_of_a_broken_handler_is_dropped_silently_unless_it_asks() {
    let mut office = with_hostile().await;
    office.socket.send_json(json!({"type": "hostile.drop"})).await;
    office.socket.expect_silence("error").await;
    let error = office.socket.refused(json!({"type": "hostile.drop"})).await;
    assert_eq!(error["code"], 202);
}

#[tokio::test]
async fn host_reads_and_log_lines_are_counted() {
    let mut office = with_hostile().await;
    office.socket.acked(json!({"type": "hostile.reads"})).await;
    let said = office.socket.next_of("chat.message").await;
    assert_eq!(said["message"]["content"], "32", "as many reads as the limits say");
    office.socket.acked(json!({"type": "hostile.print"})).await;
    office.app.broker().logged("printed line").await;
    let log = office.app.broker().stderr();
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("printed line")).collect();
    assert!((1..=20).contains(&lines.len()), "{} lines", lines.len());
    assert!(lines.iter().all(|line| line.len() < 2_000), "each is cut");
}

#[tokio::test]
async fn an_instance_lives_on_after_a_refusal_and_ends_with_a_trap() {
    let mut office = with_hostile().await;
    let mut count = async |kind: &str| {
        if kind != "hostile.calls" {
            office.socket.refused(json!({"type": kind, "is_typing": true})).await;
        }
        office.socket.acked(json!({"type": "hostile.calls"})).await;
        office.socket.next_of("chat.message").await["message"]["content"].clone()
    };
    assert_eq!(count("hostile.calls").await, "1");
    assert_eq!(count("typing").await, "3", "a refusal is an answer like any other");
    assert_eq!(count("hostile.trap").await, "1", "a new instance, with nothing of the broken one");
}

#[tokio::test]
async fn a_loaded_plugin_takes_over_the_kinds_it_describes() {
    let mut office = with_hostile().await;
    let error = office.socket.refused(json!({"type": "typing", "is_typing": true})).await;
    assert_eq!((&error["code"], &error["message"]), (&json!(200), &json!("typing is mine now")));
    office.socket.say("the rest stays as it was").await;
}

#[tokio::test]
async fn one_tenants_instances_are_not_anothers() {
    let mut ours = with_hostile().await;
    let apex = ours.app.tenant("apex").await;
    let carol = apex.member("carol").await;
    let hall = apex.channel("hall", &[&carol]).await;
    let mut theirs = carol.join(&hall).await;
    for _ in 0..3 {
        ours.socket.acked(json!({"type": "hostile.calls"})).await;
    }
    theirs.acked(json!({"type": "hostile.calls"})).await;
    assert_eq!(theirs.next_of("chat.message").await["message"]["content"], "1", "what they keep in memory is apart");
}

#[tokio::test]
async fn what_is_no_plugin_ends_the_start_with_one_line() {
    let settings = Settings::bare();
    let rubbish = settings.folder().path().join("rubbish.wasm");
    let module = settings.folder().path().join("module.wasm");
    let foreign = settings.folder().path().join("foreign.wasm");
    std::fs::write(&rubbish, "rubbish").unwrap();
    std::fs::write(&module, b"\0asm\x01\0\0\0").unwrap();
    std::fs::write(&foreign, b"\0asm\x0d\0\x01\0").unwrap();
    for (path, reason) in [
        (rubbish.as_path(), "not a WebAssembly component"),
        (&module, "wasm32-wasip2"),
        (&foreign, "handler"),
        (&settings.folder().path().join("missing.wasm"), "missing.wasm"),
    ] {
        let path = path.to_str().expect("a path in UTF-8");
        let exit = settings
            .run(&["serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--plugin", path])
            .await;
        let error: Vec<&str> = exit.stderr.lines().filter(|line| line.starts_with("error: ")).collect();
        assert_eq!((exit.code(), error.len()), (Some(1), 1), "{exit:?}");
        assert!(error[0].contains(reason) && error[0].contains(path), "{error:?}");
        assert!(!exit.stderr.contains("panicked"), "{exit:?}");
    }
}

/// Each of the slow calls is stopped after its 50 ms, and they come one after the other: a second of work in one channel.
#[tokio::test]
async fn a_slow_handler_in_one_channel_delays_neither_pings_nor_other_channels() {
    const SLOW: usize = 20;
    let app = App::start(Settings::embedded().with("SWITCHBOARD_PLUGIN", plugin("hostile"))).await;
    let acme = app.tenant("acme").await;
    let alice = acme.member("alice").await;
    let (slow, quick) = (acme.channel("slow", &[&alice]).await, acme.channel("quick", &[&alice]).await);
    let mut socket = alice.connect().await;
    socket.subscribe(&slow).await;
    socket.subscribe(&quick).await;
    for n in 0..SLOW {
        let frame = json!({"type": "hostile.loop", "channel": slow.id, "id": format!("slow {n}")});
        socket.send_json(frame).await;
    }
    assert_eq!(socket.say_in(&quick, "on we go").await["seq"], 1);
    socket.acked(json!({"type": "ping"})).await;
    let last = format!("slow {}", SLOW - 1);
    socket.expect_none("the last answer of the slow channel", |frame| frame["id"] == last.as_str()).await;
    for n in 0..SLOW {
        let error = socket.next_of("error").await;
        assert_eq!((&error["id"], &error["code"]), (&json!(format!("slow {n}")), &json!(201)), "in order");
    }
}
