//! Redis for tests: the shared one, and private ones that a test may kill, stop and start again.
//!
//! A test touches only its own names in the shared one; what would disturb others happens in a private one.

use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use redis::FromRedisValue;

/// How long anything that must happen may take.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// The address of the Redis that all tests share.
pub(crate) fn shared_url() -> String {
    std::env::var("SWITCHBOARD_TEST_REDIS_URL")
        .expect("SWITCHBOARD_TEST_REDIS_URL is not set; tests/run starts the services and sets it")
}

/// Asks a Redis something.
pub(crate) async fn ask<T: FromRedisValue>(url: &str, command: &[&str]) -> T {
    try_ask(url, command).await.expect("Redis answers")
}

async fn try_ask<T: FromRedisValue>(url: &str, command: &[&str]) -> redis::RedisResult<T> {
    let mut connection = redis::Client::open(url)?.get_multiplexed_async_connection().await?;
    redis::cmd(command[0]).arg(&command[1..]).query_async(&mut connection).await
}

/// Waits until something is so.
pub(crate) async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let wait = async {
        let mut turn = tokio::time::interval(Duration::from_millis(5));
        while !condition().await {
            turn.tick().await;
        }
    };
    tokio::time::timeout(DEADLINE, wait).await.unwrap_or_else(|_| panic!("waited in vain until {what}"));
}

/// A port that nothing listens on.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
    listener.local_addr().expect("a bound socket has an address").port()
}

/// A Redis of one test. It ends with this value.
pub(crate) struct PrivateRedis {
    port: u16,
    folder: PathBuf,
    process: Child,
}

impl PrivateRedis {
    pub(crate) async fn start() -> Self {
        let port = free_port();
        let folder = std::env::temp_dir().join(format!("switchboard-redis-{port}"));
        fs::create_dir_all(&folder).expect("the folder can be made");
        let process = spawn(port, &folder);
        let redis = Self { port, folder, process };
        redis.answers().await;
        redis
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Ends it as a crash would.
    pub(crate) fn kill(&mut self) {
        self.process.kill().expect("the server runs");
        self.process.wait().expect("the server ends");
    }

    /// Starts it on the same port after a [`PrivateRedis::kill`], knowing nothing any more.
    pub(crate) async fn start_again(&mut self) {
        self.process = spawn(self.port, &self.folder);
        self.answers().await;
    }

    /// Stops it without closing anything: its connections fall silent.
    pub(crate) fn freeze(&self) {
        self.signal("STOP");
    }

    /// Ends a [`PrivateRedis::freeze`].
    pub(crate) fn thaw(&self) {
        self.signal("CONT");
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("kill").arg(format!("-{name}")).arg(self.process.id().to_string()).status();
        assert!(sent.expect("kill runs").success());
    }

    async fn answers(&self) {
        let url = self.url();
        until("the private Redis answers", async || try_ask::<String>(&url, &["PING"]).await.is_ok()).await;
    }
}

impl Drop for PrivateRedis {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn spawn(port: u16, folder: &PathBuf) -> Child {
    Command::new("redis-server")
        .args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", "", "--appendonly", "no", "--dir"])
        .arg(folder)
        .stdout(Stdio::null())
        .spawn()
        .expect("redis-server is installed")
}
