//! The guest log: what plugins on this node wrote and printed, and why they trapped.
//!
//! The last lines of each plugin stay in memory; followers receive new lines as they are written. Lines are for
//! operators and authors and never reach a client. Nothing is kept on disk. The broker's own log repeats each line, up
//! to a rate limit for each plugin.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::broadcast;

use crate::limits::Limits;
use switchboard_model::catalogue::GenerationId;
use switchboard_model::{Clock, PluginName, TenantSlug, Timestamp};

/// Lines kept for each plugin.
const LINES: usize = 1_000;

/// Bytes of text kept for each plugin.
const BYTES: usize = 512 << 10;

/// Plugins whose lines are kept. Beyond that, the plugin that has been silent longest is dropped.
const PLUGINS: usize = 256;

/// Lines of one plugin that are repeated in the broker's log in any one second. Four sockets can cause thousands of
/// traps a second.
const LINES_A_SECOND: u32 = 100;

/// Lines a follower may lag behind before it misses some and is told how many.
const BEHIND: usize = 1_024;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    Debug,
    Info,
    Warn,
    Error,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LogLine {
    pub at: Timestamp,
    pub level: Level,
    pub plugin: PluginName,
    pub version: String,
    /// `None` for a built-in plugin.
    pub generation: Option<GenerationId>,
    /// `None` while a component is described or test-started.
    pub tenant: Option<TenantSlug>,
    /// At most 1 KiB for a line that the plugin wrote, and 8 KiB for a trap with its backtrace, whose lines are
    /// separated by line feeds.
    pub text: String,
}

impl LogLine {
    /// Repeats the line in the broker's own log, which allows one line each: a backtrace is cut to its first line.
    fn trace(&self) {
        let (plugin, version, tenant) =
            (self.plugin.as_str(), &*self.version, self.tenant.as_ref().map(TenantSlug::as_str));
        let line = self.text.lines().next().unwrap_or_default();
        match self.level {
            Level::Debug => tracing::debug!(target: "plugin", plugin, version, tenant, "{line}"),
            Level::Info => tracing::info!(target: "plugin", plugin, version, tenant, "{line}"),
            Level::Warn => tracing::warn!(target: "plugin", plugin, version, tenant, "{line}"),
            Level::Error => tracing::error!(target: "plugin", plugin, version, tenant, "{line}"),
        }
    }
}

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
    /// Lines written in `second`, the second of the newest line.
    second: i64,
    said: u32,
}

impl Logs {
    pub(crate) fn new(clock: Clock) -> Self {
        Self { clock, kept: Mutex::default(), news: broadcast::Sender::new(BEHIND) }
    }

    /// The newest lines of a plugin, oldest first.
    pub fn recent(&self, plugin: &PluginName, most: usize) -> Vec<Arc<LogLine>> {
        let kept = self.kept.lock();
        let Some(kept) = kept.get(plugin) else { return Vec::new() };
        kept.lines.iter().skip(kept.lines.len().saturating_sub(most)).cloned().collect()
    }

    /// New lines of all plugins. A receiver that lags is told how many it missed.
    pub fn follow(&self) -> broadcast::Receiver<Arc<LogLine>> {
        self.news.subscribe()
    }

    /// Adds a line to the plugin's log and, within [`LINES_A_SECOND`], to the broker's.
    pub(crate) fn write(&self, by: &Author, tenant: Option<&TenantSlug>, level: Level, text: String) {
        let line = Arc::new(LogLine {
            at: self.clock.now(),
            level,
            plugin: by.plugin.clone(),
            version: by.version.to_string(),
            generation: by.generation,
            tenant: tenant.cloned(),
            text,
        });
        let said = self.keep(Arc::clone(&line));
        if said <= LINES_A_SECOND {
            line.trace();
        } else {
            switchboard_metrics::PLUGIN_LOG_DROPPED.add(["too_fast"], 1);
        }
        if said == LINES_A_SECOND + 1 {
            let plugin = line.plugin.as_str();
            tracing::warn!(
                target: "plugin",
                plugin,
                "more than {LINES_A_SECOND} lines in a second; the rest are only in the plugin's own log"
            );
        }
        // An error only means that nobody follows.
        let _ = self.news.send(line);
    }

