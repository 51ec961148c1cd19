//! How the broker runs plugins, seen from outside: what is tried out and fails goes, what is compared has no effect, and
//! instances live as long as operators say.

use serde_json::json;
use switchboard_tests::{
    App, Member, Operator, Settings, Socket, Tenant, compile_within, eventually, list, plugin, plugin_with,
    plugin_with_names, text, with_much_code,
};
use tokio::process::Command;

/// Functions that take a compiler some seconds.
const MUCH: u32 = 200;

struct Office {
    app: App,
    operator: Operator,
    acme: Tenant,
    alice: Member,
    socket: Socket,
}

async fn office(settings: Settings) -> Office {
    let app = App::start(settings).await;
    let acme = app.tenant("acme").await;
    let alice = acme.member("alice").await;
    let lobby = acme.channel("lobby", &[&alice]).await;
    let socket = alice.join(&lobby).await;
    Office { operator: app.operator(), app, acme, alice, socket }
}

impl Office {
    /// With two versions of a plugin, of which the first is in force.
    async fn with_versions(other: &'static str) -> Self {
        // They are compiled before the broker is asked anything, or it would close connections that say nothing meanwhile.
        let versions = [plugin("versions"), plugin_with("versions", other)];
        let office = office(Settings::embedded()).await;
        for version in versions {
            office.operator.deploy(version).await;
        }
        office.operator.activate("versions", "1.0.0", None, "").await;
        office
    }

    /// Tries a version out on nearly all channels. The socket is in one of its channels, in which it just handled an event.
    async fn canary(&mut self, version: &str, is_its: impl AsyncFn(&mut Socket) -> bool) -> Socket {
        self.operator.canary("versions", version, None, 99).await;
        for _ in 0..MOST_CALLS {
            let room = self.acme.channel("room", &[&self.alice]).await;
            let mut socket = self.alice.join(&room).await;
            if is_its(&mut socket).await {
                return socket;
            }
        }
        panic!("no channel is the canary's")
    }

    /// Why the broker dropped a canary, as its audit says.
    async fn dropped(&self, version: &str) -> String {
        let audit = self.operator.audit().await;
        let line = audit.iter().find(|line| line["action"] == "canary-dropped").expect("its line in the audit");
        assert_eq!((&line["actor"], &line["result"]), (&json!("broker"), &json!("ok")), "{line}");
        let from = text(line, "from");
        assert!(from.contains(version), "{line}");
        from.to_owned()
    }
}

/// Frames until what is waited for must have come.
const MOST_CALLS: usize = 400;

/// Which version handles an event of this socket now; the name of the error when none does.
async fn which(socket: &mut Socket) -> String {
    let frame = socket.request(json!({"type": "versions.which"})).await;
    if frame["type"] == "error" {
        return text(&frame, "name").to_owned();
    }
    text(&socket.next_of("versions.answer").await["message"], "content").to_owned()
}

/// How many events an instance has had, this one included.
async fn calls(socket: &mut Socket) -> String {
    socket.acked(json!({"type": "hostile.calls"})).await;
    text(&socket.next_of("chat.message").await["message"], "content").to_owned()
}

#[tokio::test]
async fn a_canary_that_traps_is_dropped_and_the_stable_version_takes_its_channels() {
    let mut office = Office::with_versions("traps").await;
    for _ in 0..25 {
        assert_eq!(which(&mut office.socket).await, "1.0.0");
    }
    let mut socket = office.canary("6.0.0", async |socket| which(socket).await == "handler_failed").await;
    let mut trapped = 1;
    while which(&mut socket).await == "handler_failed" {
        trapped += 1;
        assert!(trapped < MOST_CALLS, "the canary is not dropped");
    }
    assert_eq!(which(&mut socket).await, "1.0.0");
    let reason = office.dropped("6.0.0").await;
    println!("dropped after {trapped} traps: {reason}");
    assert!(reason.contains("calls failed"), "{reason}");
    let labels = ["action=\"canary-dropped\"", "result=\"ok\""];
    assert_eq!(office.app.broker().metric("switchboard_plugin_changes_total", &labels).await, 1.0);
}

#[tokio::test]
async fn a_canary_that_is_slow_is_dropped() {
    let mut office = Office::with_versions("slow").await;
    for _ in 0..200 {
        assert_eq!(which(&mut office.socket).await, "1.0.0");
    }
    let mut socket = office.canary("7.0.0", async |socket| which(socket).await == "7.0.0").await;
    let mut slow = 1;
    while which(&mut socket).await == "7.0.0" {
        slow += 1;
        assert!(slow < MOST_CALLS, "the canary is not dropped");
    }
    let reason = office.dropped("7.0.0").await;
    println!("dropped after {slow} calls of 40 ms: {reason}");
    assert!(reason.contains("99th percentile"), "{reason}");
    assert_eq!(which(&mut socket).await, "1.0.0");
}

