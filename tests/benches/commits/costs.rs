//! What processes have used of the processors, as the kernel counts it.
//!
//! Unlike a rate it hardly depends on what else the machine does meanwhile. It knows of processes what `/proc` tells.

use std::time::Duration;

/// A tick of the kernel's count: Linux shows 100 to the second, whatever it counts itself.
const TICK: Duration = Duration::from_millis(10);

/// Used by this process so far.
pub(crate) fn own() -> Duration {
    stat(std::process::id()).map_or(Duration::ZERO, |stat| stat.used)
}

/// Used so far by the processes that a process has started, and those they started.
pub(crate) fn below(parent: u32) -> Duration {
    let all = std::fs::read_dir("/proc").expect("the kernel is Linux").flatten();
    let children: Vec<u32> = all
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| stat(*pid).is_some_and(|stat| stat.parent == parent))
        .collect();
    children.into_iter().map(of).sum()
}

/// Used so far by a process and those it started.
pub(crate) fn of(pid: u32) -> Duration {
    stat(pid).map_or(Duration::ZERO, |stat| stat.used) + below(pid)
}

struct Stat {
    parent: u32,
    /// Those of its children counted in that have ended.
    used: Duration,
}

fn stat(pid: u32) -> Option<Stat> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name stands in brackets and may hold anything; state and parent follow it.
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks: u32 = fields.get(11..15)?.iter().map(|field| field.parse().unwrap_or(0)).sum();
    Some(Stat { parent: fields.get(1)?.parse().ok()?, used: TICK * ticks })
}
