//! A chat client's end of a WebSocket.
//!
//! Frames that a test did not ask for yet are kept in their order, so that waiting for an ack loses no message that came
//! before it. The client checks what the broker sends: a frame that breaks RFC 6455 or is no JSON object fails the test.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::{HeaderName, HeaderValue};
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::{Channel, DEADLINE};

/// How often a frame is sent whose handler is out of time.
const TRIES: usize = 20;

/// The status and the body of an answer that was no upgrade.
#[derive(Debug, PartialEq, Eq)]
pub struct Refused {
    /// The HTTP status.
    pub status: u16,
    /// The body as text.
    pub body: String,
}

/// How a socket ended. Code 1006 is a connection that broke without a close frame, as RFC 6455 numbers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closed {
    /// The close code; 1005 when the frame had none.
    pub code: u16,
    /// The reason text.
    pub reason: String,
}

/// An open socket. Dropping it breaks the connection without a close frame.
#[derive(Debug)]
pub struct Socket {
    name: String,
    stream: WebSocketStream<TcpStream>,
    unread: VecDeque<Value>,
    seen: Vec<String>,
    closed: Option<Closed>,
    /// What the broker said first, when the socket was opened in a way that waits for it.
    pub greeting: Value,
    /// The subprotocol that the broker chose.
    pub subprotocol: Option<String>,
}

