//! A socket whose end is nothing special: nodes are killed, and clients connect again.
//!
//! That a connection breaks or is not made is an answer here; that the broker breaks RFC 6455 is still a failure.

use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::{Error, Message, Utf8Bytes};
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::{DEADLINE, Door};

/// An open socket for many channels.
pub(super) struct Line(WebSocketStream<TcpStream>);

impl Line {
    /// Connects; none when the node cannot be reached or does not take us.
    pub(super) async fn open(door: &Door, token: &str) -> Option<Self> {
        let open = async {
            let tcp = TcpStream::connect(door.address()).await?;
            tcp.set_nodelay(true)?;
            client_async(format!("ws://{}/ws/?token={token}", door.address()), tcp).await
        };
        match timeout(DEADLINE, open).await.ok()? {
            Ok((stream, _)) => Some(Self(stream)),
            Err(Error::Http(_)) => None,
            Err(error) => broken(&error),
        }
    }

    /// Sends a frame; none when the connection has ended.
    pub(super) async fn send(&mut self, frame: &Value) -> Option<()> {
        match timeout(DEADLINE, self.0.send(Message::text(frame.to_string()))).await.ok()? {
            Ok(()) => Some(()),
            Err(error) => broken(&error),
        }
    }

    /// The next frame; none when the connection has ended.
    pub(super) async fn next(&mut self) -> Option<Utf8Bytes> {
        loop {
            match self.0.next().await? {
                Ok(Message::Text(text)) => return Some(text),
                Ok(Message::Close(_)) => return None,
                Ok(_) => {}
                Err(error) => return broken(&error),
            }
        }
    }
}

/// None for a connection that broke; anything else is the broker's fault.
fn broken<T>(error: &Error) -> Option<T> {
    match error {
        Error::Io(_) | Error::ConnectionClosed | Error::AlreadyClosed => None,
        Error::Protocol(
            ProtocolError::ResetWithoutClosingHandshake
            | ProtocolError::HandshakeIncomplete
            | ProtocolError::SendAfterClosing
            | ProtocolError::ReceivedAfterClosing,
        ) => None,
        other => panic!("the broker broke the protocol: {other}"),
    }
}

/// A frame as JSON.
///
/// # Panics
/// When it is none.
pub(super) fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}
