//! What is no proper WebSocket upgrade gets a plain HTTP answer.

use switchboard_tests::raw::{request, upgrade};
use switchboard_tests::{App, Settings, Socket};

#[tokio::test]
async fn an_upgrade_must_say_all_that_rfc_6455_asks_for() {
    let app = App::embedded().await;
    for (line, instead) in [
        ("Connection: Upgrade\r\n", ""),
        ("Connection: Upgrade\r\n", "Connection: keep-alive\r\n"),
        ("Upgrade: websocket\r\n", ""),
        ("Upgrade: websocket\r\n", "Upgrade: h2c\r\n"),
        ("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", ""),
        ("Sec-WebSocket-Version: 13\r\n", ""),
        ("Sec-WebSocket-Version: 13\r\n", "Sec-WebSocket-Version: 12\r\n"),
    ] {
        let head = upgrade("/ws/");
        assert!(head.contains(line), "{line}");
        let (_, answer) = request(app.door().address(), &head.replace(line, instead)).await;
        let status: u16 = answer[9..12].parse().expect("a status line");
        assert!(matches!(status, 400 | 426), "{line:?} replaced by {instead:?}: {answer}");
    }
}

#[tokio::test]
async fn a_page_of_a_foreign_origin_is_refused() {
    let app = App::start(Settings::embedded().with("SWITCHBOARD_ALLOWED_ORIGIN", "https://chat.example")).await;
    let address = app.door().address();
    for (origin, allowed) in [
        ("https://chat.example", true),
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