#[tokio::test]
async fn a_shadow_that_loops_is_given_no_more_than_its_queue_holds() {
    const EVENTS: u32 = 600;
    const QUEUE: f64 = 256.0;
    let mut office = Office::with_versions("loops").await;
    // Each of its calls takes so long that it is not given up before its queue is full.
    office.operator.limit("versions", &office.acme, "cpu_ms", 1_000).await;
    office.operator.limit("versions", &office.acme, "wall_ms", 5_000).await;
    office.operator.shadow("versions", "8.0.0", None).await;
    for _ in 0..EVENTS {
        assert_eq!(which(&mut office.socket).await, "1.0.0", "what is in force has nothing of it");
    }
    let shadow = async |result: &str| {
        let labels = ["plugin=\"versions\"".to_owned(), format!("result=\"{result}\"")];
        let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
        office.app.broker().metric("switchboard_plugin_shadow_total", &labels).await
    };
    eventually("it is stopped", async || shadow("failed").await > 0.0).await;
    let (dropped, failed) = (shadow("dropped").await, shadow("failed").await);
    println!("of {EVENTS} events {failed} were stopped in the shadow and {dropped} were left out");
    assert!(dropped > 0.0 && shadow("same").await + shadow("differs").await == 0.0);
    // One more may be under way.
    assert!(f64::from(EVENTS) - dropped - failed <= QUEUE + 1.0, "no more wait than may");
    // Nobody is told of it, and the circuit of what is in force stays closed.
    assert_eq!(which(&mut office.socket).await, "1.0.0");
    assert!(office.operator.audit().await.iter().all(|line| line["actor"] != "broker"));
}

#[tokio::test]
async fn a_shadow_is_compared_and_nothing_of_what_it_asks_for_is_done() {
    let mut office = Office::with_versions("two").await;
    office.operator.shadow("versions", "2.0.0", None).await;
    for _ in 0..5 {
        assert_eq!(which(&mut office.socket).await, "1.0.0");
    }
    let labels = ["plugin=\"versions\"", "result=\"differs\""];
    eventually("each event is compared", async || {
        office.app.broker().metric("switchboard_plugin_shadow_total", &labels).await >= 5.0
    })
    .await;
    let logs = office.operator.logs("versions").await;
    assert!(logs.iter().any(|line| text(line, "text").contains("shadow of versions.which: effect 1 of 1")), "{logs:?}");
    let channels = list(&office.alice.get("/api/channels/").await.1, "results").to_vec();
    let path = format!("/api/channels/{}/messages/", text(&channels[0], "id"));
    let history = office.alice.get(&path).await.1;
    let answers: Vec<&str> = list(&history, "results").iter().map(|message| text(message, "content")).collect();
    assert_eq!(answers, ["1.0.0"; 5], "one answer an event, and the stable one's");
}

#[tokio::test]
async fn operators_choose_whether_an_instance_has_more_than_one_event() {
    let mut office = office(Settings::embedded().with("SWITCHBOARD_PLUGIN", plugin("hostile"))).await;
    office.operator.be_patient_with("hostile").await;
    assert_eq!([calls(&mut office.socket).await, calls(&mut office.socket).await], ["1", "2"]);
    office.operator.limit("hostile", &office.acme, "fresh", 1).await;
    // The warm instance that was there may not serve this call, for it had two events.
    assert_eq!([calls(&mut office.socket).await, calls(&mut office.socket).await], ["1", "1"]);
    office.operator.limit("hostile", &office.acme, "fresh", None).await;
    assert_eq!([calls(&mut office.socket).await, calls(&mut office.socket).await], ["1", "2"]);
}

#[tokio::test]
async fn a_swap_ends_the_instances_of_the_version_before() {
    let mut office = Office::with_versions("two").await;
    let instances = async |office: &Office, version: &str| {
        let labels = ["plugin=\"versions\"".to_owned(), format!("version=\"{version}\"")];
        let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
        office.app.broker().metric("switchboard_plugin_instances", &labels).await
    };
    assert_eq!(which(&mut office.socket).await, "1.0.0");
    assert_eq!(instances(&office, "1.0.0").await, 1.0, "it is kept warm");
    office.operator.activate("versions", "2.0.0", None, "").await;
    assert_eq!(which(&mut office.socket).await, "2.0.0");
    eventually("the one before is gone", async || instances(&office, "1.0.0").await == 0.0).await;
    assert_eq!(instances(&office, "2.0.0").await, 1.0);
}

#[tokio::test]
async fn a_trap_is_in_the_plugins_log_with_names_of_functions_and_not_in_an_answer() {
    let mut office = office(Settings::embedded().with("SWITCHBOARD_PLUGIN", plugin_with_names("hostile"))).await;
    let error = office.socket.refused(json!({"type": "hostile.trap"})).await;
    assert_eq!((&error["code"], &error["message"]), (&json!(202), &json!("the handler failed")));
    let logs = office.operator.logs("hostile").await;
    let trap = logs.iter().map(|line| text(line, "text")).find(|line| line.contains("wasm backtrace"));
    let trap = trap.unwrap_or_else(|| panic!("no backtrace: {logs:?}"));
    println!("{trap}");
    assert!(trap.contains("Hostile as ") && trap.contains("::handle"), "{trap}");
}

