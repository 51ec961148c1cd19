//! What operators are let do and told, over their API and with the commands that use it.

use std::net::SocketAddr;

use reqwest::Method;
use serde_json::{Value, json};
use switchboard_tests::{ADMIN_TOKEN, App, Broker, Database, Exit, Settings, Signal, keys, list, plugin, raw, text};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// More than any component has.
const HUGE: u64 = 1 << 40;

/// The head of a request that deploys, whose body is yet to come.
fn deployment(headers: &str) -> String {
    format!("POST /api/plugins/ HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n")
}

fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\n")
}

/// What comes after the head of an answer until the broker hangs up.
async fn until_the_end(mut stream: TcpStream) -> String {
    let mut rest = Vec::new();
    let reading = stream.read_to_end(&mut rest);
    let read = tokio::time::timeout(switchboard_tests::DEADLINE, reading).await;
    read.expect("the broker hangs up").expect("and does so in order");
    String::from_utf8(rest).expect("JSON")
}

async fn refused(address: SocketAddr, head: &str) -> (String, Value) {
    let (stream, answer) = raw::request(address, head).await;
    let body = until_the_end(stream).await;
    (answer, serde_json::from_str(&body).unwrap_or_else(|_| panic!("no JSON: {body}")))
}

#[tokio::test]
async fn without_the_token_no_byte_of_a_body_is_waited_for() {
    let app = App::embedded().await;
    let address = app.operator().address();
    let cut = &ADMIN_TOKEN[..ADMIN_TOKEN.len() - 1];
    for authorization in
        ["", &bearer("a-token-of-somebody-else"), &bearer(cut), &format!("Authorization: {ADMIN_TOKEN}\r\n")]
    {
        for body in [
            "Content-Length: 9000000\r\n",
            "Content-Length: 9000000\r\nExpect: 100-continue\r\n",
            "Transfer-Encoding: chunked\r\n",
        ] {
            let (head, answer) = refused(address, &deployment(&format!("{authorization}{body}"))).await;
            assert!(head.starts_with("HTTP/1.1 401 "), "{authorization}{body}: {head}");
            assert!(head.to_lowercase().contains("www-authenticate: bearer"), "{head}");
            assert_eq!(answer["error"]["code"], "unauthorized", "{answer}");
            assert!(!answer.to_string().contains(ADMIN_TOKEN));
        }
    }
    // Whoever has it is asked for the body.
    let head = deployment(&format!("{}Content-Length: 9000000\r\nExpect: 100-continue\r\n", bearer(ADMIN_TOKEN)));
    let (_stream, answer) = raw::request(address, &head).await;
    assert!(answer.starts_with("HTTP/1.1 100 "), "{answer}");
}

#[tokio::test]
async fn a_component_that_says_it_is_too_large_is_not_read_and_one_that_becomes_so_is_cut_off() {
    let app = App::embedded().await;
    let address = app.operator().address();
    let head = deployment(&format!("{}Content-Length: {HUGE}\r\nExpect: 100-continue\r\n", bearer(ADMIN_TOKEN)));
    let (_stream, answer) = raw::request(address, &head).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");

    let head = deployment(&format!("{}Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n", bearer(ADMIN_TOKEN)));
    let (stream, answer) = raw::request(address, &head).await;
    assert!(answer.starts_with("HTTP/1.1 100 "), "{answer}");
    let (mut reads, mut writes) = stream.into_split();
    let sending = tokio::spawn(async move {
        let piece = [b"100000\r\n".as_slice(), &vec![0; 1 << 20], b"\r\n"].concat();
        let mut sent: u64 = 0;
        // Without an end of its own: the broker puts one to it.
        while writes.write_all(&piece).await.is_ok() {
            sent += 1;
        }
        sent
    });
    let mut first = [0; 13];
    let answer = tokio::time::timeout(switchboard_tests::DEADLINE, reads.read_exact(&mut first)).await;
    answer.expect("an answer in time").expect("an answer");
    assert_eq!(&first, b"HTTP/1.1 413 ");
    drop(reads);
    println!("hung up after {} MiB", sending.await.expect("the sender ends"));
}

#[tokio::test]
async fn a_broker_on_postgres_without_a_token_says_what_to_set_and_serves_on() {
    let database = Database::create().await;
    let settings = Settings::embedded().with("SWITCHBOARD_DATABASE_URL", &database.url());
    let app = App::start(settings.without("SWITCHBOARD_ADMIN_TOKEN")).await;
    let head = format!("GET /api/plugins/ HTTP/1.1\r\nHost: localhost\r\n{}\r\n", bearer(ADMIN_TOKEN));
    let (head, answer) = refused(app.broker().admin_address(), &head).await;
    assert!(head.starts_with("HTTP/1.1 403 "), "{head}");
    assert!(text(&answer["error"], "message").contains("SWITCHBOARD_ADMIN_TOKEN"), "{answer}");
    let checked = app.settings().run(&["config", "check"]).await.success();
    assert!(checked.lines().any(|line| line.contains("admin-token") && line.contains("none")), "{checked}");
    app.tenant("acme").await.member("alice").await;
}

