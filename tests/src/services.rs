//! What a broker under test stands on: a Postgres database of its own, the Redis of the run, a folder of its own.
//!
//! Where the servers are is said by two variables that `tests/run` sets. Without them a test fails.

use std::path::{Path, PathBuf};

use tokio_postgres::NoTls;

use crate::unique;

const HOW_TO: &str = "run tests/run, which starts Postgres and Redis";

/// Sees to it that the running test says by its name that it needs a server: `tests/run --quick` goes by that. The words
/// stand there; without them anything goes.
///
/// # Panics
/// When it does not.
pub fn needs_server() {
    let Ok(words) = std::env::var("SWITCHBOARD_TEST_SERVER_WORDS") else { return };
    let thread = std::thread::current();
    // Tests have threads of their own, named as they are, unless they run one after the other.
    let Some(test) = thread.name().filter(|name| name.contains("::")) else { return };
    let says = words.split_whitespace().any(|word| test.contains(word));
    assert!(says, "`{test}` needs a server, and its name has none of these words: {words}; see docs/testing.md");
}

/// The address of the Redis server. Tests share it: what they keep there is named after tenants and channels of their own.
///
/// # Panics
/// When `SWITCHBOARD_TEST_REDIS_URL` is not set.
pub fn redis_url() -> String {
    needs_server();
    std::env::var("SWITCHBOARD_TEST_REDIS_URL").unwrap_or_else(|_| panic!("{HOW_TO}"))
}

/// A Postgres database that ends with this value.
#[derive(Debug)]
pub struct Database {
    server: String,
    name: String,
}

impl Database {
    /// Makes an empty database on the server of `SWITCHBOARD_TEST_DATABASE_URL`.
    ///
    /// # Panics
    /// When the variable is not set or the server refuses.
    pub async fn create() -> Self {
        needs_server();
        let server = std::env::var("SWITCHBOARD_TEST_DATABASE_URL").unwrap_or_else(|_| panic!("{HOW_TO}"));
        let name = format!("switchboard_test_{}", unique());
        execute(&server, &format!("CREATE DATABASE {name}")).await.expect("the test server lets us create a database");
        Self { server, name }
    }

    /// The address that a broker gets.
    pub fn url(&self) -> String {
        let (address, query) = self.server.split_once('?').map_or((self.server.as_str(), None), |(a, q)| (a, Some(q)));
        let host_end = address.find("://").map_or(0, |at| at + 3);
        let base = address[host_end..].find('/').map_or(address, |at| &address[..host_end + at]);
        let query = query.map_or(String::new(), |query| format!("?{query}"));
        format!("{base}/{}{query}", self.name)
    }
}

impl Drop for Database {
    /// By best effort, and from a thread, since the runtime of the test may be on its way out.
    fn drop(&mut self) {
        let (server, statement) = (self.server.clone(), format!("DROP DATABASE {} WITH (FORCE)", self.name));
        let dropping = std::thread::spawn(move || {
            if let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() {
                let _ = runtime.block_on(execute(&server, &statement));
            }
        });
        let _ = dropping.join();
    }
}

async fn execute(server: &str, statement: &str) -> Result<(), tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::connect(server, NoTls).await?;
    let driver = tokio::spawn(connection);
    let result = client.batch_execute(statement).await;
    driver.abort();
    result
}

/// A folder that ends with this value.
#[derive(Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// Makes an empty folder among the system's temporary ones.
    ///
    /// # Panics
    /// When that is not allowed.
    pub fn create() -> Self {
        let path = std::env::temp_dir().join(format!("switchboard-test-{}", unique()));
        std::fs::create_dir(&path).unwrap_or_else(|error| panic!("cannot create {}: {error}", path.display()));
        Self(path)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
