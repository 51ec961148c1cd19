//! What is no proper request, or no proper WebSocket upgrade, gets a plain HTTP answer.

use switchboard_tests::raw::{request, upgrade};
use switchboard_tests::{App, DEADLINE, Settings, Socket};
use tokio::io::AsyncReadExt;
use tokio::time::timeout;

/// The status of the answer, and its whole head.
async fn answer(app: &App, head: &str) -> (u16, String) {
    let (_, answer) = request(app.door().address(), head).await;
    (answer[9..12].parse().expect("a status line"), answer.to_lowercase())
}

#[tokio::test]
async fn an_upgrade_must_say_all_that_rfc_6455_asks_for() {
    const KEY: &str = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    const VERSION: &str = "Sec-WebSocket-Version: 13\r\n";
    let app = App::embedded().await;
    let key = |key: &str| format!("Sec-WebSocket-Key: {key}\r\n");
    for (line, instead, status) in [
        ("HTTP/1.1", "HTTP/1.0".to_owned(), 400),
        ("Connection: Upgrade\r\n", String::new(), 400),
        ("Connection: Upgrade\r\n", "Connection: keep-alive\r\n".to_owned(), 400),
        ("Upgrade: websocket\r\n", String::new(), 400),
        ("Upgrade: websocket\r\n", "Upgrade: h2c\r\n".to_owned(), 400),
        (KEY, String::new(), 400),
        (KEY, KEY.repeat(2), 400),
        (KEY, key(""), 400),
        (KEY, key("dGhlIHNhbXBsZSBub25jZQ="), 400),
        (KEY, key("dGhlIHNhbXBsZSBub25jZQAA"), 400),
        (KEY, key("dGhlIHNhbXBsZSBub25j!Q=="), 400),
        (KEY, key("dGhlIHNhbXBsZSBub25jZWJlc2lkZXM="), 400),
        (KEY, format!("{KEY}Content-Length: 2\r\n"), 400),
        (KEY, format!("{KEY}Transfer-Encoding: chunked\r\n"), 400),
        (VERSION, String::new(), 426),
        (VERSION, "Sec-WebSocket-Version: 12\r\n".to_owned(), 426),
        (VERSION, VERSION.repeat(2), 400),
        (
            "Host: localhost\r\n",
            "Host: localhost\r\nOrigin: http://localhost\r\nOrigin: http://localhost\r\n".to_owned(),
            400,
        ),
        ("GET ", "POST ".to_owned(), 405),
    ] {
        let head = upgrade("/ws/");
        assert!(head.contains(line), "{line}");
        let (answered, answer) = answer(&app, &head.replace(line, &instead)).await;
        assert_eq!(answered, status, "{line:?} replaced by {instead:?}: {answer}");
        match status {
            // What would be right instead.
            426 => {
                assert!(answer.contains("sec-websocket-version: 13\r\n") && answer.contains("upgrade: websocket\r\n"));
            }
            405 => assert!(answer.contains("allow: get\r\n"), "{answer}"),
            _ => {}
        }
    }
    let (answered, answer) = answer(&app, &upgrade("/ws/").replace(KEY, &format!("{KEY}Content-Length: 0\r\n"))).await;
    assert_eq!(answered, 101, "a length of nothing is no body: {answer}");
}

#[tokio::test]
async fn a_request_must_say_once_which_host_it_is_for() {
    let app = App::embedded().await;
    for address in [app.door().address(), app.broker().admin_address()] {
        for (version, hosts, status) in [
            ("1.1", "Host: a.example:80\r\n", 200),
            ("1.0", "", 200),
            ("1.1", "", 400),
            ("1.1", "Host: a.example\r\nHost: a.example\r\n", 400),
            ("1.0", "Host: a.example\r\nHost: b.example\r\n", 400),
            ("1.1", "Host: \r\n", 400),
            ("1.1", "Host: me@a.example\r\n", 400),
            ("1.1", "Host: a.example:x\r\n", 400),
            ("1.1", "Host: a.example/x\r\n", 400),
        ] {
            let (_, answer) = request(address, &format!("GET /livez HTTP/{version}\r\n{hosts}\r\n")).await;
            let answered: u16 = answer[9..12].parse().expect("a status line");
            assert_eq!(answered, status, "{version} {hosts:?}: {answer}");
        }
    }
}

/// Two lengths are how one request is made to look like two to one reader, and like one to another.
#[tokio::test]
async fn a_request_with_two_lengths_is_the_last_of_its_connection() {
    let app = App::embedded().await;
    let inner = "GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let length = format!("Content-Length: {}\r\n", inner.len() + 5);
    let chunked = "Transfer-Encoding: chunked\r\n";
    for address in [app.door().address(), app.broker().admin_address()] {
        for (lengths, is_refused) in [
            (format!("{length}{chunked}"), false),
            (format!("{chunked}{length}"), false),
            (format!("{length}Content-Length: 3\r\n"), true),
            ("Transfer-Encoding: chunked, gzip\r\n".to_owned(), true),
            ("Content-Length: +5\r\n".to_owned(), true),
        ] {
            let head = format!("POST /api/token/ HTTP/1.1\r\nHost: localhost\r\n{lengths}\r\n0\r\n\r\n{inner}");
            let (mut stream, answer) = request(address, &head).await;
            assert!(!is_refused || answer.starts_with("HTTP/1.1 400 "), "{lengths}: {answer}");
            assert!(answer.starts_with("HTTP/1.1 4"), "{lengths}: {answer}");
            assert!(answer.to_lowercase().contains("connection: close\r\n"), "{lengths}: {answer}");
            let mut rest = String::new();
            let ended = timeout(DEADLINE, stream.read_to_string(&mut rest)).await.expect("the broker hangs up");
            assert!(ended.is_err() || !rest.contains("HTTP/1.1"), "{lengths}: a second answer: {rest}");
        }
    }
}

