//! Where a store keeps its data during one test: a database or a folder of the test's own.

use std::path::PathBuf;
use std::sync::Arc;

use switchboard::model::Clock;
use switchboard::store::Store;
use switchboard::store::postgres::{Options, Postgres};
use switchboard::store::sqlite::Sqlite;
use tokio_postgres::{Client, NoTls};

/// The variable that names a server on which the tests may make databases.
const SERVER: &str = "SWITCHBOARD_TEST_DATABASE_URL";

/// Opening it twice gives two stores on the same data.
#[derive(Clone)]
pub(crate) enum Backing {
    /// The address of a database.
    Postgres(String),
    /// A folder.
    Sqlite(PathBuf),
}

impl Backing {
    /// A store, as another node or another start of the broker would see it.
    pub(crate) async fn open(&self) -> Arc<dyn Store> {
        match self {
            Backing::Postgres(url) => Arc::new(Postgres::open(url, options()).await.unwrap()),
            Backing::Sqlite(folder) => Arc::new(Sqlite::open(folder).await.unwrap()),
        }
    }
}

fn options() -> Options {
    Options { connections: 4, ..Options::default() }
}

/// Runs a case on a new database and drops it afterwards, whatever became of the case.
pub(crate) async fn on_postgres<F: Future<Output = ()> + Send + 'static>(case: impl FnOnce(Backing) -> F) {
    switchboard_tests::needs_server();
    let server =
        std::env::var(SERVER).unwrap_or_else(|_| panic!("{SERVER} is not set: start these tests with tests/run"));
    let name = unique();
    let admin = connect(&server).await;
    admin.batch_execute(&format!("CREATE DATABASE {name}")).await.unwrap();
    let ended = tokio::spawn(case(Backing::Postgres(database_url(&server, &name)))).await;
    admin.batch_execute(&format!("DROP DATABASE {name} WITH (FORCE)")).await.unwrap();
    resume(ended);
}

/// Runs a case on a new folder and removes it afterwards, whatever became of the case.
pub(crate) async fn on_sqlite<F: Future<Output = ()> + Send + 'static>(case: impl FnOnce(Backing) -> F) {
    let folder = std::env::temp_dir().join(unique());
    let ended = tokio::spawn(case(Backing::Sqlite(folder.clone()))).await;
    std::fs::remove_dir_all(&folder).unwrap();
    resume(ended);
}

/// A connection beside the store's, to look at the server or to stand in the way.
pub(crate) async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(async move { drop(connection.await) });
    client
}

fn unique() -> String {
    format!("switchboard_test_{}", Clock::system().uuid().simple())
}

/// The same server, another database.
fn database_url(server: &str, name: &str) -> String {
    let (base, query) = server.split_once('?').map_or((server, None), |(base, query)| (base, Some(query)));
    let (scheme, rest) = base.split_once("://").expect("the server's address is a URL");
    let host = rest.split('/').next().unwrap_or(rest);
    match query {
        Some(query) => format!("{scheme}://{host}/{name}?{query}"),
        None => format!("{scheme}://{host}/{name}"),
    }
}

fn resume(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        std::panic::resume_unwind(error.into_panic());
    }
}
