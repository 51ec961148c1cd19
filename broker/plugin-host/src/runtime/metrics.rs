//! What is counted of plugins: for operators as metrics, and for comparing a generation that is tried out.
//!
//! Metrics bear plugin, version and tenant. How many such series there are is bounded, whatever is deployed and however
//! many tenants there are; what is beyond counts as `other`.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use metrics::{Counter, Gauge, Histogram};
use parking_lot::Mutex;

use crate::error::CallError;
use switchboard_model::TenantSlug;

/// Series of plugin, version and tenant.
const SERIES: usize = 2_000;

/// Series of plugin and version.
const VERSIONS: usize = 100;

/// Failures in a row after which an incident is reported.
const CIRCUIT: u32 = 3;

/// The label of what is beyond the bounds.
const OTHER: &str = "other";

/// How a call can end, as metrics say it.
const RESULTS: [&str; 8] = ["ok", "invalid", "denied", "retry", "failed", "trapped", "timed_out", "busy"];

/// Which labels are in use. There is one for each engine.
#[derive(Debug, Default)]
pub(crate) struct Labels {
    versions: Mutex<HashSet<(String, String)>>,
    series: Mutex<HashSet<(String, String, TenantSlug)>>,
}

/// The metrics of a version.
#[derive(Debug)]
pub(crate) struct VersionMetrics {
    labels: Arc<Labels>,
    plugin: String,
    version: String,
    seconds: [OnceLock<Histogram>; RESULTS.len()],
    starts: OnceLock<Histogram>,
}

/// The metrics of a version in a tenant, and whether it fails there again and again.
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

/// Counts an instance for as long as it is there.
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

    /// The metrics in a tenant.
    pub(crate) fn of(&self, tenant: &TenantSlug) -> TenantMetrics {
        let (plugin, version) = (self.plugin.clone(), self.version.clone());
        let known = admit(&self.labels.series, (plugin.clone(), version.clone(), tenant.clone()), SERIES);
        let tenant = if known { tenant.to_string() } else { OTHER.to_owned() };
        let labels = || [("plugin", plugin.clone()), ("version", version.clone()), ("tenant", tenant.clone())];
        TenantMetrics {
            effects: metrics::counter!("switchboard_plugin_effects_total", &labels()),
            processor: metrics::counter!("switchboard_plugin_cpu_microseconds_total", &labels()),
            memory: metrics::gauge!("switchboard_plugin_memory_bytes", &labels()),
            instances: metrics::gauge!("switchboard_plugin_instances", &labels()),
            results: Default::default(),
            high_water: AtomicUsize::new(0),
            failures: AtomicU32::new(0),
            open: AtomicBool::new(false),
            plugin,
            version,
            tenant,
        }
    }

    /// Notes how long an instance took to start, or to fail at it.
    pub(crate) fn started(&self, time: Duration) {
        let histogram = self.starts.get_or_init(|| {
            let (plugin, version) = (self.plugin.clone(), self.version.clone());
            metrics::histogram!("switchboard_plugin_start_seconds", "plugin" => plugin, "version" => version)
        });
        histogram.record(time.as_secs_f64());
    }

    /// Notes how long a call took, its wait for a turn and for an instance left out.
    pub(crate) fn took(&self, word: &'static str, time: Duration) {
        let Some(at) = RESULTS.iter().position(|result| *result == word) else { return };
        let histogram = self.seconds[at].get_or_init(|| {
            let (plugin, version) = (self.plugin.clone(), self.version.clone());
            metrics::histogram!("switchboard_handler_seconds", "plugin" => plugin, "version" => version, "result" => word)
        });
        histogram.record(time.as_secs_f64());
    }
}

impl TenantMetrics {
    /// Notes how a call ended, and answers whether this makes a row of failures that is to be reported.
    pub(crate) fn ended(&self, error: Option<&CallError>, effects: usize, processor: Duration) -> bool {
        let word = error.map_or("ok", CallError::word);
        if let Some(at) = RESULTS.iter().position(|result| *result == word) {
            self.results[at].get_or_init(|| self.result(word)).increment(1);
        }
        self.effects.increment(u64::try_from(effects).unwrap_or(u64::MAX));
        self.processor.increment(u64::try_from(processor.as_micros()).unwrap_or(u64::MAX));
        if matches!(error, Some(CallError::Trapped(_) | CallError::TimedOut)) {
            let failures = self.failures.fetch_add(1, Ordering::AcqRel) + 1;
            return failures >= CIRCUIT && !self.open.swap(true, Ordering::AcqRel);
        }
        if self.failures.load(Ordering::Relaxed) > 0 {
            self.failures.store(0, Ordering::Release);
            self.open.store(false, Ordering::Release);
        }
        false
    }

    /// Notes how much memory an instance had.
    pub(crate) fn memory(&self, bytes: usize) {
        if self.high_water.fetch_max(bytes, Ordering::Relaxed) < bytes {
            #[expect(clippy::cast_precision_loss, reason = "memories are far below 2^52 bytes")]
            self.memory.set(bytes as f64);
        }
    }

    /// Counts a new instance.
    pub(crate) fn instance(&self) -> Present {
        self.instances.increment(1);
        Present(self.instances.clone())
    }

    fn result(&self, word: &'static str) -> Counter {
        let (plugin, version, tenant) = (self.plugin.clone(), self.version.clone(), self.tenant.clone());
        metrics::counter!(
            "switchboard_plugin_calls_total",
            "plugin" => plugin, "version" => version, "tenant" => tenant, "result" => word
        )
    }
}

impl Drop for Present {
    fn drop(&mut self) {
        self.0.decrement(1);
    }
}

/// Whether a label is in use or may still be.
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
