//! The harness of the integration tests: brokers as real processes, members who talk to them over real sockets.
//!
//! A test reads as what people do: `alice.join(&lobby)`, `socket.say("hi")`. Tenants, members and channels are made on the
//! broker's store, as the program's commands do; otherwise nothing here knows how the broker works inside. Nothing is
//! mocked, and a missing service is a failure, never a skip. Every wait has a deadline that only something that hangs
//! meets, and fails with what was seen until then. How long things take is printed, and asserted with
//! `tests/run --figures` alone: see [`figure`].

mod app;
mod compiled;
mod component;
mod disk;
mod figures;
pub mod journal;
mod log;
mod operator;
mod people;
mod process;
mod proxy;
pub mod raw;
pub mod servers;
mod services;
mod socket;
pub mod tokens;

use std::time::Duration;

pub use app::{App, Cluster};
pub use component::{Part, compile_within, plugin, plugin_with, plugin_with_names, with_instances, with_much_code};
pub use disk::SmallDisk;
pub use figures::{Goal, Latencies, figure, figures_are_held, mib};
pub use operator::{ADMIN_TOKEN, Lines, Operator};
pub use people::{Answer, Channel, Door, Member, Tenant};
pub use process::{Broker, Exit, Listener, Settings, Signal};
pub use proxy::{Proxy, Traffic};
pub use services::{Database, Folder, needs_server, redis_url};
pub use socket::{Closed, Refused, Socket};

use serde_json::Value;
use switchboard::model::Clock;

/// How long a wait for a frame, an answer or a log line may take. It is many times the broker's own longest wait, so that
/// a machine that is slow, or busy with something else, does not meet it.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// How long a broker or a command may take to start or to end: a first start compiles the built-in plugins, and tests
/// share few cores.
pub const PROCESS_DEADLINE: Duration = Duration::from_secs(240);

/// A text that no other test uses, of a length that fits names with bounds: 12 hexadecimal digits.
pub fn unique() -> String {
    Clock::system().uuid().simple().to_string().split_off(20)
}

/// Waits until something holds, asking again and again.
///
/// # Panics
/// When it does not hold within [`DEADLINE`].
pub async fn eventually(what: &str, holds: impl AsyncFnMut() -> bool) {
    eventually_within(DEADLINE, what, holds).await;
}

/// As [`eventually`], with as much patience as is given.
///
/// # Panics
/// When it does not hold within that time.
pub async fn eventually_within(bound: Duration, what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let mut pace = tokio::time::interval(Duration::from_millis(50));
    let asking = async {
        while !holds().await {
            pace.tick().await;
        }
    };
    tokio::time::timeout(bound, asking).await.unwrap_or_else(|_| panic!("still not: {what}"));
}

/// How often a fault test does its fault, given how often it does so in a run of everything: as often, or ten times as
/// often when `SWITCHBOARD_FAULTS` is `long`.
///
/// # Panics
/// When the variable has another value.
pub fn rounds(short: u64) -> u64 {
    match std::env::var("SWITCHBOARD_FAULTS").as_deref() {
        Ok("long") => short * 10,
        Err(std::env::VarError::NotPresent) => short,
        other => panic!("SWITCHBOARD_FAULTS is `long` or not set, and not {other:?}"),
    }
}

/// The names in a JSON object, sorted: the form of a frame.
///
/// # Panics
/// When it is no object.
pub fn keys(value: &Value) -> Vec<&str> {
    let object = value.as_object().unwrap_or_else(|| panic!("not an object: {value}"));
    let mut keys: Vec<&str> = object.keys().map(String::as_str).collect();
    keys.sort_unstable();
    keys
}

/// The text under a name.
///
/// # Panics
/// When there is none.
pub fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_else(|| panic!("no text `{name}` in {value}"))
}

/// The whole number under a name.
///
/// # Panics
/// When there is none.
pub fn number(value: &Value, name: &str) -> u64 {
    value[name].as_u64().unwrap_or_else(|| panic!("no number `{name}` in {value}"))
}

/// The elements of a list under a name.
///
/// # Panics
/// When there is none.
pub fn list<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value[name].as_array().unwrap_or_else(|| panic!("no list `{name}` in {value}"))
}
