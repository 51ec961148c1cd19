//! The `switchboard` program as a process: its commands run to their end, or a broker that serves.
//!
//! A process sees only the variables given here and starts in its own data folder, so neither the shell nor a settings
//! file of the developer changes a test. A broker that goes out of scope is killed by its process id.

use std::ffi::OsStr;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;

use serde_json::Value;
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStderr, Command};
use tokio::time::timeout;

use crate::log::Log;
use crate::tokens::SECRET;
use crate::{ADMIN_TOKEN, Folder, PROCESS_DEADLINE, SmallDisk};

/// The variable that says where the data folder is.
const DATA: &str = "SWITCHBOARD_DATA_DIR";

/// How the program is started. A clone starts it on the same folder and the same services.
#[derive(Debug, Clone)]
pub struct Settings {
    folder: Arc<Folder>,
    variables: Vec<(String, String)>,
    /// What comes before the program on the command line, to start it where it sees its disk.
    entrance: Vec<String>,
    /// The data folder as the test sees it, when it is not below `folder`.
    disk: Option<PathBuf>,
}

impl Settings {
    /// An empty data folder and nothing else: what someone has who starts the program for the first time.
    pub fn bare() -> Self {
        Self { folder: Arc::new(Folder::create()), variables: Vec::new(), entrance: Vec::new(), disk: None }
    }

    /// An empty data folder, the secret that [`crate::tokens`] signs with, the token of [`crate::Operator`], and access
    /// tokens that outlive the longest test.
    pub fn embedded() -> Self {
        Self::bare()
            .with("SWITCHBOARD_JWT_SECRET", SECRET)
            .with("SWITCHBOARD_ADMIN_TOKEN", ADMIN_TOKEN)
            .with("SWITCHBOARD_ACCESS_TTL", "1d")
    }

    /// A node of a cluster.
    pub fn node(database_url: &str, redis_url: &str) -> Self {
        Self::embedded().with("SWITCHBOARD_DATABASE_URL", database_url).with("SWITCHBOARD_REDIS_URL", redis_url)
    }