#[tokio::test]
async fn who_has_to_show_a_token_is_told_so() {
    let app = App::embedded().await;
    for (address, path) in [(app.door().address(), "/api/me/"), (app.broker().admin_address(), "/api/plugins/")] {
        let (_, answer) = request(address, &format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
        assert!(answer.to_lowercase().contains("www-authenticate: bearer\r\n"), "{answer}");
    }
}

#[tokio::test]
async fn a_page_of_a_foreign_origin_is_refused() {
    let app = App::start(Settings::embedded().with("SWITCHBOARD_ALLOWED_ORIGIN", " HTTPS://chat.example:443/")).await;
    let address = app.door().address();
    let own = format!("http://{address}");
    for (origin, allowed) in [
        ("https://chat.example", true),
        // The setting adds to the broker's own host.
        (own.as_str(), true),
        ("https://chat.example.evil.example", false),
        ("http://chat.example", false),
        ("https://evil.example", false),
        ("null", false),
    ] {
        let opened = Socket::open("a page", address, "/ws/", &[("origin", origin)]).await;
        match opened {
            Ok(_) => assert!(allowed, "{origin} was let in"),
            Err(refused) => assert_eq!((allowed, refused.status), (false, 403), "{origin}: {refused:?}"),
        }
    }
}

/// What a browser asks before a request of a page, and with it.
#[tokio::test]
async fn a_page_of_an_allowed_origin_may_use_the_routes() {
    let allowed = "https://chat.example, https://*.wide.example";
    let app = App::start(Settings::embedded().with("SWITCHBOARD_ALLOWED_ORIGIN", allowed)).await;
    let ask = async |method: &str, path: &str, origin: &str| {
        let asks =
            "Access-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: authorization,content-type\r\n";
        let asks = if method == "OPTIONS" { asks } else { "" };
        answer(&app, &format!("{method} {path} HTTP/1.1\r\nHost: own.example:443\r\nOrigin: {origin}\r\n{asks}\r\n"))
            .await
    };
    for origin in ["https://chat.example", "https://a.b.wide.example", "https://own.example"] {
        let named = format!("access-control-allow-origin: {origin}\r\n");
        let (status, before) = ask("OPTIONS", "/api/channels/", origin).await;
        assert_eq!(status, 204, "{before}");
        for part in [
            named.as_str(),
            "access-control-allow-methods: get,post,delete\r\n",
            "access-control-allow-headers: authorization,content-type\r\n",
            "access-control-max-age: 7200\r\n",
        ] {
            assert!(before.contains(part), "{part} in {before}");
        }
        // A refusal can be read too.
        let (status, answer) = ask("GET", "/api/me/", origin).await;
        assert_eq!(status, 401);
        assert!(answer.contains(&named) && answer.contains("access-control-expose-headers: retry-after"), "{answer}");
        for answer in [before, answer] {
            assert!(answer.contains("vary: origin"), "caches keep them apart: {answer}");
            assert!(!answer.contains("access-control-allow-credentials"), "{answer}");
        }
    }
    for origin in ["https://evil.example", "https://wide.example", "null"] {
        for method in ["OPTIONS", "GET"] {
            let (_, answer) = ask(method, "/api/me/", origin).await;
            assert!(!answer.contains("access-control-allow-origin"), "{origin}: {answer}");
            assert!(answer.contains("vary: origin"), "{origin}: {answer}");
        }
    }
    let (_, page) = ask("GET", "/livez", "https://chat.example").await;
    assert!(!page.contains("access-control-"), "only the routes of the API are for other pages: {page}");
}

#[tokio::test]
async fn by_default_a_page_must_come_from_the_broker_itself() {
    let app = App::embedded().await;
    let address = app.door().address();
    let own = format!("http://{address}");
    assert!(Socket::open("our page", address, "/ws/", &[("origin", &own)]).await.is_ok());
    let foreign = Socket::open("a page", address, "/ws/", &[("origin", "https://evil.example")]).await;
    assert_eq!(foreign.err().map(|refused| refused.status), Some(403));
}

#[tokio::test]
async fn a_path_that_is_no_socket_is_404() {
    let app = App::embedded().await;
    for path in ["/ws", "/ws/chat/", "/ws/other/", "/nothing"] {
        let opened = Socket::open("someone", app.door().address(), path, &[]).await;
        assert_eq!(opened.err().map(|refused| refused.status), Some(404), "{path}");
    }
}
