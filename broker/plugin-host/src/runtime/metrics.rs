//! Metrics of plugins.
//!
//! Metrics carry plugin, version and tenant. The number of series is bounded, whatever is deployed and however many
//! tenants there are; everything beyond the bound is labelled `other`.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use metrics::{Counter, Gauge, Histogram};
use parking_lot::Mutex;

use crate::error::CallError;
use switchboard_metrics::{
    HANDLER_SECONDS, PLUGIN_CALLS, PLUGIN_CPU, PLUGIN_EFFECTS, PLUGIN_INSTANCES, PLUGIN_MEMORY, PLUGIN_START_SECONDS,
};
use switchboard_model::TenantSlug;

/// Series of plugin, version and tenant.
const SERIES: usize = 2_000;

/// Series of plugin and version.
const VERSIONS: usize = 100;

/// Consecutive failures after which an incident is reported.
const CIRCUIT: u32 = 3;

const OTHER: &str = "other";

/// The values of the `result` label.
const RESULTS: [&str; 8] = ["ok", "invalid", "denied", "retry", "failed", "trapped", "timed_out", "busy"];

/// The label values in use. One set for each engine; it never shrinks.
#[derive(Debug, Default)]
pub(crate) struct Labels {
    versions: Mutex<HashSet<(String, String)>>,
    series: Mutex<HashSet<(String, String, TenantSlug)>>,
}

#[derive(Debug)]
pub(crate) struct VersionMetrics {
    labels: Arc<Labels>,
    plugin: String,
    version: String,
    seconds: [OnceLock<Histogram>; RESULTS.len()],
    starts: OnceLock<Histogram>,
}

/// The metrics of a version in one tenant, and its count of consecutive failures there.
#[derive(Debug)]
pub(crate) struct TenantMetrics {
    plugin: String,
    version: String,
    tenant: String,
    results: [OnceLock<Counter>; RESULTS.len()],
    effects: Counter,
    processor: Counter,
    memory: Gauge,
    instances: Gauge,
    high_water: AtomicUsize,
    failures: AtomicU32,
    open: AtomicBool,
}

/// Counts an instance while it exists.
#[derive(Debug)]
pub(crate) struct Present(Gauge);

impl VersionMetrics {
    pub(crate) fn new(labels: &Arc<Labels>, plugin: &str, version: &str) -> Self {
        let (plugin, mut version) = (plugin.to_owned(), version.to_owned());
        if !admit(&labels.versions, (plugin.clone(), version.clone()), VERSIONS) {
            OTHER.clone_into(&mut version);
        }
        Self { labels: Arc::clone(labels), plugin, version, seconds: Default::default(), starts: OnceLock::new() }
    }

    pub(crate) fn of(&self, tenant: &TenantSlug) -> TenantMetrics {
        let (plugin, version) = (self.plugin.clone(), self.version.clone());
        let known = admit(&self.labels.series, (plugin.clone(), version.clone(), tenant.clone()), SERIES);
        let tenant = if known { tenant.to_string() } else { OTHER.to_owned() };
        let labels = || [plugin.clone(), version.clone(), tenant.clone()];
        TenantMetrics {
            effects: PLUGIN_EFFECTS.with(labels()),
            processor: PLUGIN_CPU.with(labels()),
            memory: PLUGIN_MEMORY.with(labels()),
            instances: PLUGIN_INSTANCES.with(labels()),
            results: Default::default(),
            high_water: AtomicUsize::new(0),
            failures: AtomicU32::new(0),
            open: AtomicBool::new(false),
            plugin,
            version,
            tenant,
        }
    }

    /// Records how long an instance took to start, or to fail to.
    pub(crate) fn started(&self, time: Duration) {
        let labels = || [self.plugin.clone(), self.version.clone()];
        let histogram = self.starts.get_or_init(|| PLUGIN_START_SECONDS.with(labels()));
        histogram.record(time.as_secs_f64());
    }

    /// Records how long a call took, without its wait for a permit and for an instance.
    pub(crate) fn took(&self, word: &'static str, time: Duration) {
        let Some(at) = RESULTS.iter().position(|result| *result == word) else { return };
        let labels = || [self.plugin.clone(), self.version.clone(), word.to_owned()];
        let histogram = self.seconds[at].get_or_init(|| HANDLER_SECONDS.with(labels()));
        histogram.record(time.as_secs_f64());
    }
}