    /// With a variable, instead of an earlier one of the same name.
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.variables.retain(|(known, _)| known != name);
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// What a variable is set to, if it is.
    pub(crate) fn value(&self, name: &str) -> Option<&str> {
        self.variables.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Without a variable.
    pub fn without(mut self, name: &str) -> Self {
        self.variables.retain(|(known, _)| known != name);
        self
    }

    /// Where the program starts. Its data folder is `data` below.
    pub fn folder(&self) -> &Folder {
        &self.folder
    }

    /// With its data folder on a disk of the test's own.
    pub fn on(mut self, disk: &SmallDisk) -> Self {
        self.entrance = disk.entrance();
        self.disk = Some(disk.path().join("data"));
        let data = disk.path_inside().join("data");
        self.with(DATA, data.to_str().expect("a path of the tests is UTF-8"))
    }

    /// With so many files and connections that it may have open at most.
    pub fn with_descriptors(mut self, most: u32) -> Self {
        self.entrance = ["sh", "-c", &format!("ulimit -n {most} && exec \"$0\" \"$@\"")].map(str::to_owned).to_vec();
        self
    }

    /// Whether its data folder is on a disk of the test's own.
    pub(crate) fn has_small_disk(&self) -> bool {
        self.disk.is_some()
    }

    /// The data folder; it is not there before the first start.
    pub fn data(&self) -> PathBuf {
        self.disk.clone().unwrap_or_else(|| self.folder.path().join("data"))
    }

    /// Runs a command to its end.
    pub async fn run(&self, arguments: &[&str]) -> Exit {
        self.run_with_input(arguments, "").await
    }

    /// Runs a command that reads this from its standard input.
    ///
    /// # Panics
    /// When it does not end within [`PROCESS_DEADLINE`].
    pub async fn run_with_input(&self, arguments: &[&str], input: &str) -> Exit {
        let mut child = self.spawn(arguments);
        let mut stdin = child.stdin.take().expect("standard input is piped");
        // A program that ends without reading its input breaks the pipe; what it wrote tells why.
        let _ = stdin.write_all(input.as_bytes()).await;
        drop(stdin);
        let output = timeout(PROCESS_DEADLINE, child.wait_with_output())
            .await
            .unwrap_or_else(|_| panic!("`switchboard {}` did not end", arguments.join(" ")))
            .expect("the process was started");
        Exit {
            status: output.status,
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Runs a command whose standard output nobody reads, as when what it was piped into has ended.
    ///
    /// # Panics
    /// When it does not end within [`PROCESS_DEADLINE`].
    pub async fn run_unread(&self, arguments: &[&str]) -> Exit {
        let mut child = self.spawn(arguments);
        drop(child.stdout.take());
        let output =
            timeout(PROCESS_DEADLINE, child.wait_with_output()).await.expect("it ends").expect("it was started");
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        Exit { status: output.status, stdout: String::new(), stderr }
    }

    fn spawn(&self, arguments: &[impl AsRef<OsStr>]) -> Child {
        let program = program();
        let mut line = self.entrance.iter().map(OsStr::new).chain([program.as_os_str()]);
        let first = line.next().expect("there is at least the program");
        Command::new(first)
            .args(line)
            .args(arguments)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env(DATA, self.data())
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .current_dir(self.folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| {
                panic!("cannot start {}: {error}; run tests/run, which builds it", program.display())
            })
    }
}

/// Cargo puts the program one folder above the test programs.
pub(crate) fn program() -> PathBuf {
    if let Some(path) = std::env::var_os("SWITCHBOARD_BIN") {
        return path.into();
    }
    profile().join(format!("switchboard{}", std::env::consts::EXE_SUFFIX))
}

/// The folder of this build: `target/<profile>`.
pub(crate) fn profile() -> PathBuf {
    let test = std::env::current_exe().expect("a running program has a path");
    let profile = test.parent().and_then(|deps| deps.parent()).expect("test programs are in target/<profile>/deps");
    profile.to_owned()
}

/// How a process ended.
#[derive(Debug)]
pub struct Exit {
    status: ExitStatus,
    /// What it wrote to standard output.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
}

impl Exit {
    /// The exit code; none when a signal ended it.
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// The standard output of a command that succeeded, without the white space around it.
    ///
    /// # Panics
    /// When it failed.
    pub fn success(self) -> String {
        assert!(self.status.success(), "{}\nstdout:\n{}\nstderr:\n{}", self.status, self.stdout, self.stderr);
        self.stdout.trim().to_owned()
    }
}

/// What asks a process to end.
#[derive(Debug, Clone, Copy)]
pub enum Signal {
    /// What a service supervisor sends.
    Terminate,
    /// What Ctrl-C sends.
    Interrupt,
    /// What a terminal sends when it closes, and some supervisors for a reload.
    Hangup,
}

/// Who listens to what a broker writes to standard error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listener {
    /// Everything is read.
    Attentive,
    /// Nothing is read, so the pipe fills.
    Asleep,
    /// The other end of the pipe is closed.
    Gone,
}

/// A broker that serves.
#[derive(Debug)]
pub struct Broker {
    child: Child,
    stdout: Log,
    stderr: Log,
    /// What is kept open and not read.
    asleep: Option<BufReader<ChildStderr>>,
    address: SocketAddr,
    admin_address: SocketAddr,
}

impl Broker {
    /// Starts a broker on free ports and waits until it listens.
    ///
    /// # Panics
    /// When it does not listen within [`PROCESS_DEADLINE`].
    pub async fn start(settings: &Settings) -> Self {
        Self::start_with(settings, Listener::Attentive).await
    }

    /// Starts a broker whose standard error is no longer read once it listens.
    ///
    /// # Panics
    /// When it does not listen within [`PROCESS_DEADLINE`].
    pub async fn start_unheard(settings: &Settings, listener: Listener) -> Self {
        Self::start_with(settings, listener).await
    }

    async fn start_with(settings: &Settings, listener: Listener) -> Self {
        let on_a_free_port = "127.0.0.1:0";
        let mut child = settings.spawn(&[
            "serve",
            "--listen",
            on_a_free_port,
            "--admin-listen",
            on_a_free_port,
            "--log-format",
            "json",
        ]);
        let stdout = Log::follow(child.stdout.take().expect("standard output is piped"));
        let errors = child.stderr.take().expect("standard error is piped");
        let (stderr, asleep) = match listener {
            Listener::Attentive => (Log::follow(errors), None),
            Listener::Asleep | Listener::Gone => {
                let (log, rest) = Log::follow_until(errors, |line| event(line, "listening").is_some()).await;
                (log, Some(rest).filter(|_| listener == Listener::Asleep))
            }
        };
        let listening = stderr.find(|line| event(line, "listening")).await.unwrap_or_else(|why| {
            panic!("the broker does not listen: {why}\nstdout:\n{}\nstderr:\n{}", stdout.text(), stderr.text())
        });
        let address = |name: &str| {
            crate::text(&listening, name).parse().unwrap_or_else(|_| panic!("no address `{name}` in {listening}"))
        };
        let (address, admin_address) = (address("address"), address("admin_address"));
        Self { child, stdout, stderr, asleep, address, admin_address }
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where operators connect.
    pub fn admin_address(&self) -> SocketAddr {
        self.admin_address
    }

    /// The number of the process.
    ///
    /// # Panics
    /// When it has ended.
    pub fn pid(&self) -> u32 {
        self.child.id().expect("the broker is running")
    }

    /// What it has written to standard output so far.
    pub fn stdout(&self) -> String {
        self.stdout.text()
    }

    /// What it has logged so far.
    pub fn stderr(&self) -> String {
        self.stderr.text()
    }

    /// The fields of all log lines so far that have this message.
    pub fn events(&self, message: &str) -> Vec<Value> {
        self.stderr.text().lines().filter_map(|line| event(line, message)).collect()
    }

    /// Waits for a line on standard output that contains a text.
    ///
    /// # Panics
    /// When none comes.
    pub async fn printed(&self, part: &str) -> String {
        let found = self.stdout.find(|line| line.contains(part).then(|| line.to_owned())).await;
        found.unwrap_or_else(|why| panic!("no line with `{part}`: {why}\nstdout:\n{}", self.stdout.text()))
    }

    /// Waits until it has logged a line that contains a text: it writes its log in its own time.
    ///
    /// # Panics
    /// When none comes.
    pub async fn logged(&self, part: &str) {
        let found = self.stderr.find(|line| line.contains(part).then_some(())).await;
        found.unwrap_or_else(|why| panic!("no line with `{part}`: {why}\n{}", self.stderr.text()));
    }

    /// Asks it to end and waits until it has.
    ///
    /// # Panics
    /// When it does not end within [`PROCESS_DEADLINE`].
    pub async fn stop(self, signal: Signal) -> Exit {
        self.ask_to_end(signal).await;
        self.ended().await
    }

    /// Waits until it has ended.
    ///
    /// # Panics
    /// When it does not end within [`PROCESS_DEADLINE`].
    pub async fn ended(mut self) -> Exit {
        let status = timeout(PROCESS_DEADLINE, self.child.wait())
            .await
            .unwrap_or_else(|_| panic!("the broker does not end; its log:\n{}", self.stderr.text()))
            .expect("the process was started");
        self.stdout.ended().await;
        self.stderr.ended().await;
        drop(self.asleep.take());
        Exit { status, stdout: self.stdout.text(), stderr: self.stderr.text() }
    }

    /// Asks it to end and does not wait, as [`Broker::signal`] does.
    pub async fn ask_to_end(&self, signal: Signal) {
        self.signal(signal).await;
    }

    /// Sends it a signal and does not wait.
    ///
    /// # Panics
    /// When it has ended before.
    pub async fn signal(&self, signal: Signal) {
        let name = match signal {
            Signal::Terminate => "TERM",
            Signal::Interrupt => "INT",
            Signal::Hangup => "HUP",
        };
        let pid = self.pid().to_string();
        let sent = Command::new("kill").args(["-s", name, &pid]).status().await.expect("there is a program `kill`");
        assert!(sent.success(), "kill -s {name} {pid}: {sent}");
    }

    /// The processes that it has started and that run, by their ids.
    ///
    /// # Panics
    /// When it has ended, or the system is no Linux.
    pub fn children(&self) -> Vec<u32> {
        let threads = format!("/proc/{}/task", self.pid());
        let threads = std::fs::read_dir(&threads).unwrap_or_else(|error| panic!("{threads}: {error}"));
        // A thread may have ended since.
        let of = |thread: std::io::Result<std::fs::DirEntry>| {
            std::fs::read_to_string(thread.ok()?.path().join("children")).ok()
        };
        let lists: Vec<String> = threads.filter_map(of).collect();
        lists.iter().flat_map(|list| list.split_whitespace()).filter_map(|pid| pid.parse().ok()).collect()
    }

    /// Ends it as a power cut would, without a word.
    ///
    /// # Panics
    /// When it has ended before.
    pub async fn kill(&mut self) {
        self.child.kill().await.expect("the broker is running");
    }
}

/// The fields of a log line with this message. They stand at the top or below `fields`, as the log is set up.
fn event(line: &str, message: &str) -> Option<Value> {
    let mut entry: Value = serde_json::from_str(line).ok()?;
    if let Some(fields) = entry.get_mut("fields") {
        entry = fields.take();
    }
    (entry["message"] == message).then_some(entry)
}
