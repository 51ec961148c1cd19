//! A Postgres of one test.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio_postgres::{Client, NoTls};

use super::{bound_to_us, ended, free_address, send, signal};
use crate::{DEADLINE, Folder, SmallDisk, eventually, needs_server};

/// Where Debian puts the programs of the server, a folder a version; it keeps them out of PATH.
const VERSIONS: &str = "/usr/lib/postgresql";

/// A Postgres server with an empty database `postgres`. It ends with this value.
///
/// It does not wait for the disk: it survives the death of its processes, which is what tests bring about, and not that
/// of the machine.
#[derive(Debug)]
pub struct PrivatePostgres {
    address: SocketAddr,
    /// Where the tables are.
    data: PathBuf,
    // After the process, which uses it: `drop` ends that first.
    folder: Folder,
    process: Child,
}

impl PrivatePostgres {
    /// Makes a database cluster, starts it and waits until it answers.
    ///
    /// # Panics
    /// When Postgres is not installed or does not answer.
    pub async fn start() -> Self {
        let folder = Folder::create();
        let (data, log) = (folder.path().join("data"), folder.path().join("wal"));
        Self::start_in(folder, data, &log).await
    }

    /// As [`PrivatePostgres::start`], with its tables on a disk that may be filled, and its log of writes elsewhere.
    pub async fn with_tables_on(disk: &SmallDisk) -> Self {
        let folder = Folder::create();
        let log = folder.path().join("wal");
        Self::start_in(folder, disk.path().join("data"), &log).await
    }

    /// As [`PrivatePostgres::start`], with its log of writes on a disk that may be filled, and its tables elsewhere.
    pub async fn with_log_on(disk: &SmallDisk) -> Self {
        let folder = Folder::create();
        let data = folder.path().join("data");
        Self::start_in(folder, data, &disk.path().join("wal")).await
    }

    async fn start_in(folder: Folder, data: PathBuf, log: &Path) -> Self {
        needs_server();
        let address = free_address();
        make(&data, log);
        let process = spawn(address, &data, folder.path());
        let postgres = Self { address, data, folder, process };
        postgres.answers().await;
        postgres
    }

    /// The address that a broker gets.
    pub fn url(&self) -> String {
        self.url_by(self.address)
    }

    /// The same database by another way, as through a [`crate::Proxy`].
    pub fn url_by(&self, way: SocketAddr) -> String {
        format!("postgres://postgres@{way}/postgres")
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A connection of the test's own.
    ///
    /// # Panics
    /// When it is refused.
    pub async fn client(&self) -> Client {
        self.connect().await.expect("the private Postgres takes a connection")
    }

    /// Ends it as `pg_ctl stop -m immediate` does: no client is waited for, nothing is written down. It recovers with
    /// the next start.
    pub async fn stop_immediately(&mut self) {
        signal("QUIT", &self.process);
        ended(&mut self.process).await;
    }

    /// Starts it on the same port after a [`PrivatePostgres::stop_immediately`].
    pub async fn start_again(&mut self) {
        self.process = spawn(self.address, &self.data, self.folder.path());
        self.answers().await;
    }

    /// Starts it again if it has ended by itself, and waits until it answers in any case. `false`: it was still there.
    pub async fn revive(&mut self) -> bool {
        let mut had_ended = false;
        let deadline = tokio::time::Instant::now() + DEADLINE;
        let mut look = tokio::time::interval(Duration::from_millis(20));
        while self.connect().await.is_err() {
            assert!(tokio::time::Instant::now() < deadline, "the private Postgres does not come back:\n{}", self.log());
            if matches!(self.process.try_wait(), Ok(Some(_))) {
                self.process = spawn(self.address, &self.data, self.folder.path());
                had_ended = true;
            }
            look.tick().await;
        }
        had_ended
    }

    /// What it has written to its log since its start.
    ///
    /// # Panics
    /// When there is no log.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).expect("the log is in its folder")
    }