impl Socket {
    /// Opens a socket at any path with any further headers. The name is for failure messages.
    ///
    /// # Panics
    /// When no answer comes within [`DEADLINE`].
    pub async fn open(
        name: &str,
        address: SocketAddr,
        path: &str,
        headers: &[(&'static str, &str)],
    ) -> Result<Self, Refused> {
        let mut request = format!("ws://{address}{path}").into_client_request().expect("the path is part of a URL");
        for (header, value) in headers {
            let value = HeaderValue::from_str(value).expect("a header value without control characters");
            request.headers_mut().append(HeaderName::from_static(header), value);
        }
        let open = async {
            let tcp = TcpStream::connect(address).await?;
            tcp.set_nodelay(true)?;
            client_async(request, tcp).await
        };
        let opened = timeout(DEADLINE, open).await.unwrap_or_else(|_| panic!("{name}: no answer to {path}"));
        match opened {
            Ok((stream, response)) => {
                let subprotocol = response.headers().get("sec-websocket-protocol");
                Ok(Self {
                    name: name.to_owned(),
                    stream,
                    unread: VecDeque::new(),
                    seen: Vec::new(),
                    closed: None,
                    greeting: Value::Null,
                    subprotocol: subprotocol.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()),
                })
            }
            Err(Error::Http(response)) => Err(Refused {
                status: response.status().as_u16(),
                body: String::from_utf8_lossy(response.body().as_deref().unwrap_or_default()).into_owned(),
            }),
            Err(error) => panic!("{name}: the handshake at {path} failed: {error}"),
        }
    }

    /// Says something in the socket's one channel and returns the ack.
    pub async fn say(&mut self, message: &str) -> Value {
        self.acked(json!({"type": "chat.message", "message": message})).await
    }

    /// Says something in a channel, on a socket for many, and returns the ack.
    pub async fn say_in(&mut self, channel: &Channel, message: &str) -> Value {
        self.acked(json!({"type": "chat.message", "channel": channel.id, "message": message})).await
    }

    /// Joins a channel, on a socket for many, and returns the `subscribed` frame.
    pub async fn subscribe(&mut self, channel: &Channel) -> Value {
        self.send_json(json!({"type": "subscribe", "channel": channel.id})).await;
        self.next_where("subscribed to the channel", |frame| {
            frame["type"] == "subscribed" && frame["channel"] == channel.id.as_str()
        })
        .await
    }

    /// Sends a frame and returns its ack.
    ///
    /// # Panics
    /// When an error comes instead.
    pub async fn acked(&mut self, frame: Value) -> Value {
        let answer = self.request_in_time(frame).await;
        assert_eq!(answer["type"], "ack", "{}: {answer}", self.name);
        answer
    }

    /// Sends a frame and returns what answers it. A handler may be out of time on a machine that many tests share; then the
    /// frame is sent again, as a client would do: nothing of it is stored.
    pub async fn request_in_time(&mut self, frame: Value) -> Value {
        for _ in 1..TRIES {
            let answer = self.request(frame.clone()).await;
            if answer["name"] != "handler_timeout" {
                return answer;
            }
            println!("{}: the handler was out of time", self.name);
        }
        self.request(frame).await
    }

    /// Sends a frame and returns the error that answers it.
    ///
    /// # Panics
    /// When an ack comes instead.
    pub async fn refused(&mut self, frame: Value) -> Value {
        let answer = self.request(frame).await;
        assert_eq!(answer["type"], "error", "{}: {answer}", self.name);
        answer
    }

    /// Sends a frame, with an id of its own unless it has one, and returns the ack or the error of that id.
    pub async fn request(&mut self, mut frame: Value) -> Value {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        if frame["id"].is_null() {
            frame["id"] = json!(format!("request-{}", NEXT.fetch_add(1, Ordering::Relaxed)));
        }
        let id = frame["id"].clone();
        self.send_json(frame).await;
        self.next_where("the answer to a frame", |frame| {
            frame["id"] == id && (frame["type"] == "ack" || frame["type"] == "error")
        })
        .await
    }

    /// Sends a JSON value as a text frame.
    pub async fn send_json(&mut self, frame: Value) {
        self.send_text(&frame.to_string()).await;
    }

    /// Sends any text as a text frame.
    pub async fn send_text(&mut self, text: &str) {
        self.send(Message::text(text)).await;
    }

    /// Sends a binary frame.
    pub async fn send_binary(&mut self, bytes: &[u8]) {
        self.send(Message::binary(bytes.to_vec())).await;
    }

    async fn send(&mut self, message: Message) {
        let sent = timeout(DEADLINE, self.stream.send(message)).await;
        match sent.unwrap_or_else(|_| self.fail("the broker does not read")) {
            // The broker may close while we are still sending; how it did is what the test goes on to look at.
            Ok(()) | Err(Error::ConnectionClosed | Error::AlreadyClosed | Error::Io(_) | Error::Protocol(_)) => {}
            Err(error) => self.fail(&format!("cannot send: {error}")),
        }
    }

    /// The oldest frame that was not asked for yet.
    pub async fn next(&mut self) -> Value {
        self.next_where("any frame", |_| true).await
    }

    /// The oldest frame of a type that was not asked for yet. Frames of other types stay.
    pub async fn next_of(&mut self, kind: &str) -> Value {
        self.next_where(kind, |frame| frame["type"] == kind).await
    }

    /// The oldest frame for which something holds and that was not asked for yet. Other frames stay.
    ///
    /// # Panics
    /// When none comes within [`DEADLINE`], or the socket closes.
    pub async fn next_where(&mut self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let search = async {
            let mut looked_at = 0;
            loop {
                if let Some(at) = self.unread.iter().skip(looked_at).position(&wanted) {
                    return self.unread.remove(looked_at + at);
                }
                looked_at = self.unread.len();
                if !self.receive().await {
                    return None;
                }
            }
        };
        match timeout(DEADLINE, search).await {
            Ok(Some(frame)) => frame,
            Ok(None) => self.fail(&format!("closed while waiting for {what}")),
            Err(_) => self.fail(&format!("{what} did not come")),
        }
    }

    /// The oldest frame that was not asked for yet. `Err`: there is none, and the broker has closed the socket.
    ///
    /// # Panics
    /// When neither comes within [`DEADLINE`].
    pub async fn next_or_closed(&mut self) -> Result<Value, Closed> {
        loop {
            if let Some(frame) = self.unread.pop_front() {
                return Ok(frame);
            }
            match timeout(DEADLINE, self.receive()).await {
                Ok(true) => {}
                Ok(false) => return Err(self.closed.clone().expect("a socket that receives no more is closed")),
                Err(_) => self.fail("the broker neither says anything nor closes"),
            }
        }
    }

    /// Makes sure that no unasked-for frame of a type has come, after everything that the broker sent before it answered
    /// a `ping` frame of this socket.
    ///
    /// # Panics
    /// When one has come.
    pub async fn expect_silence(&mut self, kind: &str) {
        self.expect_none(kind, |frame| frame["type"] == kind).await;
    }

    /// As [`Socket::expect_silence`], for any property of a frame.
    pub async fn expect_none(&mut self, what: &str, unwanted: impl Fn(&Value) -> bool) {
        self.catch_up().await;
        if self.unread.iter().any(unwanted) {
            self.fail(&format!("{what} came and should not have"));
        }
    }

    /// Whether an unasked-for frame of a type has come, before the broker answered a `ping` frame of this socket.
    pub async fn has_heard(&mut self, kind: &str) -> bool {
        self.catch_up().await;
        self.unread.iter().any(|frame| frame["type"] == kind)
    }

    /// Forgets all frames that came until now.
    pub async fn forget(&mut self) {
        self.catch_up().await;
        self.unread.clear();
    }

    async fn catch_up(&mut self) {
        self.send_json(json!({"type": "ping"})).await;
        self.next_of("pong").await;
    }

    /// Whether a frame comes before the broker closes the socket.
    ///
    /// # Panics
    /// When neither happens within [`DEADLINE`].
    pub async fn is_greeted(&mut self) -> bool {
        let heard = timeout(DEADLINE, self.receive()).await;
        heard.unwrap_or_else(|_| self.fail("the broker neither greets nor closes"))
    }

    /// Waits until the broker closes the socket; returns how, with all frames that were not asked for.
    ///
    /// # Panics
    /// When it stays open for [`DEADLINE`].
    pub async fn until_closed(&mut self) -> (Vec<Value>, Closed) {
        let end = async { while self.receive().await {} };
        if timeout(DEADLINE, end).await.is_err() {
            self.fail("the broker does not close the socket");
        }
        let closed = self.closed.clone().expect("a socket that receives no more is closed");
        (self.unread.drain(..).collect(), closed)
    }

    /// Waits until the broker closes the socket; returns how.
    pub async fn expect_close(&mut self) -> Closed {
        self.until_closed().await.1
    }

    /// Closes the socket and waits until the broker has answered that.
    ///
    /// # Panics
    /// When the broker does not answer with the same code.
    pub async fn leave(mut self) {
        use tokio_tungstenite::tungstenite::protocol::CloseFrame;
        use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

        let close = CloseFrame { code: CloseCode::Normal, reason: "".into() };
        self.stream.close(Some(close)).await.unwrap_or_else(|error| self.fail(&format!("cannot close: {error}")));
        let closed = self.expect_close().await;
        assert_eq!(closed.code, 1000, "{}: {closed:?}", self.name);
    }

    /// Takes one message off the connection. `false`: there will be no more.
    async fn receive(&mut self) -> bool {
        if self.closed.is_some() {
            return false;
        }
        match self.stream.next().await {
            Some(Ok(Message::Text(text))) => {
                self.seen.push(text.to_string());
                match serde_json::from_str::<Value>(&text) {
                    Ok(frame) if frame.is_object() => self.unread.push_back(frame),
                    _ => self.fail("a frame is no JSON object"),
                }
            }
            Some(Ok(Message::Close(frame))) => {
                let (code, reason) =
                    frame.map_or((1005, String::new()), |frame| (frame.code.into(), frame.reason.to_string()));
                self.closed = Some(Closed { code, reason });
                // Our answer to the close goes out with the next read, and the read ends when the broker hangs up.
                let _ = timeout(DEADLINE, self.stream.next()).await;
            }
            Some(Ok(Message::Binary(_))) => self.fail("the broker sent a binary frame"),
            Some(Ok(_)) => {}
            Some(Err(Error::Io(error))) => self.closed = Some(Closed { code: 1006, reason: error.to_string() }),
            Some(Err(Error::Protocol(error))) if error.to_string().contains("without closing handshake") => {
                self.closed = Some(Closed { code: 1006, reason: error.to_string() });
            }
            Some(Err(error)) => self.fail(&format!("the broker broke the protocol: {error}")),
            None => self.closed = Some(Closed { code: 1006, reason: "connection ended".to_owned() }),
        }
        true
    }

    fn fail(&self, what: &str) -> ! {
        let seen: Vec<&str> = self.seen.iter().map(|frame| shortened(frame)).collect();
        panic!("{}: {what}; closed: {:?}; frames so far:\n{}", self.name, self.closed, seen.join("\n"))
    }
}

fn shortened(frame: &str) -> &str {
    frame.char_indices().nth(500).map_or(frame, |(end, _)| &frame[..end])
}
