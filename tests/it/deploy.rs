//! What operators are promised: one line for what cannot be, one generation for each event, and nodes that agree.

use serde_json::{Value, json};
use switchboard_tests::{
    App, Channel, Cluster, DEADLINE, Member, Operator, Settings, Socket, eventually, list, number, plugin, plugin_with,
    text,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

struct Office {
    app: App,
    operator: Operator,
    acme: switchboard_tests::Tenant,
    alice: Member,
    lobby: Channel,
    socket: Socket,
}

async fn office(app: App) -> Office {
    let acme = app.tenant("acme").await;
    let alice = acme.member("alice").await;
    let lobby = acme.channel("lobby", &[&alice]).await;
    let socket = alice.join(&lobby).await;
    Office { operator: app.operator(), app, acme, alice, lobby, socket }
}

/// Which version handles an event of this socket now; the name of the error when none does.
async fn which(socket: &mut Socket) -> String {
    let frame = socket.request(json!({"type": "versions.which"})).await;
    if frame["type"] == "error" {
        return text(&frame, "name").to_owned();
    }
    text(&socket.next_of("versions.answer").await["message"], "content").to_owned()
}

#[tokio::test]
async fn what_is_not_fit_is_refused_with_one_line_and_changes_nothing() {
    let office = office(App::embedded().await).await;
    let operator = &office.operator;
    operator.deploy(plugin("versions")).await;
    operator.activate("versions", "1.0.0", None, "").await;
    let before = operator.plugin("versions").await;

    let read = |path: &str| std::fs::read(path).unwrap();
    let largest = vec![0; (32 << 20) + 1];
    for (what, bytes, words) in [
        ("rubbish", b"rubbish rubbish".to_vec(), "not a WebAssembly component"),
        ("nothing", Vec::new(), "not a WebAssembly component"),
        ("a core module", b"\0asm\x01\0\0\0".to_vec(), "wasm32-wasip2"),
        ("a component of another world", b"\0asm\x0d\0\x01\0".to_vec(), "handler"),
        ("half a component", read(plugin("versions"))[..5_000].to_vec(), ""),
        ("one with a socket", read(plugin_with("versions", "sockets")), "wasi:sockets"),
        ("one that is too large", largest, "33554432 bytes"),
        ("other bytes of a version", read(plugin_with("versions", "other")), "raise the version"),
    ] {
        let (status, answer) = operator.upload(bytes).await;
        let line = text(&answer["error"], "message");
        println!("{what}: {line}");
        assert!((400..500).contains(&status), "{what}: {status} {answer}");
        assert!(line.contains(words) && !line.contains('\n'), "{what}: {line}");
    }
    assert_eq!(operator.plugin("versions").await, before);
    let mut socket = office.socket;
    assert_eq!(which(&mut socket).await, "1.0.0", "what runs goes on");
}

#[tokio::test]
async fn a_version_that_does_not_start_is_not_put_in_force() {
    let mut office = office(App::embedded().await).await;
    let operator = &office.operator;
    for component in [plugin("versions"), plugin_with("versions", "fails"), plugin_with("versions", "kv")] {
        operator.deploy(component).await;
    }
    operator.activate("versions", "1.0.0", None, "").await;
    let before = operator.plugin("versions").await["routes"].clone();
    for (version, config, words) in [
        ("3.0.0", "", "its database"),
        ("1.0.0", "wrong", "`wrong` is no configuration"),
        ("4.0.0", "", "switchboard plugin grants versions --add kv"),
        ("9.0.0", "", "available: 1.0.0, 3.0.0, 4.0.0"),
    ] {
        let (status, answer) = operator.try_activate("versions", version, None, config).await;
        let line = text(&answer["error"], "message");
        println!("{version} with `{config}`: {line}");
        assert_eq!(status, 422, "{answer}");
        assert!(line.contains(words) && !line.contains('\n'), "{line}");
    }
    assert_eq!(operator.plugin("versions").await["routes"], before);
    assert_eq!(which(&mut office.socket).await, "1.0.0");
    operator.grant("versions", None, &["kv"]).await;
    operator.activate("versions", "4.0.0", None, "granted").await;
    assert_eq!(which(&mut office.socket).await, "4.0.0 granted");
}

/// A socket is open through all of it.
#[tokio::test]
async fn versions_come_and_go_and_the_socket_stays() {
    let mut office = office(App::embedded().await).await;
    let (operator, socket) = (&office.operator, &mut office.socket);
    assert_eq!(which(socket).await, "unknown_type");
    operator.deploy(plugin("versions")).await;
    assert_eq!(which(socket).await, "unknown_type", "what is deployed handles nothing");
    let outcome = operator.activate("versions", "1.0.0", None, "first").await;
    assert_eq!(text(&outcome, "reach"), "in force on 1 of 1 nodes");
    assert_eq!(which(socket).await, "1.0.0 first", "from the answer on, everywhere");
    operator.deploy(plugin_with("versions", "two")).await;
    let began = Instant::now();
    let body = json!({"version": "2.0.0"});
    let (status, outcome) = operator.post("/api/plugins/versions/activate/", body).await;
    println!("activate: {} ms to the answer", began.elapsed().as_millis());
    assert_eq!((status, text(&outcome, "from")), (200, "nothing, versions 1.0.0 (generation 1)"));
    assert_eq!(which(socket).await, "2.0.0 first", "the configuration stays");
    operator.rollback("versions", None).await;
    assert_eq!(which(socket).await, "1.0.0 first");
    operator.disable("versions", None).await;
    assert_eq!(which(socket).await, "unknown_type");
    operator.rollback("versions", None).await;
    assert_eq!(which(socket).await, "1.0.0 first");
    socket.say("and what is built in goes on").await;
    operator.disable("chat-message", None).await;
    assert_eq!(socket.refused(json!({"type": "chat.message", "message": "hi"})).await["code"], 104);
    operator.activate("chat-message", "built-in", None, "").await;
    socket.say("back again").await;
}

#[tokio::test]
async fn what_is_decided_for_one_tenant_is_no_others() {
    let mut ours = office(App::embedded().await).await;
    let apex = ours.app.tenant("apex").await;
    let carol = apex.member("carol").await;
    let hall = apex.channel("hall", &[&carol]).await;
    let mut theirs = carol.join(&hall).await;
    let operator = &ours.operator;
    operator.deploy(plugin("versions")).await;
    operator.deploy(plugin_with("versions", "two")).await;
    operator.activate("versions", "1.0.0", &ours.acme, "").await;
    assert_eq!((which(&mut ours.socket).await, which(&mut theirs).await), ("1.0.0".into(), "unknown_type".into()));
    let outcome = operator.activate("versions", "2.0.0", None, "").await;
    assert!(outcome["notes"].to_string().contains("keep routes of their own"), "{outcome}");
    assert_eq!((which(&mut ours.socket).await, which(&mut theirs).await), ("1.0.0".into(), "2.0.0".into()));
    operator.follow("versions", &ours.acme).await;
    assert_eq!(which(&mut ours.socket).await, "2.0.0");
    let (status, answer) = operator.post("/api/plugins/versions/activate/", json!({"tenant": "nobody-here"})).await;
    assert_eq!(status, 422, "{answer}");
    assert!(text(&answer["error"], "message").contains("no tenant `nobody-here`"), "{answer}");
}

#[tokio::test]
async fn a_channel_stays_on_one_generation_of_a_canary() {
    const CHANNELS: usize = 40;
    let office = office(App::embedded().await).await;
    let operator = &office.operator;
    operator.deploy(plugin("versions")).await;
    operator.deploy(plugin_with("versions", "two")).await;
    operator.activate("versions", "1.0.0", None, "").await;
    let mut channels = Vec::new();
    for n in 0..CHANNELS {
        channels.push(office.acme.channel(&format!("room {n}"), &[&office.alice]).await);
    }
    let mut socket = office.alice.connect().await;
    for channel in &channels {
        socket.subscribe(channel).await;
    }
    let mut ask = async |channel: &Channel| {
        socket.acked(json!({"type": "versions.which", "channel": channel.id})).await;
        text(&socket.next_of("versions.answer").await["message"], "content").to_owned()
    };
    operator.canary("versions", "2.0.0", None, 50).await;
    let mut first = Vec::new();
    for channel in &channels {
        first.push(ask(channel).await);
    }
    let tried = first.iter().filter(|version| *version == "2.0.0").count();
    println!("{tried} of {CHANNELS} channels at 50%");
    // With 40 fair coins this fails once in 2^40.
    assert!((1..CHANNELS).contains(&tried), "{tried} of {CHANNELS}");
    for (channel, version) in channels.iter().zip(&first) {
        assert_eq!(ask(channel).await, *version, "each time the same");
    }
    operator.promote("versions", None).await;
    for channel in &channels {
        assert_eq!(ask(channel).await, "2.0.0");
    }
    operator.rollback("versions", None).await;
    assert_eq!(ask(&channels[0]).await, "1.0.0");
}

#[tokio::test]
async fn a_tenant_whose_events_trap_is_given_the_generation_before() {
    let mut office = office(App::embedded().await).await;
    let operator = &office.operator;
    operator.deploy(plugin("versions")).await;
    operator.deploy(plugin_with("versions", "traps")).await;
    operator.activate("versions", "1.0.0", None, "").await;
    operator.activate("versions", "6.0.0", None, "").await;
    for _ in 0..3 {
        assert_eq!(which(&mut office.socket).await, "handler_failed");
    }
    eventually("the circuit is in the audit", async || {
        operator.audit().await.iter().any(|line| line["action"] == "circuit" && line["actor"] == "broker")
    })
    .await;
    eventually("what ran before runs again", async || which(&mut office.socket).await == "1.0.0").await;
    let routes = operator.plugin("versions").await["routes"].clone();
    let for_all = routes.as_array().unwrap().iter().find(|route| route["tenant"].is_null()).unwrap();
    assert!(text(for_all, "stable").contains("6.0.0"), "nobody else is touched: {for_all}");
    assert!(office.app.broker().metric("switchboard_plugin_changes_total", &["action=\"circuit\""]).await >= 1.0);
}

#[tokio::test]
async fn everything_that_is_asked_for_has_its_line_in_the_audit() {
    let office = office(App::embedded().await).await;
    let operator = &office.operator;
    operator.upload(b"rubbish".to_vec()).await;
    operator.deploy(plugin("versions")).await;
    operator.deploy(plugin_with("versions", "two")).await;
    operator.try_activate("versions", "9.0.0", None, "").await;
    operator.activate("versions", "1.0.0", None, "").await;
    operator.canary("versions", "2.0.0", &office.acme, 10).await;
    operator.promote("versions", &office.acme).await;
    operator.follow("versions", &office.acme).await;
    operator.disable("versions", None).await;
    operator.rollback("versions", None).await;
    operator.grant("versions", None, &["kv"]).await;
    operator.limit("versions", &office.acme, "cpu_ms", 20).await;
    operator.policy("versions.which", None, "open").await;
    operator.consent(&office.acme, true).await;
    let audit = operator.audit().await;
    let lines: Vec<(&str, bool)> =
        audit.iter().rev().map(|line| (text(line, "action"), line["result"] == "ok")).collect();
    assert_eq!(
        lines,
        [
            ("deploy", false),
            ("deploy", true),
            ("deploy", true),
            ("activate", false),
            ("activate", true),
            ("canary", true),
            ("promote", true),
            ("follow", true),
            ("disable", true),
            ("rollback", true),
            ("grants", true),
            ("limits", true),
            ("policy", true),
            ("consent", true),
        ]
    );
    let ids: Vec<u64> = audit.iter().map(|line| number(line, "id")).collect();
    assert!(ids.is_sorted_by(|a, b| a > b), "latest first: {ids:?}");
    assert_eq!(audit[0]["tenant"], office.acme.slug.as_str());
    assert!(text(&audit[10], "result").contains("no version 9.0.0"), "{}", audit[10]);
}

#[tokio::test]
async fn a_restart_keeps_what_was_decided() {
    let mut office = office(App::embedded().await).await;
    office.operator.deploy(plugin("versions")).await;
    office.operator.activate("versions", "1.0.0", None, "kept").await;
    office.operator.disable("typing", &office.acme).await;
    assert_eq!(which(&mut office.socket).await, "1.0.0 kept");
    let (alice, lobby) = (office.alice, office.lobby);
    let app = office.app.crash().await;
    let mut socket = alice.at(app.door()).join(&lobby).await;
    assert_eq!(which(&mut socket).await, "1.0.0 kept");
    assert_eq!(socket.refused(json!({"type": "typing", "is_typing": true})).await["code"], 104);
    assert!(app.operator().audit().await.len() >= 3);
}

#[tokio::test]
async fn what_one_node_is_told_all_nodes_do() {
    let mut cluster = Cluster::two_nodes().await;
    let acme = cluster.tenant("acme").await;
    let alice = acme.member("alice").await;
    let lobby = acme.channel("lobby", &[&alice]).await;
    let mut here = alice.join(&lobby).await;
    let mut there = alice.at(cluster.b.door()).join(&lobby).await;
    let operator = cluster.a.operator();
    operator.deploy(plugin("versions")).await;
    operator.deploy(plugin_with("versions", "two")).await;
    let began = Instant::now();
    let outcome = operator.activate("versions", "1.0.0", None, "").await;
    println!("two nodes: {} ms from the command to the answer", began.elapsed().as_millis());
    assert_eq!(text(&outcome, "reach"), "in force on 2 of 2 nodes");
    // From the answer on, and not a moment later.
    assert_eq!((ask(&mut here).await, ask(&mut there).await), ("1.0.0".into(), "1.0.0".into()));
    let nodes = operator.nodes().await;
    assert_eq!(nodes.len(), 2, "{nodes:?}");

    let down = alice.at(cluster.b.door());
    cluster.b.kill().await;
    eventually_dead(&operator).await;
    let outcome = cluster.a.operator().activate("versions", "2.0.0", None, "").await;
    assert_eq!(text(&outcome, "reach"), "in force on 1 of 1 nodes");
    cluster.b.start_again().await;
    let mut back = down.at(cluster.b.door()).join(&lobby).await;
    assert_eq!(ask(&mut back).await, "2.0.0", "a node handles nothing before it knows what is decided");
    let began = Instant::now();
    let outcome = cluster.b.operator().rollback("versions", None).await;
    println!("{}: {} ms from the command to the answer", text(&outcome, "reach"), began.elapsed().as_millis());
    assert_eq!((ask(&mut here).await, ask(&mut back).await), ("1.0.0".into(), "1.0.0".into()));
}

/// As [`which`], where others are answered in the same channel.
async fn ask(socket: &mut Socket) -> String {
    let ack = socket.acked(json!({"type": "versions.which"})).await;
    let answer = socket.next_where("the answer to this socket", |frame| frame["seq"] == ack["seq"]).await;
    text(&answer["message"], "content").to_owned()
}

/// A node that says nothing any more is soon not counted.
async fn eventually_dead(operator: &Operator) {
    eventually("the dead node is not counted", async || operator.nodes().await.len() == 1).await;
}

#[tokio::test]
async fn two_desks_on_postgres_at_once_lose_no_change() {
    const EACH: u64 = 10;
    let cluster = Cluster::two_nodes().await;
    let acme = cluster.tenant("acme").await;
    let both = [cluster.a.operator(), cluster.b.operator()];
    both[0].deploy(plugin("versions")).await;
    let names = ["cpu_ms", "reads"];
    let change = async |at: usize| {
        for n in 1..=EACH {
            both[at].limit("versions", &acme, names[at], n + 5).await;
        }
    };
    tokio::join!(change(0), change(1));
    let (_, limits) = both[0].get("/api/plugins/versions/limits/").await;
    assert_eq!(list(&limits, "results")[0]["limits"], json!({"cpu_ms": EACH + 5, "reads": EACH + 5}));
    let audit = both[0].audit().await;
    assert_eq!(audit.iter().filter(|line| line["action"] == "limits" && line["result"] == "ok").count(), 20);
}

#[tokio::test]
async fn without_the_token_nothing_is_read_and_nothing_told() {
    let office = office(App::embedded().await).await;
    let (status, answer) = office.operator.with_token("another-token-altogether").upload(b"rubbish".to_vec()).await;
    assert_eq!((status, &answer["error"]["code"]), (401, &json!("unauthorized")));
    assert_eq!(office.operator.with_token("x").get("/api/plugins/nothing/").await.0, 401, "also for what is not there");

    // A body is claimed and never sent: the answer comes all the same, and without an invitation to send it.
    for expect in ["", "Expect: 100-continue\r\n"] {
        let mut stream = TcpStream::connect(office.operator.address()).await.unwrap();
        let head = format!("POST /api/plugins/ HTTP/1.1\r\nHost: x\r\nContent-Length: 30000000\r\n{expect}\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let answer = until_closed(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
        assert!(answer.to_lowercase().contains("connection: close"), "{answer}");
    }
    for (path, status) in [("/livez", 200), ("/readyz", 200), ("/metrics", 200), ("/api/openapi.json", 200)] {
        assert_eq!(office.operator.with_token("x").get(path).await.0, status, "{path} needs none");
    }
    assert_eq!(office.operator.audit().await, Vec::<Value>::new(), "who is nobody leaves no line");
}

async fn until_closed(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    timeout(DEADLINE, stream.read_to_end(&mut answer)).await.expect("an answer and an end").unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

/// Who sends all of a large body before it listens hears the refusal, and not that the connection broke.
#[tokio::test]
async fn who_sends_first_and_listens_later_hears_the_refusal() {
    let app = App::embedded().await;
    let mut stream = TcpStream::connect(app.operator().address()).await.unwrap();
    let body = vec![0; 4 << 20];
    let head = format!("POST /api/plugins/ HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).await.unwrap();
    timeout(DEADLINE, stream.write_all(&body)).await.expect("it is taken").expect("the connection holds");
    let answer = until_closed(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
}

#[tokio::test]
async fn a_log_is_kept_and_followed() {
    let mut office = office(App::embedded().await).await;
    let operator = &office.operator;
    operator.deploy(plugin("versions")).await;
    operator.activate("versions", "1.0.0", None, "").await;
    which(&mut office.socket).await;
    let lines = operator.logs("versions").await;
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert_eq!(
        (&lines[0]["text"], &lines[0]["tenant"], &lines[0]["version"]),
        (&json!("versions.which by 1.0.0"), &json!(office.acme.slug), &json!("1.0.0"))
    );
    let mut stream = TcpStream::connect(operator.address()).await.unwrap();
    let request = format!(
        "GET /api/plugins/versions/logs/?follow=true&tail=0 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\r\n",
        switchboard_tests::ADMIN_TOKEN
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut heard = String::new();
    let mut piece = [0; 4_096];
    let reading = async {
        while !heard.contains("by 1.0.0") {
            let read = stream.read(&mut piece).await.unwrap();
            assert!(read > 0, "the broker ended it: {heard}");
            heard.push_str(&String::from_utf8_lossy(&piece[..read]));
            if heard.ends_with("\r\n\r\n") {
                which(&mut office.socket).await;
            }
        }
    };
    timeout(DEADLINE, reading).await.expect("a follower hears of a new line");
    assert_eq!(operator.get("/api/plugins/nothing/logs/").await.0, 404);
}

#[tokio::test]
async fn the_command_line_says_it_in_words() {
    let office = office(App::embedded().await).await;
    let operator = &office.operator;
    let said = async |arguments: &[&str]| operator.command(arguments).await.success();
    let deployed = said(&["deploy", plugin("versions")]).await;
    for word in ["versions 1.0.0 is deployed", "versions.which", "wants    log", "activate versions --version 1.0.0"] {
        assert!(deployed.contains(word), "no `{word}` in\n{deployed}");
    }
    let activated = said(&["activate", "versions", "--init", "hello"]).await;
    assert!(activated.contains("versions for all tenants: versions 1.0.0") && activated.contains("on 1 of 1 nodes"));
    let listed = said(&["list"]).await;
    assert!(
        listed.contains("chat-message") && listed.contains("versions 1.0.0 (generation 1) for all tenants"),
        "{listed}"
    );
    let audit = said(&["audit"]).await;
    assert!(audit.contains("olga@"), "{audit}");
    assert!(said(&["limits", "versions", "cpu_ms=20"]).await.contains("cpu_ms=20"));
    assert!(said(&["show", "versions"]).await.contains("cpu_ms=20"));
    for (arguments, words) in [
        (vec!["activate", "nothing"], "there is no plugin `nothing`"),
        (vec!["deploy", "/no/such.wasm"], "failed to read /no/such.wasm"),
        (vec!["limits", "versions", "speed=5"], "speed"),
    ] {
        let exit = operator.command(&arguments).await;
        assert_eq!((exit.code(), exit.stderr.lines().count()), (Some(1), 1), "{exit:?}");
        assert!(exit.stderr.starts_with("error: ") && exit.stderr.contains(words), "{exit:?}");
    }
    let lost = operator.with_token("not-the-token-at-all").command(&["list"]).await;
    assert_eq!(lost.code(), Some(1));
    assert!(lost.stderr.contains("token"), "{lost:?}");
}

#[tokio::test]
async fn an_embedded_broker_makes_its_token_and_says_where() {
    use std::os::unix::fs::PermissionsExt;

    let app = App::start(Settings::bare()).await;
    let path = app.settings().data().join("admin-token");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let said = app.broker().printed("admin-token").await;
    assert!(said.contains(path.to_str().unwrap()), "{said}");
    assert_eq!(app.operator().get("/api/plugins/").await.0, 200);
    let token = std::fs::read_to_string(&path).unwrap();
    assert!(!app.broker().stdout().contains(token.trim()) && !app.broker().stderr().contains(token.trim()));
}