#[tokio::test]
async fn an_embedded_broker_makes_a_token_that_the_commands_find() {
    let settings = Settings::bare();
    let broker = Broker::start(&settings).await;
    let banner = broker.printed("/api/plugins/").await;
    assert!(banner.contains("admin-token"), "{banner}");
    let url = format!("http://{}", broker.admin_address());
    let plugins = settings.run(&["plugin", "list", "--admin-url", &url]).await.success();
    assert!(plugins.contains("chat-message") || plugins.contains("typing"), "{plugins}");
    let token = std::fs::read_to_string(settings.data().join("admin-token")).expect("the token is kept");
    assert!(token.trim().len() >= 32, "it is long");
    assert!(!broker.stderr().contains(token.trim()) && !broker.stdout().contains(token.trim()), "it is told nobody");
    assert_eq!(broker.stop(Signal::Terminate).await.code(), Some(0));
    let again = Broker::start(&settings).await;
    let url = format!("http://{}", again.admin_address());
    settings.run(&["plugin", "nodes", "--admin-url", &url]).await.success();
    assert_eq!(std::fs::read_to_string(settings.data().join("admin-token")).ok(), Some(token), "it stays the same");
}

#[tokio::test]
async fn the_description_and_the_broker_have_the_same_routes_and_methods() {
    let app = App::embedded().await;
    let operator = app.operator();
    let (status, document) = operator.with_token("none at all").get("/api/openapi.json").await;
    assert_eq!(status, 200, "it needs no token");
    assert_eq!(text(&document, "openapi").split('.').next(), Some("3"));
    let mut seen = 0;
    for path in keys(&document["paths"]) {
        // Nothing of this name is there, so that nothing is changed.
        let real = path.replace("{name}", "nothing").replace("{kind}", "nothing").replace("{tenant}", "nothing");
        for method in [Method::GET, Method::PUT, Method::POST, Method::PATCH, Method::DELETE] {
            let described = &document["paths"][path][method.as_str().to_lowercase()];
            let (status, answer) = operator.request(method.clone(), &real).await;
            assert_eq!(described.is_object(), status != 405, "{method} {path}: {status} {answer}");
            assert_eq!(operator.with_token("wrong").request(method.clone(), &real).await.0, 401, "{method} {path}");
            if described.is_object() {
                seen += 1;
                assert!(!text(described, "summary").is_empty(), "{method} {path}");
                assert!(described["responses"]["default"].is_object(), "{method} {path}");
            }
        }
    }
    println!("{seen} routes");
    assert!(seen >= 20, "{seen}");
    assert_eq!(operator.get("/api/nowhere/").await.0, 404);
}

#[tokio::test]
async fn what_is_not_understood_is_named() {
    let app = App::embedded().await;
    let operator = app.operator();
    let error = |(status, answer): (u16, Value), expected: u16| {
        assert_eq!(status, expected, "{answer}");
        let form = keys(&answer["error"]);
        assert!(
            matches!(*form, ["code", "field", "message", "retryable"] | ["code", "message", "retryable"]),
            "{answer}"
        );
        let message = text(&answer["error"], "message").to_owned();
        assert!(!message.contains('\n') && message.len() < 400, "one line: {message}");
        (message, answer["error"]["field"].clone())
    };
    let activate = "/api/plugins/typing/activate/";
    let (message, field) = error(operator.post(activate, json!({"vresion": "1"})).await, 400);
    assert!(message.contains("`vresion`") && field == "vresion", "{message} {field}");
    let (_, field) = error(operator.get("/api/audit/?bevore=3").await, 400);
    assert_eq!(field, "bevore");
    error(operator.get("/api/audit/?limit=many").await, 400);
    error(operator.post(activate, json!([])).await, 400);
    error(operator.post(activate, json!({"tenant": "No Slug"})).await, 400);
    let (message, _) = error(operator.post(activate, json!({"tenant": "nowhere"})).await, 422);
    assert!(message.contains("nowhere"), "{message}");
    for path in ["activate", "canary", "shadow", "promote", "rollback", "disable", "follow"] {
        let (message, _) = error(operator.post(&format!("/api/plugins/nothing/{path}/"), json!({})).await, 404);
        assert!(message.contains("`nothing`"), "{message}");
    }
    for path in ["", "logs/", "grants/", "limits/"] {
        error(operator.get(&format!("/api/plugins/nothing/{path}")).await, 404);
        error(operator.get(&format!("/api/plugins/No%20Name%0a/{path}")).await, 404);
    }
    let (message, _) = error(operator.upload(b"<html></html>".to_vec()).await, 422);
    assert!(message.contains("not a WebAssembly component"), "{message}");
    let (message, _) = error(operator.put("/api/plugins/typing/limits/", json!({"values": {"memory": 1}})).await, 422);
    assert!(message.contains("`memory`") && message.contains("memory_mib"), "{message}");
    let (message, _) = error(operator.put("/api/plugins/typing/grants/", json!({"add": ["disk"]})).await, 400);
    assert!(message.contains("`disk`"), "{message}");
    for (actor, expected) in [("olga", "422"), ("broker", "400"), (&*"x".repeat(101), "400")] {
        let head = format!(
            "POST /api/plugins/typing/rollback/ HTTP/1.1\r\nHost: localhost\r\n{}Switchboard-Actor: {actor}\r\n\
             Content-Length: 0\r\n\r\n",
            bearer(ADMIN_TOKEN)
        );
        let (_, answer) = raw::request(operator.address(), &head).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {expected} ")), "{actor}: {answer}");
    }
    assert_eq!(operator.audit().await[0]["actor"], "olga", "who asks is written down");
    assert!(operator.audit().await.iter().all(|line| line["result"] != "ok"), "nothing was changed");
}

