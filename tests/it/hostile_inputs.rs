//! A table of inputs that nobody sends who means well, byte by byte and on both listeners, each with its one answer.
//!
//! Afterwards the broker is as it was: it lives, weighs what it weighed, and a member who talked meanwhile had an answer to
//! each message. The answers are those of the RFCs and of docs/protocol.md; a row is a promise, not a record of what happens.

mod frames;
mod handshake;
mod json;
mod operators;
mod requests;
mod rest;
mod tokens;

use std::convert::Infallible;
use std::future::pending;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use futures_util::future::join;
use jsonwebtoken::crypto::sign;
use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::{Value, json};
use switchboard::model::Clock;
use switchboard_tests::raw::{RawSocket, TEXT, upgrade};
use switchboard_tests::tokens::{Claims, SECRET, payload_of};
use switchboard_tests::{ADMIN_TOKEN, App, Channel, Goal, Latencies, Member, Socket, figure, mib};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use Answer::{Close, End, Error, Only, Status};
use Frame::{Bare, Exactly, Masked};
use Input::{
    Bearer, Bytes, Delete, Frames, Get, Handshake, Long, LongPost, LongText, Open, Post, Put, Raw, Read, Said, Text,
};

/// How long one answer may take, less than the harness waits before it gives up without a name.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// What the broker may weigh more after the table than before.
const GROWTH: u64 = 32 << 20;

/// The fewest rows, so that none gets lost.
const ROWS: usize = 400;

