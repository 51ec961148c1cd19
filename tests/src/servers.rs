//! Servers of one test alone, which it may kill, freeze and start again without disturbing other tests.
//!
//! They are real programs on ports of their own, with their data in a temporary folder. Each ends with its value, by its
//! process id and never by name, and with the thread that started it should that end without a word.

mod postgres;
mod redis;

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU16, Ordering};

use switchboard::model::Clock;

pub use postgres::PrivatePostgres;
pub use redis::PrivateRedis;

/// Below the range from which the kernel takes ports for outgoing connections, so that a server that is down for a
/// moment finds its port again.
const PORTS: std::ops::Range<u16> = 10_000..30_000;

/// An address that nothing listens on, and that this program does not give away twice.
///
/// # Panics
/// When there is none left.
pub(crate) fn free_address() -> SocketAddr {
    static NEXT: OnceLock<AtomicU16> = OnceLock::new();
    let next = NEXT.get_or_init(|| {
        // Test programs that run side by side begin at different places.
        let [high, low, ..] = Clock::system().random::<16>();
        AtomicU16::new(u16::from_be_bytes([high, low]))
    });
    (0..PORTS.len())
        .map(|_| PORTS.start + next.fetch_add(1, Ordering::Relaxed) % (PORTS.end - PORTS.start))
        .map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
        // Not by listening there: a process that another test is starting would have a copy of that socket for a moment.
        .find(|address| TcpStream::connect(address).is_err())
        .expect("one of many ports is free")
}

/// Sends a signal to a child of ours, which has not been waited for, so that its id is still its own.
fn signal(name: &str, process: &Child) {
    assert!(send(name, process.id()), "kill -s {name} {}", process.id());
}

/// Sends a signal to a process, which may have ended meanwhile.
fn send(name: &str, pid: u32) -> bool {
    let kill = Command::new("kill").args(["-s", name, &pid.to_string()]).stderr(Stdio::null()).status();
    kill.expect("there is a program `kill`").success()
}

/// Starts a program that gets this signal when the thread that started it ends; as another user, if one is named. The
/// process id is the program's own, since `setpriv` replaces itself.
fn bound_to_us(program: &std::path::Path, end: &str, user: Option<&str>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", end]);
    if let Some(user) = user {
        command.args([&format!("--reuid={user}"), &format!("--regid={user}"), "--init-groups"]);
    }
    command.arg(program);
    command
}

/// Waits for the end of a process that was told to, without keeping other tasks from running.
async fn ended(process: &mut Child) {
    crate::eventually("the server has ended", async || process.try_wait().expect("it is our child").is_some()).await;
}