/// A command that did what it was asked, line by line.
fn lines(exit: Exit) -> Vec<String> {
    exit.success().lines().map(str::to_owned).collect()
}

fn one_line(exit: &Exit, parts: &[&str]) {
    assert_eq!(exit.code(), Some(1), "{exit:?}");
    assert_eq!(exit.stdout, "");
    assert_eq!(exit.stderr.trim_end().lines().count(), 1, "one line:\n{}", exit.stderr);
    for part in parts {
        assert!(exit.stderr.contains(part), "no `{part}` in {}", exit.stderr);
    }
}

#[tokio::test]
async fn a_plugin_is_deployed_granted_activated_and_disabled_with_commands() {
    let app = App::embedded().await;
    let operator = app.operator();
    let acme = app.tenant("acme").await;
    let alice = acme.member("alice").await;
    let lobby = acme.channel("lobby", &[&alice]).await;
    let mut socket = alice.join(&lobby).await;

    let said = lines(operator.command(&["deploy", plugin("hostile")]).await);
    assert!(said[0].starts_with("hostile "), "{said:?}");
    for part in ["digest", "kinds", "watches", "wants"] {
        assert!(said.iter().any(|line| line.trim_start().starts_with(part)), "no {part}: {said:?}");
    }
    let again = lines(operator.command(&["deploy", plugin("hostile")]).await);
    assert!(again[0].contains("already"), "{again:?}");
    assert_eq!(socket.refused(json!({"type": "hostile.trap"})).await["code"], 104, "deployed is not in force");

    let wants: Vec<String> = list(&operator.plugin("hostile").await["versions"][0], "wants")
        .iter()
        .filter_map(|want| want.as_str().filter(|want| *want != "log").map(str::to_owned))
        .collect();
    one_line(&operator.command(&["activate", "hostile"]).await, &[&wants[0], "grants"]);
    lines(operator.command(&["grants", "hostile", "--add", &wants.join(",")]).await);
    let slug = acme.slug.as_str();
    let said = lines(operator.command(&["activate", "hostile", "--tenant", slug]).await);
    assert!(said[0].contains(slug) && said.iter().any(|line| line.contains("1 of 1")), "{said:?}");
    let mut log = operator.listen("hostile").await;
    assert_eq!(socket.refused(json!({"type": "hostile.trap"})).await["code"], 202);
    loop {
        let line = log.next().await.expect("the trap is in the log");
        assert_eq!((text(&line, "plugin"), text(&line, "tenant")), ("hostile", slug), "{line}");
        if text(&line, "text").contains("a secret of the plugin") {
            break;
        }
    }
    let tail = lines(operator.command(&["logs", "hostile", "--tail", "50"]).await);
    assert!(tail.iter().any(|line| line.contains("a secret of the plugin")), "{tail:?}");

    for (arguments, part) in [
        (vec!["list"], "hostile"),
        (vec!["show", "hostile"], slug),
        (vec!["limits", "hostile", "--tenant", slug, "cpu_ms=20"], "cpu_ms"),
        (vec!["limits", "hostile"], "cpu_ms=20"),
        (vec!["grants", "hostile"], &wants[0]),
        (vec!["policy", "hostile.trap", "open", "--tenant", slug], "open"),
        (vec!["policy"], "hostile.trap"),
        (vec!["consent", slug, "on"], slug),
        (vec!["consent"], slug),
        (vec!["disable", "hostile", "--tenant", slug], "off"),
        (vec!["nodes"], "revision"),
    ] {
        let said = lines(operator.command(&arguments).await).join("\n");
        assert!(said.contains(part), "{arguments:?}: no `{part}` in\n{said}");
    }
    assert_eq!(socket.refused(json!({"type": "hostile.trap"})).await["code"], 104);
    lines(operator.command(&["rollback", "hostile", "--tenant", slug]).await);
    socket.acked(json!({"type": "hostile.calls"})).await;
    lines(operator.command(&["follow", "hostile", "--tenant", slug]).await);
    assert_eq!(socket.refused(json!({"type": "hostile.calls"})).await["code"], 104, "all have nothing of it");

    let audit = operator.audit().await;
    let actions: Vec<&str> = audit.iter().rev().map(|line| text(line, "action")).collect();
    println!("{actions:?}");
    assert_eq!(actions[..4], ["deploy", "deploy", "activate", "grants"], "{audit:?}");
    assert!(audit.iter().all(|line| text(line, "actor").starts_with("olga")), "{audit:?}");
    let page = operator.get("/api/audit/?limit=2").await.1;
    let next = operator.get(text(&page, "next")).await.1;
    assert_eq!(list(&next, "results")[0], audit[2], "pages follow one another");
    let shown = lines(operator.command(&["audit", "--limit", "3"]).await);
    assert_eq!(shown.len(), 3, "{shown:?}");

    let exit = app.stop(Signal::Terminate).await;
    assert_eq!(exit.code(), Some(0));
    while log.next().await.is_some() {}
    assert!(!exit.stderr.contains("before all sockets were closed"), "a follower holds no stop up");
    assert!(!exit.stderr.contains(ADMIN_TOKEN), "the token is not logged");
}

