//! A socket that sends each message back as it came, for suites that test WebSocket servers.
//!
//! It uses the reader and the outbox of every other socket, so what such a suite finds out is true of them as well. It
//! takes binary messages too, and larger ones. It knows no member, no channel and no rate, which is why it is behind a
//! feature that no build for users has.

use std::sync::Arc;

use bytes::Bytes;
use tokio::net::TcpStream;

use super::closing;
use super::socket::{End, Inbound, Reader, Takes};
use super::unfinished::Unfinished;
use crate::hub::{Class, Outbox};
use crate::model::ClientAddress;
use crate::protocol::WireFrame;

/// Maximum size of a message in bytes.
const MAX_MESSAGE: usize = 16 << 20;

/// Bytes that are queued before the socket is not read any further.
const MAX_QUEUED: usize = 4 * MAX_MESSAGE;

pub(super) async fn run(stream: TcpStream, early: Bytes, address: ClientAddress) {
    let (read, write) = stream.into_split();
    let outbox = Outbox::new(Some(write), MAX_QUEUED);
    let budget = Unfinished::new(8 * MAX_MESSAGE);
    let takes = Takes { most: MAX_MESSAGE, binary: true };
    let mut reader = Reader::new(read, early, takes, (Arc::clone(&budget), address));
    let end = {
        let mut echo = Box::pin(echo(&mut reader, &outbox));
        tokio::select! {
            end = &mut echo => end,
            () = outbox.run() => End::Gone,
        }
    };
    closing::close(&outbox, &mut reader, end).await;
}

async fn echo(reader: &mut Reader, outbox: &Outbox) -> End {
    loop {
        let frame = match reader.next().await {
            Ok(Inbound::Text(text)) => WireFrame::text(text.as_bytes()),
            Ok(Inbound::Binary(bytes)) => WireFrame::binary(&bytes),
            Ok(Inbound::Ping(payload)) => WireFrame::pong(&payload),
            Ok(Inbound::Pong) => continue,
            Err(end) => return end,
        };
        outbox.has_room(frame.len()).await;
        outbox.push(frame, Class::Durable);
    }
}
