//! What a broken or a hostile client may send: every answer is bounded and exact, and a bad frame costs no connection.

use serde_json::{Value, json};
use switchboard_tests::raw::{CONTINUE, CONTINUE_END, PING, RawSocket, TEXT, TEXT_BEGIN, request};
use switchboard_tests::{App, Channel, Member, number};

const MAX_FRAME: usize = 64 * 1024;
const MAX_READ: usize = 256 * 1024;

struct Room {
    app: App,
    alice: Member,
    bob: Member,
    lobby: Channel,
}

impl Room {
    async fn open() -> Self {
        Self::at(App::embedded().await).await
    }

    async fn at(app: App) -> Self {
        let acme = app.tenant("acme").await;
        let (alice, bob) = (acme.member("alice").await, acme.member("bob").await);
        let lobby = acme.channel("lobby", &[&alice, &bob]).await;
        Self { app, alice, bob, lobby }
    }

    async fn raw(&self) -> RawSocket {
        let path = format!("/ws/chat/{}/?token={}", self.lobby.id, self.alice.token);
        let mut raw = RawSocket::open(self.app.door().address(), &path).await;
        raw.text_with("channel.state").await;
        raw
    }
}

/// A `chat.message` of exactly this many bytes.
fn message_of(bytes: usize) -> String {
    let frame = |text: &str| format!(r#"{{"type":"chat.message","id":"big","message":"{text}"}}"#);
    frame(&"x".repeat(bytes - frame("").len()))
}

#[tokio::test]
async fn a_malformed_frame_is_107_and_the_conversation_goes_on() {
    let room = Room::open().await;
    let mut sockets = [room.alice.join(&room.lobby).await, room.alice.connect().await];
    let deep = format!(r#"{{"type":"chat.message","message":{}1{}}}"#, "[".repeat(20_000), "]".repeat(20_000));
    let long_id = format!(r#"{{"type":"ping","id":"{}"}}"#, "x".repeat(65));
    let frames = [
        "",
        " ",
        "nonsense",
        "{",
        "null",
        "5",
        r#""text""#,
        "[]",
        r#"[{"type":"ping"}]"#,
        "{}",
        r#"{"type":null}"#,
        r#"{"type":5}"#,
        r#"{"type":["ping"]}"#,
        r#"{"type":{"type":"ping"}}"#,
        r#"{"id":"only"}"#,
        r#"{"type":"ping","id":5}"#,
        r#"{"type":"ping","id":""}"#,
        r#"{"type":"ping","id":{}}"#,
        r#"{"type":"ping","id":"\u0000"}"#,
        r#"{"type":"ping","type":"typing"}"#,
        r#"{"type":"ping"} {"type":"ping"}"#,
        r#"{"type":"chat.message","message":"\u0000"}"#,
        r#"{"type":"auth.refresh"}"#,
        r#"{"type":"auth.refresh","token":5}"#,
        &long_id,
        &deep,
    ];
    for socket in &mut sockets {
        for frame in frames {
            socket.send_text(frame).await;
            let error = socket.next_of("error").await;
            let start: String = frame.chars().take(60).collect();
            assert_eq!((&error["code"], &error["name"]), (&json!(107), &json!("bad_request")), "{start}: {error}");
            assert_eq!(error["retryable"], false);
        }
        socket.acked(json!({"type": "ping"})).await;
    }
    assert_eq!(sockets[0].say("still here").await["seq"], 1);
}

#[tokio::test]
async fn a_chat_message_with_a_senseless_body_is_refused() {
    let room = Room::open().await;
    let mut a = room.alice.join(&room.lobby).await;
    let bodies = [
        json!({}),
        json!({"message": null}),
        json!({"message": 5}),
        json!({"message": []}),
        json!({"message": {}}),
        json!({"message": {"content": 5}}),
        json!({"message": {"content": "x", "reply_to": 5}}),
        json!({"message": {"content": "x", "reply_to": "no id"}}),
        json!({"message": {"content": "x", "attachments": "none"}}),
        json!({"message": {"content": "x", "attachments": [1, 2]}}),
    ];
    for mut body in bodies {
        body["type"] = json!("chat.message");
        let error = a.refused(body.clone()).await;
        assert!(matches!(error["code"].as_u64(), Some(107 | 200)), "{body}: {error}");
    }
    assert_eq!(a.say("sense").await["seq"], 1);
}

#[tokio::test]
async fn names_of_any_script_and_any_escapes_come_back_as_they_were() {
    let room = Room::open().await;
    let (mut a, mut b) = (room.alice.join(&room.lobby).await, room.bob.join(&room.lobby).await);
    for message in ["naïve 東京 🦀 \u{202e}", "\"quoted\" \\ / \n\t\r", "{\"type\":\"ack\"}", "\\u0000", "</script>"]
    {
        a.say(message).await;
        assert_eq!(b.next_of("chat.message").await["message"]["content"], message);
    }
}

#[tokio::test]
async fn an_unknown_type_is_104() {
    let room = Room::open().await;
    let mut a = room.alice.join(&room.lobby).await;
    for kind in ["no.such.type", "Chat.Message", "chat message", "../chat", "", &"x".repeat(65), "ack", "error"] {
        let error = a.refused(json!({"type": kind})).await;
        assert_eq!((&error["code"], &error["name"]), (&json!(104), &json!("unknown_type")), "{kind}: {error}");
    }
}

#[tokio::test]
async fn a_client_cannot_announce_that_someone_joined_or_left() {
    let room = Room::open().await;
    let mut b = room.bob.join(&room.lobby).await;
    let mut a = room.alice.join(&room.lobby).await;
    // The only one that is true: it may come after the join itself was answered.
    b.next_of("user.join").await;
    for kind in ["user.join", "user.leave", "channel.state", "subscribed"] {
        let error = a.refused(json!({"type": kind, "user": room.bob.as_json()})).await;
        assert!(matches!(error["code"].as_u64(), Some(103 | 104)), "{kind}: {error}");
        a.say("a mark").await;
        b.next_of("chat.message").await;
        b.expect_silence(kind).await;
    }
}

#[tokio::test]
async fn sixty_four_kib_are_read_and_one_byte_more_is_refused() {
    let room = Room::open().await;
    let mut a = room.alice.join(&room.lobby).await;
    let largest = message_of(MAX_FRAME);
    assert_eq!(largest.len(), MAX_FRAME);
    a.send_text(&largest).await;
    let answer = a.next_where("an answer", |frame| frame["id"] == "big").await;
    assert_ne!(answer["code"], 204, "the handler may refuse it, the broker may not: {answer}");

    for bytes in [MAX_FRAME + 1, MAX_READ] {
        a.send_text(&message_of(bytes)).await;
        let error = a.next_of("error").await;
        assert_eq!((&error["code"], &error["name"]), (&json!(204), &json!("too_large")), "{bytes}: {error}");
    }
    a.say("still here").await;
}

#[tokio::test]
async fn beyond_what_is_read_at_all_the_socket_closes_with_1009() {
    let room = Room::open().await;
    let mut whole = room.alice.join(&room.lobby).await;
    whole.send_text(&message_of(MAX_READ + 1)).await;
    assert_eq!(whole.expect_close().await.code, 1009);

    let mut in_parts = room.raw().await;
    in_parts.send(TEXT_BEGIN, &[b'x'; 60_000]).await;
    for _ in 0..5 {
        in_parts.send(CONTINUE, &[b'x'; 60_000]).await;
    }
    assert_eq!(in_parts.expect_close().await.code, 1009, "the bound is one of messages, not of frames");

    let mut claimed = room.raw().await;
    claimed.send_claim(TEXT, 1 << 40).await;
    assert_eq!(claimed.expect_close().await.code, 1009, "a length is not believed before it is paid");
}

#[tokio::test]
async fn a_binary_message_closes_with_1003() {
    let room = Room::open().await;
    for mut socket in [room.alice.join(&room.lobby).await, room.alice.connect().await] {
        socket.send_binary(br#"{"type":"ping"}"#).await;
        assert_eq!(socket.expect_close().await.code, 1003);
    }
}

#[tokio::test]
async fn a_length_in_more_bytes_than_it_needs_closes_with_1002() {
    let room = Room::open().await;
    for header in [&[TEXT, 0xFE, 0, 2][..], &[TEXT, 0xFF, 0, 0, 0, 0, 0, 0, 0, 2]] {
        let mut raw = room.raw().await;
        raw.send_bytes(&[header, &[0; 4], b"{}"].concat()).await;
        assert_eq!(raw.expect_close().await.code, 1002);
    }
}

#[tokio::test]
async fn text_that_is_not_utf_8_closes_with_1007() {
    let room = Room::open().await;
    let frame = b"{\"type\":\"chat.message\",\"message\":\"\xC3\x28\"}";
    let mut whole = room.raw().await;
    whole.send(TEXT, frame).await;
    assert_eq!(whole.expect_close().await.code, 1007);
    let mut in_parts = room.raw().await;
    in_parts.send(TEXT_BEGIN, &frame[..10]).await;
    in_parts.send(CONTINUE_END, &frame[10..]).await;
    assert_eq!(in_parts.expect_close().await.code, 1007);
    let mut unfinished = room.raw().await;
    unfinished.send(TEXT_BEGIN, &frame[..frame.len() - 1]).await;
    assert_eq!(unfinished.expect_close().await.code, 1007, "its end is not waited for");
}

#[tokio::test]
async fn a_message_in_parts_is_one_message() {
    let room = Room::open().await;
    let mut raw = room.raw().await;
    // The cut goes through the two bytes of `ü`, and a ping may come between parts.
    let frame = r#"{"type":"chat.message","id":"parts","message":"für alle"}"#.as_bytes();
    let cut = frame.iter().position(|byte| *byte == 0xC3).expect("there is an ü") + 1;
    raw.send(TEXT_BEGIN, &frame[..cut]).await;
    raw.send(PING, b"are you there?").await;
    assert_eq!(raw.pong().await, b"are you there?");
    raw.send(CONTINUE, &frame[cut..cut + 2]).await;
    raw.send(CONTINUE_END, &frame[cut + 2..]).await;
    let ack: Value = serde_json::from_str(&raw.text_with("\"ack\"").await).expect("frames are JSON");
    assert_eq!((&ack["id"], &ack["seq"]), (&json!("parts"), &json!(1)));
    assert_eq!(room.bob.join(&room.lobby).await.greeting["messages"][0]["content"], "für alle");
}

#[tokio::test]
async fn what_breaks_rfc_6455_closes_with_1002() {
    let room = Room::open().await;
    let ping = br#"{"type":"ping"}"#;

    let mut unmasked = room.raw().await;
    unmasked.send_unmasked(TEXT, ping).await;
    assert_eq!(unmasked.expect_close().await.code, 1002, "a frame that is not masked");

    for (what, first, payload) in [
        ("a reserved bit", TEXT | 0x40, &ping[..]),
        ("a reserved opcode", 0x83, &ping[..]),
        ("a reserved control opcode", 0x8B, &b""[..]),
        ("a ping in parts", PING & 0x7F, &b""[..]),
        ("a ping that is too long", PING, &[0; 126][..]),
        ("a continuation of nothing", CONTINUE_END, &ping[..]),
    ] {
        let mut raw = room.raw().await;
        raw.send(first, payload).await;
        assert_eq!(raw.expect_close().await.code, 1002, "{what}");
    }

    let mut interrupted = room.raw().await;
    interrupted.send(TEXT_BEGIN, &ping[..5]).await;
    interrupted.send(TEXT, ping).await;
    assert_eq!(interrupted.expect_close().await.code, 1002, "a message within a message");
}

#[tokio::test]
async fn json_that_some_client_cannot_read_is_refused_embedded() {
    json_that_some_client_cannot_read_is_refused(App::embedded().await).await;
}

#[tokio::test]
async fn json_that_some_client_cannot_read_is_refused_on_postgres() {
    json_that_some_client_cannot_read_is_refused(App::postgres().await).await;
}

/// By a socket and over HTTP alike; and what is taken is passed on and kept as it was written.
async fn json_that_some_client_cannot_read_is_refused(app: App) {
    let room = Room::at(app).await;
    let mut socket = room.alice.join(&room.lobby).await;
    let mut witness = room.raw().await;
    let with = |n: usize, value: &str| {
        let said = format!(r#"{{"content":"look","attachments":[{{"a":{value}}}]}}"#);
        format!(r#"{{"type":"chat.message","id":"c{n}","message":{said}}}"#)
    };
    let deep = "[".repeat(9_000) + &"]".repeat(9_000);
    let digits = "7".repeat(5_000);
    let unfit =
        [deep.as_str(), digits.as_str(), r#""\ud83d""#, r#"{"\ude00":1}"#, "1e400", "-1e999", r#"{"b":1,"b":2}"#];
    for (n, value) in unfit.into_iter().enumerate() {
        let frame = with(n, value);
        socket.send_text(&frame).await;
        let error = socket.next_of("error").await;
        assert_eq!((&error["id"], &error["code"]), (&json!(format!("c{n}")), &json!(107)), "{value:.80}: {error}");
        assert_eq!(posted(&room, &frame).await, "400", "{value:.80}");
    }
    assert_eq!(room.alice.history(&room.lobby).await, [] as [Value; 0]);

    // A double holds these, or they are integers of 20 digits.
    let kept = r#"[12345678901234567890,-99999999999999999999,1.10,1E+2,"\ud83d\ude00"]"#;
    socket.send_text(&with(100, kept)).await;
    assert_eq!(number(&socket.next_of("ack").await, "seq"), 1);
    let heard = witness.text_with(r#""type":"chat.message""#).await;
    assert!(heard.contains(kept) || heard.contains(&kept.replace("\\ud83d\\ude00", "\u{1F600}")), "{heard}");
    assert_eq!(posted(&room, &with(101, kept)).await, "201");
    // Sent again with another number it is another request, though a double cannot tell them apart.
    assert_eq!(posted(&room, &with(101, &kept.replace("67890,", "67891,"))).await, "409");
    assert_eq!(posted(&room, &with(101, kept)).await, "200");
    assert_eq!(room.bob.history(&room.lobby).await.len(), 2);
    room.bob.join(&room.lobby).await;
}

/// The status of a posted frame.
async fn posted(room: &Room, body: &str) -> String {
    let head = format!(
        "POST {} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        room.lobby.path("messages/"),
        room.alice.token,
        body.len()
    );
    let (_, answer) = request(room.app.door().address(), &head).await;
    answer.split_whitespace().nth(1).expect("a status").to_owned()
}