#[tokio::test]
async fn a_command_that_fails_says_in_one_line_what_to_do() {
    let app = App::embedded().await;
    let operator = app.operator();
    one_line(
        &operator.with_token("a-token-of-somebody-else").command(&["list"]).await,
        &["refused the token", "SWITCHBOARD_ADMIN_TOKEN"],
    );
    let big = app.settings().folder().path().join("big.wasm");
    std::fs::write(&big, vec![0; 40 << 20]).expect("a writable folder");
    let big = big.to_str().expect("a path in UTF-8");
    one_line(&operator.with_token("a-token-of-somebody-else").command(&["deploy", big]).await, &["refused the token"]);
    one_line(&operator.command(&["deploy", big]).await, &["33554432 bytes"]);
    one_line(&operator.command(&["deploy", "nowhere.wasm"]).await, &["nowhere.wasm"]);
    one_line(&operator.command(&["show", "nothing"]).await, &["`nothing`", "plugin list"]);
    one_line(&operator.command(&["limits", "typing", "cpu_ms"]).await, &["`cpu_ms`"]);

    let silent = app.settings().clone().with("SWITCHBOARD_ADMIN_URL", "http://127.0.0.1:1");
    one_line(&silent.run(&["plugin", "list"]).await, &["http://127.0.0.1:1", "is the broker running?"]);
    let other = silent.clone().with("SWITCHBOARD_ADMIN_URL", "ftp://localhost");
    one_line(&other.run(&["plugin", "list"]).await, &["--admin-url", "ftp://localhost"]);
    one_line(&Settings::bare().run(&["plugin", "list"]).await, &["SWITCHBOARD_ADMIN_TOKEN", "--admin-token-file"]);
    for wrong in [
        vec!["canary", "typing", "--percent", "some"],
        vec!["activate", "No Name"],
        vec!["follow", "typing"],
        vec!["promoot"],
    ] {
        assert_eq!(operator.command(&wrong).await.code(), Some(2), "{wrong:?}");
    }
}

#[tokio::test]
async fn each_verb_explains_itself_and_shows_no_secret() {
    let settings = Settings::embedded().with("SWITCHBOARD_DATABASE_URL", "postgres://someone:hunter2@127.0.0.1/chat");
    let help = settings.run(&["plugin", "--help"]).await.success();
    let verbs: Vec<&str> = help
        .lines()
        .skip_while(|line| !line.starts_with("Commands:"))
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.split_whitespace().next())
        .filter(|word| *word != "help")
        .collect();
    for verb in [
        "deploy", "list", "show", "activate", "canary", "shadow", "promote", "rollback", "disable", "follow", "logs",
        "grants", "limits", "policy", "consent", "audit", "nodes",
    ] {
        assert!(verbs.contains(&verb), "no {verb} in {verbs:?}");
    }
    for verb in verbs {
        let help = settings.run(&["plugin", verb, "--help"]).await.success();
        assert!(help.lines().next().is_some_and(|line| line.len() > 15), "{verb} says what it does:\n{help}");
        assert!(help.contains("Usage:"), "{help}");
        assert!(!help.contains(ADMIN_TOKEN) && !help.contains("hunter2"), "{verb} shows a secret:\n{help}");
    }
}
