//! What tests measure and print: how long things took, and what a broker counts and weighs.
//!
//! Figures of time are for people to read: what they are says as much of the machine and of what else it does as of the
//! broker. So they are printed, and held to their goals only where somebody asks for that: [`figure`].

use std::fmt;
use std::time::Duration;

use crate::{Broker, Door};

/// What a figure is to be on a machine that does nothing else.
#[derive(Debug, Clone, Copy)]
pub enum Goal<T> {
    /// This or less.
    AtMost(T),
    /// This or more.
    AtLeast(T),
}

/// Prints a figure with its goal, and holds it to that if [`figures_are_held`].
///
/// # Panics
/// When it misses a goal that it is held to.
pub fn figure<T: PartialOrd + fmt::Debug>(what: &str, found: T, goal: Goal<T>) {
    println!("figure: {what}: {found:.2?}; goal: {goal:.2?}");
    let reached = match &goal {
        Goal::AtMost(most) => found <= *most,
        Goal::AtLeast(least) => found >= *least,
    };
    assert!(reached || !figures_are_held(), "{what}: {found:.2?}; goal: {goal:.2?}");
}

/// Whether this run is there for its figures, as `tests/run --figures` says with `SWITCHBOARD_FIGURES=hold`. It then has
/// the machine for itself, and measures for longer.
///
/// # Panics
/// When the variable has another value.
pub fn figures_are_held() -> bool {
    match std::env::var("SWITCHBOARD_FIGURES").as_deref() {
        Ok("hold") => true,
        Err(std::env::VarError::NotPresent) => false,
        other => panic!("SWITCHBOARD_FIGURES is `hold` or not set, and not {other:?}"),
    }
}

/// How long each of many things took.
#[derive(Debug, Default, Clone)]
pub struct Latencies(Vec<Duration>);

impl Latencies {
    /// The time that was not exceeded in so many of a thousand cases; zero when there was none.
    pub fn per_mille(&self, rank: usize) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let index = (sorted.len() * rank).div_ceil(1000).saturating_sub(1);
        sorted.get(index).copied().unwrap_or_default()
    }
}

impl FromIterator<Duration> for Latencies {
    fn from_iter<I: IntoIterator<Item = Duration>>(all: I) -> Self {
        Self(all.into_iter().collect())
    }
}

impl fmt::Display for Latencies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (p50, p99, max) = (self.per_mille(500), self.per_mille(990), self.per_mille(1000));
        write!(f, "{} times: p50 {p50:.1?}, p99 {p99:.1?}, at most {max:.1?}", self.0.len())
    }
}

impl Broker {
    /// The sum of all values of a metric whose line has these labels, as `name="value"`; zero when it has none yet.
    ///
    /// # Panics
    /// When the broker does not show its metrics.
    pub async fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        let (status, text) = Door::new(self.admin_address()).get("/metrics", None).await;
        let text = text.as_str().filter(|_| status == 200).unwrap_or_else(|| panic!("no metrics: {status}"));
        let value = |line: &str| {
            let (series, value) = line.rsplit_once(' ')?;
            let (found, rest) = series.split_once('{').unwrap_or((series, ""));
            (found == name && labels.iter().all(|label| rest.contains(label))).then(|| value.parse::<f64>().ok())?
        };
        text.lines().filter_map(value).sum()
    }

    /// How long processors have worked for the process since its start. The system counts in hundredths of a second.
    ///
    /// # Panics
    /// When it has ended, or the system is no Linux.
    pub fn worked(&self) -> Duration {
        let path = format!("/proc/{}/stat", self.pid());
        let stat = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        // The name stands in parentheses and may hold any character; the third field follows it.
        let (_, fields) = stat.rsplit_once(')').expect("a process has a name");
        let ticks = |at: usize| fields.split_whitespace().nth(at - 3)?.parse::<u64>().ok();
        let both = ticks(14).zip(ticks(15)).expect("the 14th and 15th field are times");
        Duration::from_millis((both.0 + both.1) * 10)
    }

    /// How many bytes of memory the process has in use.
    ///
    /// # Panics
    /// When it has ended, or the system is no Linux.
    pub fn memory(&self) -> u64 {
        self.size("VmRSS:")
    }

    /// The most that [`Broker::memory`] was since the last call of this, or since the start.
    ///
    /// # Panics
    /// When it has ended, or the system is no Linux.
    pub fn peak_memory(&self) -> u64 {
        const FORGET_THE_PEAK: &str = "5";
        let peak = self.size("VmHWM:");
        let path = format!("/proc/{}/clear_refs", self.pid());
        std::fs::write(&path, FORGET_THE_PEAK).unwrap_or_else(|error| panic!("{path}: {error}"));
        peak
    }

    fn size(&self, name: &str) -> u64 {
        let path = format!("/proc/{}/status", self.pid());
        let status = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("a process has a size");
        let kib: u64 = line.trim().trim_end_matches(" kB").parse().expect("the size is in kB");
        kib * 1024
    }
}

/// Bytes as people read them.
pub fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}
