//! A Redis of one test.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Stdio};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{bound_to_us, free_address, signal};
use crate::{Folder, eventually, needs_server};

/// A Redis that keeps nothing on disk. It ends with this value.
#[derive(Debug)]
pub struct PrivateRedis {
    address: SocketAddr,
    folder: Folder,
    process: Child,
}

impl PrivateRedis {
    /// Starts it and waits until it answers.
    ///
    /// # Panics
    /// When `redis-server` is not installed or does not answer.
    pub async fn start() -> Self {
        needs_server();
        let (address, folder) = (free_address(), Folder::create());
        let process = spawn(address, &folder);
        let redis = Self { address, folder, process };
        redis.answers().await;
        redis
    }

    /// The address that a broker gets.
    pub fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends it as a crash would.
    ///
    /// # Panics
    /// When it has ended before.
    pub fn kill(&mut self) {
        self.process.kill().expect("the server runs");
        self.process.wait().expect("the server ends");
    }

    /// Starts it on the same port after a [`PrivateRedis::kill`], knowing nothing any more.
    pub async fn start_again(&mut self) {
        self.process = spawn(self.address, &self.folder);
        self.answers().await;
    }

    /// Stops it without closing anything: its connections fall silent.
    pub fn freeze(&self) {
        signal("STOP", &self.process);
    }

    /// Ends a [`PrivateRedis::freeze`].
    pub fn thaw(&self) {
        signal("CONT", &self.process);
    }

    async fn answers(&self) {
        eventually("the private Redis answers", async || ping(self.address).await.is_ok()).await;
    }
}

impl Drop for PrivateRedis {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

async fn ping(address: SocketAddr) -> std::io::Result<()> {
    let mut connection = TcpStream::connect(address).await?;
    connection.write_all(b"PING\r\n").await?;
    let mut answer = [0; 5];
    connection.read_exact(&mut answer).await?;
    if &answer == b"+PONG" { Ok(()) } else { Err(ErrorKind::InvalidData.into()) }
}

fn spawn(address: SocketAddr, folder: &Folder) -> Child {
    bound_to_us(Path::new("redis-server"), "KILL", None)
        .args([
            "--bind",
            "127.0.0.1",
            "--port",
            &address.port().to_string(),
            "--save",
            "",
            "--appendonly",
            "no",
            "--dir",
        ])
        .arg(folder.path())
        .stdout(Stdio::null())
        .spawn()
        .expect("setpriv and redis-server are installed")
}
