//! The logs of plugins on this node: what they wrote and printed, and why they trapped.
//!
//! Each plugin has the last lines in memory, and whoever follows hears of new ones. Lines are for operators and authors;
//! none of them reaches a client. Nothing is kept on disk; the broker's own log has the lines, too.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use tokio::sync::broadcast;

use crate::model::catalogue::GenerationId;
use crate::model::{Clock, PluginName, TenantSlug, Timestamp};

/// Lines that are kept of one plugin.
const LINES: usize = 1_000;

/// Bytes of text that are kept of one plugin.
const BYTES: usize = 512 << 10;

/// Plugins whose lines are kept; the one that wrote nothing for the longest time makes room.
const PLUGINS: usize = 256;

/// Lines that a follower may be behind; then it is told how many it missed.
const BEHIND: usize = 1_024;

/// How much a line matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// For its author.
    Debug,
    /// What it printed, or found worth a line.
    Info,
    /// Something is odd.
    Warn,
    /// Something failed; a trap is one of these.
    Error,
}

/// A line of a plugin's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LogLine {
    /// When.
    pub at: Timestamp,
    /// How much it matters.
    pub level: Level,
    /// Which plugin.
    pub plugin: PluginName,
    /// Which version of it.
    pub version: String,
    /// Which generation; none for a built-in plugin.
    pub generation: Option<GenerationId>,
    /// Whose event it was at; none outside of an event.
    pub tenant: Option<TenantSlug>,
    /// What it says: at most 1 KiB, or 8 KiB for a trap with its backtrace, whose lines are apart by line feeds.
    pub text: String,
}

/// All logs of this node.
#[derive(Debug)]
pub struct Logs {
    clock: Clock,
    kept: Mutex<HashMap<PluginName, Kept>>,
    news: broadcast::Sender<Arc<LogLine>>,
}

#[derive(Debug, Default)]
struct Kept {
    lines: VecDeque<Arc<LogLine>>,
    bytes: usize,
}

impl Logs {
    pub(super) fn new(clock: Clock) -> Self {
        Self { clock, kept: Mutex::default(), news: broadcast::Sender::new(BEHIND) }
    }

    /// The last lines of a plugin, the oldest first.
    pub fn recent(&self, plugin: &PluginName, most: usize) -> Vec<Arc<LogLine>> {
        let kept = self.kept();
        let Some(kept) = kept.get(plugin) else { return Vec::new() };
        kept.lines.iter().skip(kept.lines.len().saturating_sub(most)).cloned().collect()
    }

    /// The lines of all plugins from now on. Who does not keep up is told how many lines are gone.
    pub fn follow(&self) -> broadcast::Receiver<Arc<LogLine>> {
        self.news.subscribe()
    }

    /// Adds a line to a plugin's log and to the broker's.
    pub(super) fn write(&self, by: &Author, tenant: Option<&TenantSlug>, level: Level, text: String) {
        let (plugin, version, of) = (by.plugin.as_str(), &*by.version, tenant.map(TenantSlug::as_str));
        // The broker's log has one line for each; a backtrace is in the plugin's own.
        let line = text.lines().next().unwrap_or_default();
        match level {
            Level::Debug => tracing::debug!(target: "plugin", plugin, version, tenant = of, "{line}"),
            Level::Info => tracing::info!(target: "plugin", plugin, version, tenant = of, "{line}"),
            Level::Warn => tracing::warn!(target: "plugin", plugin, version, tenant = of, "{line}"),
            Level::Error => tracing::error!(target: "plugin", plugin, version, tenant = of, "{line}"),
        }
        let line = Arc::new(LogLine {
            at: self.clock.now(),
            level,
            plugin: by.plugin.clone(),
            version: by.version.to_string(),
            generation: by.generation,
            tenant: tenant.cloned(),
            text,
        });
        self.keep(Arc::clone(&line));
        // Nobody may follow.
        let _ = self.news.send(line);
    }

    fn keep(&self, line: Arc<LogLine>) {
        let mut kept = self.kept();
        if kept.len() >= PLUGINS && !kept.contains_key(&line.plugin) {
            let quietest = kept.iter().min_by_key(|(_, kept)| kept.lines.back().map(|line| line.at));
            if let Some(quietest) = quietest.map(|(plugin, _)| plugin.clone()) {
                kept.remove(&quietest);
            }
        }
        let own = kept.entry(line.plugin.clone()).or_default();
        own.bytes += line.text.len();
        own.lines.push_back(line);
        while own.lines.len() > LINES || own.bytes > BYTES {
            let Some(oldest) = own.lines.pop_front() else { break };
            own.bytes -= oldest.text.len();
        }
    }

    fn kept(&self) -> MutexGuard<'_, HashMap<PluginName, Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Who writes, and where to.
#[derive(Debug)]
pub(super) struct Author {
    pub(super) plugin: PluginName,
    pub(super) version: Arc<str>,
    pub(super) generation: Option<GenerationId>,
    pub(super) logs: Arc<Logs>,
}

impl Author {
    pub(super) fn write(&self, tenant: Option<&TenantSlug>, level: Level, text: String) {
        self.logs.write(self, tenant, level, text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn author(logs: &Arc<Logs>, plugin: &str) -> Author {
        let plugin = plugin.parse().unwrap();
        Author { plugin, version: "1.0.0".into(), generation: Some(1), logs: Arc::clone(logs) }
    }

    #[test]
    fn the_last_lines_are_kept_within_bounds_and_followers_hear_of_new_ones() {
        let logs = Arc::new(Logs::new(Clock::manual(Timestamp(5))));
        let poll = author(&logs, "poll");
        let mut following = logs.follow();
        for n in 0..LINES + 10 {
            poll.write(None, Level::Info, format!("line {n}"));
        }
        let recent = logs.recent(&poll.plugin, 2);
        let texts: Vec<&str> = recent.iter().map(|line| line.text.as_str()).collect();
        assert_eq!(texts, [format!("line {}", LINES + 8), format!("line {}", LINES + 9)]);
        assert_eq!(logs.recent(&poll.plugin, usize::MAX).len(), LINES);
        assert_eq!(following.try_recv().unwrap().text, "line 0");
        for _ in 0..200 {
            poll.write(None, Level::Error, "x".repeat(8_192));
        }
        let bytes: usize = logs.recent(&poll.plugin, usize::MAX).iter().map(|line| line.text.len()).sum();
        assert!(bytes <= BYTES, "{bytes}");
        assert!(
            matches!(following.try_recv(), Err(broadcast::error::TryRecvError::Lagged(_))),
            "a follower that is too far behind is told"
        );
    }

    #[test]
    fn the_quietest_plugin_makes_room() {
        let clock = Clock::manual(Timestamp(0));
        let logs = Arc::new(Logs::new(clock.clone()));
        for n in 0..=PLUGINS {
            author(&logs, &format!("plugin-{n}")).write(None, Level::Info, "here".to_owned());
            clock.advance(std::time::Duration::from_millis(1));
        }
        assert!(logs.recent(&"plugin-0".parse().unwrap(), 1).is_empty());
        assert_eq!(logs.recent(&"plugin-1".parse().unwrap(), 1).len(), 1);
    }
}
