//! Scheduler components into machine code, in a process of its own.
//!
//! A compiler that is given hostile bytes may take any time and memory. So it runs in a child of the broker's own program
//! that bounds itself, has none of the broker's environment, and is ended when its time is over. One runs at a time, with
//! low priority, so that it does not get in the way of live traffic.

use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, nice, setrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;

use crate::limits::Bounds;
use crate::runtime::machine_code::{compiler, in_one_line};

/// The verb with which the broker's program compiles what it reads. Not for people.
pub const VERB: &str = "compile-plugin";

/// Bytes of machine code that are taken from a child.
const MOST_CODE: u64 = 1 << 30;

/// How many times its time on a processor a child may take by the clock, on a machine that has others to serve first.
const PATIENCE: u32 = 5;

/// What the child says about a failure, in bytes.
const MOST_WORDS: u64 = 16 << 10;

/// Where components are compiled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compiler {
    /// In a child process of this program, which must know [`VERB`].
    Child,
    /// In this process and without a bound, for programs that are not the broker: tests and benchmarks.
    InProcess,
    /// As [`Compiler::InProcess`], with code that counts what it executes and is slower for it.
    Metered,
}

impl Compiler {
    /// The machine code of a component. An error is one line for whoever brought it.
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
        // Few threads: each takes address space, and what runs here is not in a hurry.
        .env("RAYON_NUM_THREADS", "2")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| format!("its compiler does not start: {error}"))?;
    let mut stdin = child.stdin.take().expect("it is piped");
    let stdout = child.stdout.take().expect("it is piped");
    let stderr = child.stderr.take().expect("it is piped");
    let (mut code, mut words) = (Vec::new(), Vec::new());
    let talking = async {
        let give = async move {
            // A child that ended early has said why.
            let _ = stdin.write_all(component).await;
        };
        let (mut from_stdout, mut from_stderr) = (stdout.take(MOST_CODE), stderr.take(MOST_WORDS));
        let (_, read, _) = tokio::join!(give, from_stdout.read_to_end(&mut code), from_stderr.read_to_end(&mut words));
        read.map_err(|error| format!("its compiler is not heard: {error}"))?;
        child.wait().await.map_err(|error| format!("its compiler is lost: {error}"))
    };
    // The child bounds its own time on a processor, so what is waited for beyond that is others' use of the machine.
    let patience = time * PATIENCE;
    let ended = tokio::time::timeout(patience, talking).await;
    let status = ended.map_err(|_| format!("it does not compile within {} s", patience.as_secs()))??;
    if status.success() {
        return Ok(code);
    }
    let words = String::from_utf8_lossy(&words);
    // One that says nothing or dies by a signal could not have the memory or the time that it asked for.
    Err(match words.lines().find_map(|line| line.strip_prefix(SAYS)) {
        Some(reason) if status.code().is_some() => reason.to_owned(),
        _ => format!(
            "it does not compile within {} MiB of memory and {} s of processor time",
            memory >> 20,
            time.as_secs()
        ),
    })
}

/// Begins the line with which a child says what is wrong with a component.
const SAYS: &str = "component: ";

/// The program that runs, also when its file was replaced meanwhile.
fn program() -> PathBuf {
    let itself = PathBuf::from("/proc/self/exe");
    if itself.exists() { itself } else { std::env::current_exe().unwrap_or(itself) }
}

/// What the child does: compiles a component from standard input to standard output within its bounds.
pub fn child(memory: u64, time: Duration) -> io::Result<()> {
    let seconds = time.as_secs();
    // Without these it would still be ended by its parent. A number that is over the machine's own bound is refused.
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
