//! The least that a delivery can cost: a server that writes what a socket says to each socket of the same path, once, and does
//! nothing else. No token, no JSON, no handler, no store, no other node.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

use crate::client::{Frames, text};

type Rooms = Arc<Mutex<HashMap<String, Vec<Arc<OwnedWriteHalf>>>>>;

/// Serves until the process is ended, and prints where.
pub(crate) fn serve() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        println!("{}", listener.local_addr().expect("it is bound"));
        let rooms = Rooms::default();
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(one(stream, Arc::clone(&rooms)));
        }
    });
}

async fn one(mut stream: TcpStream, rooms: Rooms) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    let answer = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
    stream.write_all(answer.as_bytes()).await?;
    let path = String::from_utf8_lossy(&head).split(['?', ' ']).nth(1).unwrap_or_default().to_owned();
    let (read, write) = stream.into_split();
    rooms.lock().expect("nobody panics").entry(path.clone()).or_default().push(Arc::new(write));
    hand_out(read, &path, &rooms).await
}

async fn hand_out(mut read: OwnedReadHalf, path: &str, rooms: &Rooms) -> std::io::Result<()> {
    let mut frames = Frames::default();
    loop {
        frames.read_from(&mut read).await?;
        while let Some(said) = frames.next() {
            let frame = text(&said, false);
            let room = rooms.lock().expect("nobody panics").get(path).cloned().unwrap_or_default();
            for socket in room {
                // A socket that is full is none of this server's affairs.
                let _ = socket.try_write(&frame);
            }
        }
    }
}