    /// Keeps a line and returns how many the plugin has written in the same second.
    fn keep(&self, line: Arc<LogLine>) -> u32 {
        let mut kept = self.kept.lock();
        if kept.len() >= PLUGINS && !kept.contains_key(&line.plugin) {
            let quietest = kept.iter().min_by_key(|(_, kept)| kept.lines.back().map(|line| line.at));
            if let Some(quietest) = quietest.map(|(plugin, _)| plugin.clone()) {
                kept.remove(&quietest);
            }
        }
        let own = kept.entry(line.plugin.clone()).or_default();
        // `div_euclid` rounds down, and any change of second resets the count, even when the clock was set back.
        let second = line.at.0.div_euclid(1_000);
        if own.second != second {
            (own.second, own.said) = (second, 0);
        }
        own.said = own.said.saturating_add(1);
        let said = own.said;
        own.bytes += line.text.len();
        own.lines.push_back(line);
        while own.lines.len() > LINES || own.bytes > BYTES {
            let Some(oldest) = own.lines.pop_front() else { break };
            own.bytes -= oldest.text.len();
        }
        said
    }
}

/// Identifies the plugin that a line comes from.
#[derive(Debug)]
pub(crate) struct Author {
    pub(crate) plugin: PluginName,
    pub(crate) version: Arc<str>,
    pub(crate) generation: Option<GenerationId>,
    pub(crate) logs: Arc<Logs>,
}

impl Author {
    pub(crate) fn write(&self, tenant: Option<&TenantSlug>, level: Level, text: String) {
        self.logs.write(self, tenant, level, text);
    }
}

/// The log of one instance, with the number of lines left for the current event.
#[derive(Debug)]
pub(crate) struct GuestLog {
    author: Arc<Author>,
    tenant: Option<TenantSlug>,
    left: AtomicU32,
}

impl GuestLog {
    pub(crate) fn new(author: Arc<Author>, tenant: Option<TenantSlug>) -> Self {
        Self { author, tenant, left: AtomicU32::new(0) }
    }

    /// Starts an event with its allowance of lines.
    pub(crate) fn begin(&self, lines: u32) {
        self.left.store(lines, Ordering::Relaxed);
    }

    pub(crate) fn plugin(&self) -> &PluginName {
        &self.author.plugin
    }

    /// Writes one line, or drops and counts it when the event has used up its lines.
    pub(crate) fn write(&self, level: Level, line: &str) {
        let taken = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        match taken {
            Ok(_) => self.author.write(self.tenant.as_ref(), level, cut(line)),
            Err(_) => {
                switchboard_metrics::PLUGIN_LOG_DROPPED.add(["too_many_lines"], 1);
            }
        }
    }
}

/// Cuts a line to [`Limits::LOG_LINE`] bytes and replaces control characters, which could forge lines of the broker's
/// log.
fn cut(line: &str) -> String {
    let end = line.floor_char_boundary(Limits::LOG_LINE);
    line[..end].chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::listened_to;

    fn author(logs: &Arc<Logs>, plugin: &str) -> Author {
        listened_to();
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
    fn the_broker_writes_so_many_lines_of_a_plugin_in_a_second_and_the_plugins_log_has_all() {
        let clock = Clock::manual(Timestamp(7_000));
        let logs = Arc::new(Logs::new(clock.clone()));
        let (poll, shout) = (author(&logs, "poll"), author(&logs, "shout"));
        let written = Written::default();
        let writer = written.clone();
        let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).finish();
        tracing::subscriber::with_default(subscriber, || {
            for n in 0..LINES_A_SECOND + 50 {
                poll.write(None, Level::Error, format!("trap {n}"));
            }
            assert_eq!(written.count("trap"), 100);
            assert_eq!(written.count("more than 100 lines in a second"), 1);
            assert_eq!(logs.recent(&poll.plugin, usize::MAX).len(), 150);
            shout.write(None, Level::Info, "another".to_owned());
            assert_eq!(written.count("another"), 1, "each plugin has a bound of its own");
            clock.advance(std::time::Duration::from_secs(1));
            poll.write(None, Level::Error, "trap".to_owned());
            assert_eq!(written.count("trap"), 101, "the next second begins anew");
        });
    }

    /// Captures the broker's own log.
    #[derive(Debug, Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Written {
        fn count(&self, text: &str) -> usize {
            String::from_utf8(self.0.lock().clone()).unwrap().lines().filter(|line| line.contains(text)).count()
        }
    }

    impl std::io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
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
