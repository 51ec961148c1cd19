//! What a database does when every row is a transaction of its own: the floor that the broker is compared with.
//!
//! Its servers write to a disk below the system's temporary folder and promise what they promise by default. Nothing here
//! knows the broker.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use switchboard_tests::{Folder, eventually};
use tokio::process::{Child, Command};
use tokio::time::Instant;

/// A Postgres server as it is installed, with its own data, that ends with this value.
pub(crate) struct PostgresServer {
    child: Child,
    programs: PathBuf,
    port: u16,
    folder: Folder,
}

impl PostgresServer {
    pub(crate) async fn start() -> Self {
        let programs = programs();
        let folder = Folder::create();
        let data = folder.path().join("postgres");
        std::fs::create_dir(&data).expect("a folder of our own");
        if is_root() {
            run(Command::new("chown").arg("postgres").arg(folder.path()).arg(&data)).await;
        }
        let mut initdb = as_postgres(&programs.join("initdb"));
        run(initdb.arg("-D").arg(&data).args(["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C"])).await;
        let port =
            std::net::TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port").port();
        let child = as_postgres(&programs.join("postgres"))
            .arg("-D")
            .arg(&data)
            .args(["-p", &port.to_string(), "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="])
            .current_dir("/")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("Postgres is installed");
        let server = Self { child, programs, port, folder };
        eventually("Postgres listens", async || server.psql("SELECT 1").await).await;
        let table = "CREATE TABLE single (id bigserial PRIMARY KEY, content text NOT NULL)";
        assert!(server.psql(table).await, "a table for pgbench");
        server
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id().expect("the server runs")
    }

    pub(crate) fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }

    /// Single rows of the size of a message, each in a transaction, from eight clients: transactions a second.
    pub(crate) async fn pgbench(&self, span: Duration) -> f64 {
        let script = self.folder.path().join("single.sql");
        std::fs::write(&script, "INSERT INTO single (content) VALUES (repeat('x', 100));\n")
            .expect("a file of our own");
        let mut pgbench = Command::new(self.programs.join("pgbench"));
        pgbench.args(["-n", "-c", "8", "-j", "2", "-h", "127.0.0.1", "-U", "postgres", "-p", &self.port.to_string()]);
        pgbench.args(["-T", &span.as_secs().to_string(), "-f"]).arg(&script).arg("postgres");
        let printed = run(&mut pgbench).await;
        let line = printed.lines().find_map(|line| line.strip_prefix("tps = ")).expect("pgbench prints its rate");
        line.split(' ').next().and_then(|rate| rate.parse().ok()).expect("a rate is a number")
    }

    async fn psql(&self, sql: &str) -> bool {
        let mut psql = Command::new(self.programs.join("psql"));
        psql.args(["-q", "-h", "127.0.0.1", "-U", "postgres", "-p", &self.port.to_string(), "-c", sql]);
        psql.output().await.is_ok_and(|output| output.status.success())
    }
}

impl Drop for PostgresServer {
    /// The server is killed, its children see that, and the folder goes; a clean end would only keep what is deleted.
    fn drop(&mut self) {
        let _ = self.child.start_kill();
    }
}

/// Rows of the size of a message, each in a transaction, as the embedded store is set up: transactions a second.
pub(crate) fn single_rows_in_sqlite(folder: &Path, span: Duration) -> f64 {
    let path = folder.join("single.db");
    let _ = std::fs::remove_file(&path);
    let db = rusqlite::Connection::open(&path).expect("a file of our own");
    db.pragma_update(None, "journal_mode", "WAL").expect("a setting of SQLite");
    db.pragma_update(None, "synchronous", "FULL").expect("a setting of SQLite");
    db.execute("CREATE TABLE single (id INTEGER PRIMARY KEY, content TEXT NOT NULL) STRICT", []).expect("a table");
    let mut insert = db.prepare("INSERT INTO single (content) VALUES (?1)").expect("a statement");
    let (content, began, mut rows) = ("x".repeat(100), Instant::now(), 0_u32);
    while began.elapsed() < span {
        insert.execute([&content]).expect("the disk has room");
        rows += 1;
    }
    f64::from(rows) / began.elapsed().as_secs_f64()
}

/// Debian keeps the server's programs out of PATH.
fn programs() -> PathBuf {
    let installed = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut folders: Vec<PathBuf> = installed.map(|version| version.path().join("bin")).collect();
    folders.sort();
    folders.extend(std::env::var_os("PATH").iter().flat_map(std::env::split_paths));
    let complete = |folder: &PathBuf| ["initdb", "postgres", "pgbench"].iter().all(|name| folder.join(name).exists());
    folders.into_iter().rfind(complete).expect("Postgres with pgbench is installed")
}

/// Postgres refuses to run as root. setpriv replaces itself, so the process is the server's own.
fn as_postgres(program: &Path) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--init-groups"]).arg(program).current_dir("/");
    command
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;

    std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

async fn run(command: &mut Command) -> String {
    let output = command.output().await.unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}