#[tokio::test]
async fn a_plugin_that_has_no_room_left_fails_alone_and_its_log_says_why() {
    let mut office = office(Settings::embedded().with("SWITCHBOARD_PLUGIN", plugin("poll"))).await;
    office.operator.be_patient_with("poll").await;
    let mut polls = Vec::new();
    for question in ["Lunch?", "Dinner?"] {
        let create = json!({"type": "poll.create", "question": question, "options": ["soup", "salad"]});
        polls.push(text(&office.socket.acked(create).await, "message_id").to_owned());
    }
    let [lunch, dinner] = [0, 1].map(|at| json!({"type": "poll.vote", "poll_id": polls[at], "option": 0}));
    office.socket.acked(lunch.clone()).await;
    // The votes on lunch are under a key; all others are taken, as far as the tenant's account of them goes.
    let file = office.app.settings().data().join("tenants").join(format!("{}.db", office.acme.slug));
    let account = |keys: u32| {
        let database = rusqlite::Connection::open(&file).unwrap();
        let changed = database.execute("UPDATE plugin_usage SET keys = ?1 WHERE plugin = 'poll'", [keys]);
        assert_eq!(changed, Ok(1), "it has an account");
    };
    account(100_000);
    let error = office.socket.refused(dinner.clone()).await;
    assert_eq!((&error["code"], &error["message"]), (&json!(202), &json!("the handler failed")));
    let logs = office.operator.logs("poll").await;
    let full = "`poll.vote` failed: its keys and values would exceed 100000 keys or 64 MiB in this tenant";
    assert!(logs.iter().any(|line| text(line, "text") == full), "{logs:?}");
    // What is there can still be changed, others go on, and with room the event is handled.
    office.socket.acked(lunch).await;
    office.socket.say("never mind").await;
    account(1);
    office.socket.acked(dinner).await;
}

#[test]
fn a_compiler_that_wants_more_memory_or_time_than_it_may_have_ends_with_nothing() {
    let component = with_much_code(plugin("versions"), MUCH);
    let (ended, code) = compile_within(&component, 2 << 30, 60);
    assert!(ended.success() && code > 0, "{ended}, {code} bytes");
    for (memory, seconds) in [(48 << 20, 60), (2 << 30, 1)] {
        let (ended, code) = compile_within(&component, memory, seconds);
        println!("with {} MiB and {seconds} s: {ended}", memory >> 20);
        assert!(!ended.success(), "{ended}");
        assert_eq!(code, 0, "nothing that could be taken for machine code");
    }
}

#[tokio::test]
async fn a_compiler_that_is_killed_costs_one_deployment_and_the_next_one_works() {
    let (component, slow) = (plugin("versions"), with_much_code(plugin("versions"), MUCH));
    let mut office = office(Settings::embedded()).await;
    let operator = office.operator.clone();
    let deployment = tokio::spawn(async move { operator.upload(slow).await });
    let mut compiler = Vec::new();
    eventually("it is being compiled", async || {
        compiler = office.app.broker().children();
        !compiler.is_empty()
    })
    .await;
    office.socket.say("the broker goes on").await;
    let pid = compiler[0].to_string();
    assert!(Command::new("kill").args(["-s", "KILL", &pid]).status().await.unwrap().success(), "it still ran");
    let (status, answer) = deployment.await.unwrap();
    let line = text(&answer["error"], "message");
    println!("{status}: {line}");
    assert!((400..500).contains(&status) && line.contains("does not compile within") && !line.contains('\n'), "{line}");
    office.operator.deploy(component).await;
    office.operator.activate("versions", "1.0.0", None, "").await;
    assert_eq!(which(&mut office.socket).await, "1.0.0");
}

#[tokio::test]
async fn a_shadow_of_a_plugin_that_watches_is_told_of_stored_messages_too() {
    let component = plugin("hostile");
    let mut office = office(Settings::embedded().with("SWITCHBOARD_PLUGIN", component)).await;
    office.operator.deploy(component).await;
    office.operator.grant("hostile", None, &["history", "members", "presence", "kv", "log"]).await;
    let version = env!("CARGO_PKG_VERSION");
    office.operator.shadow("hostile", version, None).await;
    office.socket.acked(json!({"type": "hostile.watched", "how": "hello"})).await;
    office.socket.next_of("hostile.answer").await;
    let labels = ["plugin=\"hostile\"", "result=\"same\""];
    eventually("the event and the stored message are compared", async || {
        office.app.broker().metric("switchboard_plugin_shadow_total", &labels).await >= 2.0
    })
    .await;
    office.socket.expect_silence("hostile.answer").await;
}