impl TenantMetrics {
    /// Records how a call ended. Returns whether this completes a series of failures that has to be reported.
    pub(crate) fn ended(&self, error: Option<&CallError>, effects: usize, processor: Duration) -> bool {
        let word = error.map_or("ok", CallError::word);
        if let Some(at) = RESULTS.iter().position(|result| *result == word) {
            self.results[at].get_or_init(|| self.result(word)).increment(1);
        }
        self.effects.increment(u64::try_from(effects).unwrap_or(u64::MAX));
        self.processor.increment(u64::try_from(processor.as_micros()).unwrap_or(u64::MAX));
        if matches!(error, Some(CallError::Trapped(_) | CallError::TimedOut)) {
            // Only traps and timeouts count. `open` makes a series report once, until a call ends differently and
            // closes it.
            let failures = self.failures.fetch_add(1, Ordering::AcqRel) + 1;
            return failures >= CIRCUIT && !self.open.swap(true, Ordering::AcqRel);
        }
        if self.failures.load(Ordering::Relaxed) > 0 {
            self.failures.store(0, Ordering::Release);
            self.open.store(false, Ordering::Release);
        }
        false
    }

    /// Records the memory of an instance. The gauge shows the highest value seen.
    pub(crate) fn memory(&self, bytes: usize) {
        if self.high_water.fetch_max(bytes, Ordering::Relaxed) < bytes {
            #[expect(clippy::cast_precision_loss, reason = "memories are far below 2^52 bytes")]
            self.memory.set(bytes as f64);
        }
    }

    pub(crate) fn instance(&self) -> Present {
        self.instances.increment(1);
        Present(self.instances.clone())
    }

    fn result(&self, word: &'static str) -> Counter {
        PLUGIN_CALLS.with([self.plugin.clone(), self.version.clone(), self.tenant.clone(), word.to_owned()])
    }
}

impl Drop for Present {
    fn drop(&mut self) {
        self.0.decrement(1);
    }
}

/// Whether the label may be used: it is known already, or there is room for it.
fn admit<T: Eq + std::hash::Hash>(known: &Mutex<HashSet<T>>, label: T, most: usize) -> bool {
    let mut known = known.lock();
    known.contains(&label) || (known.len() < most && known.insert(label))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metrics() -> TenantMetrics {
        VersionMetrics::new(&Arc::default(), "poll", "1.0.0").of(&"acme".parse().unwrap())
    }

    #[test]
    fn three_failures_in_a_row_are_said_once_until_a_call_succeeds() {
        let metrics = metrics();
        let ended = |error: Option<&CallError>| metrics.ended(error, 0, Duration::ZERO);
        let (trap, slow) = (CallError::Trapped("unreachable".to_owned()), CallError::TimedOut);
        assert!(!ended(Some(&trap)) && !ended(Some(&slow)));
        assert!(!ended(Some(&CallError::Denied("no".to_owned()))), "an answer breaks the row");
        assert!(!ended(Some(&trap)) && !ended(Some(&slow)) && ended(Some(&trap)));
        assert!(!ended(Some(&trap)) && !ended(Some(&trap)) && !ended(Some(&trap)), "once");
        assert!(!ended(None));
        assert!(!ended(Some(&trap)) && !ended(Some(&trap)) && ended(Some(&trap)), "and again after a success");
    }

    #[test]
    fn labels_are_bounded() {
        let labels = Arc::new(Labels::default());
        let version = VersionMetrics::new(&labels, "poll", "1.0.0");
        let tenants: Vec<String> =
            (0..SERIES + 5).map(|n| version.of(&format!("t{n}").parse().unwrap()).tenant).collect();
        assert_eq!(tenants[SERIES - 1], format!("t{}", SERIES - 1));
        assert!(tenants[SERIES..].iter().all(|tenant| tenant == OTHER));
        assert_eq!(version.of(&"t0".parse().unwrap()).tenant, "t0");
        for n in 0..VERSIONS + 5 {
            VersionMetrics::new(&labels, "poll", &format!("1.0.{n}"));
        }
        assert_eq!(VersionMetrics::new(&labels, "poll", "2.0.0").version, OTHER);
    }
}