    /// Stops all its processes without closing anything: connections are taken by the kernel, and fall silent.
    pub fn freeze(&self) {
        // The one that makes others goes first, so that there is none left out.
        signal("STOP", &self.process);
        for child in children(self.process.id()) {
            send("STOP", child);
        }
    }

    /// Ends a [`PrivatePostgres::freeze`].
    pub fn thaw(&self) {
        for child in children(self.process.id()) {
            send("CONT", child);
        }
        signal("CONT", &self.process);
    }

    /// Ends the connections of all brokers, whatever they are doing, and says how many they were.
    pub async fn terminate_backends(&self) -> usize {
        let statement = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'switchboard'";
        let ended = self.client().await.query(statement, &[]).await;
        ended.expect("a superuser may end connections").len()
    }

    async fn answers(&self) {
        let log = self.folder.path().join("log");
        eventually("the private Postgres answers", async || {
            assert!(
                !fs::read_to_string(&log).unwrap_or_default().contains("FATAL:  could not"),
                "see {}",
                log.display()
            );
            self.connect().await.is_ok()
        })
        .await;
    }

    async fn connect(&self) -> Result<Client, tokio_postgres::Error> {
        let (client, connection) = tokio_postgres::connect(&self.url(), NoTls).await?;
        // It ends with the client.
        tokio::spawn(connection);
        Ok(client)
    }
}

impl Drop for PrivatePostgres {
    fn drop(&mut self) {
        if matches!(self.process.try_wait(), Ok(Some(_))) {
            return;
        }
        // A frozen server is thawed to hear of its end. A blocking wait: the test is over.
        self.thaw();
        signal("QUIT", &self.process);
        let pause = Duration::from_millis(10);
        for _ in 0..DEADLINE.as_millis() / pause.as_millis() {
            if !matches!(self.process.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(pause);
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn make(data: &Path, log: &Path) {
    for folder in [data, log] {
        if let Some(user) = user() {
            let made = Command::new("install").args(["-d", "-o", user, "-g", user, "-m", "700"]).arg(folder).status();
            assert!(made.expect("there is a program `install`").success());
        }
    }
    let made = bound_to_us(&program("initdb"), "KILL", user())
        .args(["--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync"])
        // Segments of 1 MiB: a small disk holds some, and a test soon needs the next.
        .args(["--wal-segsize=1", "--waldir"])
        .arg(log)
        .arg("--pgdata")
        .arg(data)
        .current_dir("/")
        .output()
        .expect("setpriv and initdb are installed");
    assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
}

fn spawn(address: SocketAddr, data: &Path, folder: &Path) -> Child {
    let log = fs::File::create(folder.join("log")).expect("the folder is ours");
    bound_to_us(&program("postgres"), "QUIT", user())
        .arg("-D")
        .arg(data)
        .args(["-p", &address.port().to_string(), "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="])
        .args(["-c", "fsync=off", "-c", "full_page_writes=off"])
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .expect("setpriv and postgres are installed")
}

/// As whom the server runs: it refuses to run as root.
fn user() -> Option<&'static str> {
    let root = fs::metadata("/proc/self").is_ok_and(|us| us.uid() == 0);
    root.then_some("postgres")
}

/// A program of the newest server that is installed.
fn program(name: &str) -> PathBuf {
    let version = |folder: &Path| folder.file_name().and_then(|name| name.to_str()?.parse::<u32>().ok());
    let folders = fs::read_dir(VERSIONS).into_iter().flatten().flatten().map(|entry| entry.path());
    let installed = folders.filter(|folder| folder.join("bin").join(name).is_file());
    installed.max_by_key(|folder| version(folder)).map_or_else(|| name.into(), |newest| newest.join("bin").join(name))
}

/// The processes that a process has made and that have not ended.
fn children(parent: u32) -> Vec<u32> {
    let entries = fs::read_dir("/proc").expect("the system tells its processes").flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // The name stands in parentheses and may hold any character; state and parent follow.
        let mut fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
        let (state, of) = (fields.next(), fields.next());
        state != Some("Z") && of == Some(&parent.to_string())
    })
    .collect()
}