/// A name, where it is sent, what, and what comes back.
struct Case(&'static str, Listener, Input, Answer);

#[derive(Clone, Copy)]
enum Listener {
    Clients,
    Operators,
}

/// What is sent. `{token}`, `{admin}`, `{channel}` and `{foreign}` stand for alice's token, the operators' token, alice's
/// channel and one of another tenant.
#[derive(Clone, Copy)]
enum Input {
    /// These bytes, as text.
    Raw(&'static str),
    /// These bytes, as they are.
    Bytes(&'static [u8]),
    /// The bytes that a function makes.
    Long(fn(&Scene) -> Vec<u8>),
    /// A GET of a path with further lines in its head.
    Get(&'static str, &'static str),
    /// A GET with the token of the listener, here and below.
    Read(&'static str),
    Delete(&'static str),
    /// A POST of a path and a body.
    Post(&'static str, &'static str),
    Put(&'static str, &'static str),
    /// A body of a beginning, a part that is repeated so many times, and an end.
    LongPost(&'static str, &'static str, &'static str, usize, &'static str),
    /// A good handshake in which a part is replaced. It is answered as a request is.
    Handshake(&'static str, &'static str),
    /// A token that is no good: in a request and on a socket.
    Bearer(fn(&Scene) -> String),
    /// A good handshake at a path.
    Open(&'static str),
    /// Frames on a socket that is open.
    Frames(&'static [Frame]),
    /// A text frame on a socket for many channels.
    Text(&'static str),
    /// The same of a beginning, a part that is repeated so many times, and an end.
    LongText(&'static str, &'static str, usize, &'static str),
    /// A text frame on the socket of a channel.
    Said(&'static str),
}

#[derive(Clone, Copy)]
enum Frame {
    /// A first byte and a payload, masked as clients must.
    Masked(u8, &'static [u8]),
    /// The same without a mask.
    Bare(u8, &'static [u8]),
    Exactly(&'static [u8]),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    /// An HTTP status.
    Status(u16),
    /// An HTTP status, and then the end of the connection: nobody knows where another request would begin.
    Only(u16),
    /// The end of the connection without an answer.
    End,
    /// The code with which the socket closes.
    Close(u16),
    /// The code of an error frame on a socket that stays open.
    Error(u16),
}

struct Scene {
    app: App,
    slug: String,
    alice: Member,
    lobby: Channel,
    /// The channel of another tenant.
    foreign: String,
}

impl Scene {
    async fn set() -> Self {
        let app = App::embedded().await;
        let (acme, apex) = (app.tenant("acme").await, app.tenant("apex").await);
        let (alice, bob) = (acme.member("alice").await, acme.member("bob").await);
        let lobby = acme.channel("lobby", &[&alice, &bob]).await;
        let eve = apex.member("eve").await;
        let foreign = apex.channel("lobby", &[&eve]).await.id;
        Self { app, slug: acme.slug.clone(), alice, lobby, foreign }
    }

    /// The claims of a good token of alice's from elsewhere.
    fn claims(&self) -> Claims {
        Claims::access(&self.slug, "alice")
    }

    fn now(&self) -> i64 {
        Clock::system().now().seconds()
    }

    /// Good claims, properly signed, under another header.
    fn under(&self, header: Value) -> String {
        let encode = |value: Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
        let message = format!("{}.{}", encode(header), encode(payload_of(&self.claims().sign())));
        let key = EncodingKey::from_secret(SECRET.as_bytes());
        let signature = sign(message.as_bytes(), &key, Algorithm::HS256).expect("a shared secret signs");
        format!("{message}.{signature}")
    }

    fn filled(&self, text: &str) -> String {
        text.replace("{token}", &self.alice.token)
            .replace("{admin}", ADMIN_TOKEN)
            .replace("{channel}", &self.lobby.id)
            .replace("{foreign}", &self.foreign)
    }

    fn address(&self, listener: Listener) -> SocketAddr {
        match listener {
            Listener::Clients => self.app.door().address(),
            Listener::Operators => self.app.broker().admin_address(),
        }
    }

    /// A request with the token of the listener.
    fn request(&self, listener: Listener, method: &str, path: &str, body: &str) -> Vec<u8> {
        let token = match listener {
            Listener::Clients => "{token}",
            Listener::Operators => "{admin}",
        };
        let body = self.filled(body);
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n",
            body.len()
        );
        (self.filled(&head) + &body).into_bytes()
    }

    /// What comes back. The error says what is wrong beyond another answer.
    async fn answer(&self, Case(_, listener, send, expected): &Case) -> Result<Answer, String> {
        let (address, listener) = (self.address(*listener), *listener);
        let bytes = match *send {
            Raw(text) => self.filled(text).into_bytes(),
            Bytes(bytes) => bytes.to_vec(),
            Long(make) => make(self),
            Get(path, lines) => self.filled(&format!("GET {path} HTTP/1.1\r\nHost: a\r\n{lines}\r\n")).into_bytes(),
            Read(path) => self.request(listener, "GET", path, ""),
            Delete(path) => self.request(listener, "DELETE", path, ""),
            Post(path, body) => self.request(listener, "POST", path, body),
            Put(path, body) => self.request(listener, "PUT", path, body),
            LongPost(path, first, part, times, last) => {
                self.request(listener, "POST", path, &format!("{first}{}{last}", part.repeat(times)))
            }
            Handshake(part, instead) => {
                let head = upgrade("/ws/");
                assert!(head.contains(part), "{part:?} is in a good handshake");
                self.filled(&head.replacen(part, instead, 1)).into_bytes()
            }
            Bearer(token) => {
                let token = token(self);
                let closed = closed(RawSocket::open(address, &format!("/ws/?token={token}")).await).await;
                if closed != Close(4000) {
                    return Err(format!("on a socket {closed:?}"));
                }
                format!("GET /api/me/ HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n\r\n").into_bytes()
            }
            Open(path) => return Ok(closed(RawSocket::open(address, &self.filled(path)).await).await),
            Frames(frames) => {
                let mut socket = self.open(&self.many()).await;
                for frame in frames {
                    match *frame {
                        Masked(first, payload) => socket.send(first, payload).await,
                        Bare(first, payload) => socket.send_unmasked(first, payload).await,
                        Exactly(bytes) => socket.send_bytes(bytes).await,
                    }
                }
                return Ok(closed(socket).await);
            }
            Text(text) => return Self::refusal(self.open(&self.many()).await, &self.filled(text)).await,
            LongText(first, part, times, last) => {
                let text = format!("{first}{}{last}", part.repeat(times));
                return Self::refusal(self.open(&self.many()).await, &self.filled(&text)).await;
            }
            Said(text) => {
                let path = format!("/ws/chat/{}/?token={}", self.lobby.id, self.alice.token);
                return Self::refusal(self.open(&path).await, &self.filled(text)).await;
            }
        };
        let Some((status, head, ended)) = exchange(address, &bytes, matches!(expected, Only(_))).await? else {
            return Ok(End);
        };
        if status == 401 && !head.to_ascii_lowercase().contains("\r\nwww-authenticate:") {
            return Err("a 401 does not say how to authenticate".to_owned());
        }
        Ok(if ended { Only(status) } else { Status(status) })
    }

    fn many(&self) -> String {
        format!("/ws/?token={}", self.alice.token)
    }

    /// A socket that was let in.
    async fn open(&self, path: &str) -> RawSocket {
        let mut socket = RawSocket::open(self.address(Listener::Clients), path).await;
        socket.texts_until(&[r#""welcome""#, r#""channel.state""#]).await.expect("alice is let in");
        socket
    }

    /// The code of the error that answers a text frame; the socket then answers as before.
    async fn refusal(mut socket: RawSocket, text: &str) -> Result<Answer, String> {
        socket.send(TEXT, text.as_bytes()).await;
        let error = match socket.text_or_close(r#""type":"error""#).await {
            Ok(error) => serde_json::from_str::<Value>(&error).map_err(|error| error.to_string())?,
            Err(closed) => return Ok(Close(closed.code)),
        };
        socket.send(TEXT, br#"{"type":"ping"}"#).await;
        if let Err(closed) = socket.text_or_close(r#""pong""#).await {
            return Err(format!("{error}, and then {closed:?}"));
        }
        let code = error["code"].as_u64().and_then(|code| u16::try_from(code).ok());
        code.map(Error).ok_or_else(|| error.to_string())
    }
}

/// The code with which the broker closes a socket.
async fn closed(mut socket: RawSocket) -> Answer {
    Close(socket.drain().await.1.map_or(1006, |closed| closed.code))
}

/// Sends a request, and reads the head of the answer; or, where the connection is to end, all that comes. Says whether it
/// ended after one answer. `None`: it ended without any.
async fn exchange(address: SocketAddr, bytes: &[u8], to_the_end: bool) -> Result<Option<(u16, String, bool)>, String> {
    let (mut reads, mut writes) = TcpStream::connect(address).await.map_err(|error| error.to_string())?.into_split();
    // A broker that has answered need not read the rest.
    let sending = async {
        let _ = writes.write_all(bytes).await;
        pending::<Infallible>().await
    };
    let reading = async {
        let (mut heard, mut ended) = (Vec::new(), false);
        let mut piece = vec![0; 64 << 10];
        while !ended && (to_the_end || !heard.windows(4).any(|four| four == b"\r\n\r\n")) {
            // A reset is an end too.
            match reads.read(&mut piece).await {
                Ok(0) | Err(_) => ended = true,
                Ok(read) => heard.extend_from_slice(&piece[..read]),
            }
        }
        (heard, ended)
    };
    let (heard, ended) = tokio::select! {
        heard = reading => heard,
        never = sending => match never {},
    };
    if heard.is_empty() {
        return Ok(None);
    }
    let text = String::from_utf8_lossy(&heard).into_owned();
    let (head, _) = text.split_once("\r\n\r\n").ok_or_else(|| format!("no answer but {text:?}"))?;
    let status = head.get(9..12).and_then(|status| status.parse().ok()).ok_or_else(|| format!("no status: {head}"))?;
    if text.matches("HTTP/1.1 ").count() > 1 {
        return Err(format!("more than one answer: {text}"));
    }
    Ok(Some((status, format!("{head}\r\n"), ended && to_the_end)))
}

/// How long each of the answers to a member took who talks on until it is over.
async fn talk(socket: &mut Socket, over: impl Fn(usize) -> bool) -> Latencies {
    let mut took = Vec::new();
    while !over(took.len()) {
        let began = Instant::now();
        assert_eq!(socket.acked(json!({"type": "chat.message", "message": "good day"})).await["type"], "ack");
        took.push(began.elapsed());
    }
    took.into_iter().collect()
}

#[tokio::test]
async fn every_hostile_input_has_its_answer_and_leaves_nothing_behind() {
    const ALONE: usize = 200;

    let scene = Scene::set().await;
    let tables = [
        requests::LINES,
        requests::HEADERS,
        requests::FRAMING,
        handshake::CASES,
        frames::CASES,
        json::CASES,
        tokens::CASES,
        rest::PATHS,
        rest::QUERIES,
        rest::BODIES,
        operators::CASES,
    ];
    let rows = tables.iter().map(|table| table.len()).sum::<usize>();
    assert!(rows >= ROWS, "{rows} rows");
    // A tenant of its own: what the table does must not be felt next door.
    let quiet = scene.app.tenant("quiet").await;
    let carol = quiet.member("carol").await;
    let mut socket = carol.join(&quiet.channel("lobby", &[&carol]).await).await;
    let alone = talk(&mut socket, |said| said >= ALONE).await;
    let before = scene.app.broker().memory();

    let over = AtomicBool::new(false);
    let table = async {
        let mut wrong = Vec::new();
        for case in tables.into_iter().flatten() {
            let Case(name, _, _, expected) = case;
            match timeout(ANSWER_WITHIN, scene.answer(case)).await {
                Ok(Ok(answer)) if answer == *expected => {}
                Ok(Ok(answer)) => wrong.push(format!("{name}: {answer:?} and not {expected:?}")),
                Ok(Err(why)) => wrong.push(format!("{name}: {why}")),
                Err(_) => wrong.push(format!("{name}: no answer")),
            }
        }
        over.store(true, Ordering::Relaxed);
        wrong
    };
    let (wrong, beside) = join(table, talk(&mut socket, |_| over.load(Ordering::Relaxed))).await;

    let after = scene.app.broker().memory();
    println!("{rows} hostile inputs; memory: {} before, {} after", mib(before), mib(after));
    println!("a member who talked alone: {alone}\na member who talked meanwhile, each answered: {beside}");
    let ratio = beside.per_mille(990).as_secs_f64() / alone.per_mille(990).as_secs_f64();
    figure("answers beside hostile inputs / alone, at 990 per mille", ratio, Goal::AtMost(2.0));
    assert!(wrong.is_empty(), "{} of {rows}:\n{}", wrong.len(), wrong.join("\n"));
    assert!(after <= before + GROWTH, "{} before, {} after", mib(before), mib(after));
    for address in [scene.address(Listener::Clients), scene.address(Listener::Operators)] {
        let answer = exchange(address, b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n", false).await.unwrap();
        assert_eq!(answer.map(|(status, ..)| status), Some(200), "the broker lives");
    }
    assert!(scene.alice.history(&scene.lobby).await.is_empty(), "nothing was said in alice's channel");
}
