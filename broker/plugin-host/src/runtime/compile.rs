//! Compiles components into machine code, in a separate process.
//!
//! A compiler given hostile bytes may use any amount of time and memory. It therefore runs as a child of the broker's
//! own program that limits itself, inherits no environment and is killed at its deadline. Compiling runs at low
//! priority, so that live traffic is not delayed.

use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, nice, setrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;

use crate::limits::Bounds;
use crate::runtime::machine_code::{compiler, in_one_line};

/// The hidden subcommand with which the broker's program compiles standard input.
pub const VERB: &str = "compile-plugin";

/// Bytes of machine code accepted from a child.
const MOST_CODE: u64 = 1 << 30;

/// A child may take this many times its processor time on the clock, because a loaded machine serves others first.
const PATIENCE: u32 = 5;

/// Bytes of error output read from a child.
const MOST_WORDS: u64 = 16 << 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compiler {
    /// In a child process of this program, which must implement [`VERB`].
    Child,
    /// In this process and without bounds, for tests and benchmarks.
    InProcess,
    /// Like [`Compiler::InProcess`], with metered code, which is slower.
    Metered,
}

impl Compiler {
    /// The machine code of a component. The error is one line for whoever deployed it.
    pub(crate) async fn compile(
        self,
        compiler: &wasmtime::Engine,
        component: &[u8],
        bounds: &Bounds,
    ) -> Result<Vec<u8>, String> {
        match self {
            Compiler::Child => in_child(component, bounds).await,
            Compiler::InProcess | Compiler::Metered => {
                let (compiler, component) = (compiler.clone(), component.to_vec());
                let compiled = tokio::task::spawn_blocking(move || compiler.precompile_component(&component)).await;
                compiled.map_err(|error| error.to_string())?.map_err(in_one_line)
            }
        }
    }
}

async fn in_child(component: &[u8], bounds: &Bounds) -> Result<Vec<u8>, String> {
    let (memory, time) = (bounds.compile_memory, bounds.compile);
    let mut child = Command::new(program())
        .args([VERB, "--memory", &memory.to_string(), "--seconds", &time.as_secs().to_string()])
        .env_clear()
        // Few threads: each takes address space, and compiling is not urgent.
        .env("RAYON_NUM_THREADS", "2")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| format!("failed to start its compiler: {error}"))?;
    let mut stdin = child.stdin.take().expect("it is piped");
    let stdout = child.stdout.take().expect("it is piped");
    let stderr = child.stderr.take().expect("it is piped");
    let (mut code, mut words) = (Vec::new(), Vec::new());
    let talking = async {
        let give = async move {
            // If the child exits early, its error output says why.
            let _ = stdin.write_all(component).await;
        };
        let (mut from_stdout, mut from_stderr) = (stdout.take(MOST_CODE), stderr.take(MOST_WORDS));
        let (_, read, _) = tokio::join!(give, from_stdout.read_to_end(&mut code), from_stderr.read_to_end(&mut words));
        read.map_err(|error| format!("failed to read from its compiler: {error}"))?;
        child.wait().await.map_err(|error| format!("failed to wait for its compiler: {error}"))
    };
    // The child limits its own processor time. Any wait beyond that is the machine serving others.
    let patience = time * PATIENCE;
    let ended = tokio::time::timeout(patience, talking).await;
    let status = ended.map_err(|_| format!("it does not compile within {} s", patience.as_secs()))??;
    if status.success() {
        return Ok(code);
    }
    let words = String::from_utf8_lossy(&words);
    // A child killed by a signal, or silent, ran out of memory or time.
    Err(match words.lines().find_map(|line| line.strip_prefix(SAYS)) {
        Some(reason) if status.code().is_some() => reason.to_owned(),
        _ => format!(
            "it does not compile within {} MiB of memory and {} s of processor time",
            memory >> 20,
            time.as_secs()
        ),
    })
}

/// Prefix of the line in which a child reports what is wrong with a component.
const SAYS: &str = "component: ";

/// The running program, even if its file has been replaced since.
fn program() -> PathBuf {
    let itself = PathBuf::from("/proc/self/exe");
    if itself.exists() { itself } else { std::env::current_exe().unwrap_or(itself) }
}

/// The child's main: compiles standard input to standard output within its limits.
pub fn child(memory: u64, time: Duration) -> io::Result<()> {
    let seconds = time.as_secs();
    // Best effort: the parent enforces the deadline anyway, and a limit above the machine's own is refused.
    let _ = nice(10);
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    setrlimit(Resource::As, Rlimit { current: Some(memory), maximum: Some(memory) })?;
    setrlimit(Resource::Cpu, Rlimit { current: Some(seconds), maximum: Some(seconds) })?;
    let mut component = Vec::new();
    io::stdin().lock().read_to_end(&mut component)?;
    let compiler = compiler(false).map_err(|error| io::Error::other(error.to_string()))?;
    match compiler.precompile_component(&component) {
        Ok(code) => io::stdout().lock().write_all(&code),
        Err(error) => Err(io::Error::other(format!("{SAYS}{}", in_one_line(error)))),
    }
}
