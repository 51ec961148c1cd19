//! The metrics of the broker: the name, kind, labels and description of each, declared once.
//!
//! A metric is a constant. Code counts with that constant and a value for each of its labels, so it can neither forget nor
//! misspell a label. [`describe`] registers all of them, and a test compares [`ALL`] with the table in docs/operations.md.
//! The number of values of a label must be bounded: nothing that a client can invent may be one.

use metrics::{Key, KeyName, Label, Level, Metadata, SharedString, Unit, with_recorder};

/// The value of a label, for code that mixes values of several types.
pub use metrics::SharedString as Value;

/// A count, which only grows.
#[derive(Debug, Clone, Copy)]
pub struct Counter<const LABELS: usize> {
    name: &'static str,
    labels: [&'static str; LABELS],
}

/// A current value.
#[derive(Debug, Clone, Copy)]
pub struct Gauge<const LABELS: usize> {
    name: &'static str,
    labels: [&'static str; LABELS],
}

/// Measured values, reported as quantiles.
#[derive(Debug, Clone, Copy)]
pub struct Histogram<const LABELS: usize> {
    name: &'static str,
    labels: [&'static str; LABELS],
}

/// The description of a metric, without its type.
#[derive(Debug, Clone, Copy)]
pub struct Description {
    pub name: &'static str,
    pub kind: Kind,
    pub labels: &'static [&'static str],
    pub unit: Option<Unit>,
    pub help: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
}

static METADATA: Metadata<'static> = Metadata::new("switchboard", Level::INFO, None);

impl<const LABELS: usize> Counter<LABELS> {
    /// The counter with these values of its labels, for repeated use.
    pub fn with(&self, values: [impl Into<SharedString>; LABELS]) -> metrics::Counter {
        with_recorder(|recorder| recorder.register_counter(&key(self.name, &self.labels, values), &METADATA))
    }

    /// Adds to the counter with these values of its labels.
    pub fn add(&self, values: [impl Into<SharedString>; LABELS], count: u64) {
        self.with(values).increment(count);
    }
}

impl<const LABELS: usize> Gauge<LABELS> {
    /// The gauge with these values of its labels.
    pub fn with(&self, values: [impl Into<SharedString>; LABELS]) -> metrics::Gauge {
        with_recorder(|recorder| recorder.register_gauge(&key(self.name, &self.labels, values), &METADATA))
    }
}

impl Gauge<0> {
    /// The gauge itself, which has no labels.
    pub fn handle(&self) -> metrics::Gauge {
        self.with([] as [&'static str; 0])
    }
}

impl Counter<0> {
    /// The counter itself, which has no labels.
    pub fn handle(&self) -> metrics::Counter {
        self.with([] as [&'static str; 0])
    }
}

impl Histogram<0> {
    /// The histogram itself, which has no labels.
    pub fn handle(&self) -> metrics::Histogram {
        self.with([] as [&'static str; 0])
    }
}

impl<const LABELS: usize> Histogram<LABELS> {
    /// The histogram with these values of its labels.
    pub fn with(&self, values: [impl Into<SharedString>; LABELS]) -> metrics::Histogram {
        with_recorder(|recorder| recorder.register_histogram(&key(self.name, &self.labels, values), &METADATA))
    }
}

fn key<const LABELS: usize>(
    name: &'static str,
    labels: &[&'static str; LABELS],
    values: [impl Into<SharedString>; LABELS],
) -> Key {
    if LABELS == 0 {
        return Key::from_static_name(name);
    }
    let labels: Vec<Label> = labels.iter().zip(values).map(|(label, value)| Label::new(*label, value)).collect();
    Key::from_parts(KeyName::from_const_str(name), labels)
}

/// Describes all metrics to the installed recorder.
pub fn describe() {
    with_recorder(|recorder| {
        for &Description { name, kind, unit, help, .. } in ALL {
            let (name, help) = (KeyName::from_const_str(name), SharedString::const_str(help));
            match kind {
                Kind::Counter => recorder.describe_counter(name, unit, help),
                Kind::Gauge => recorder.describe_gauge(name, unit, help),
                Kind::Histogram => recorder.describe_histogram(name, unit, help),
            }
        }
    });
}

macro_rules! metrics {
    ($($kind:ident $constant:ident = $name:literal, [$($label:literal),*], $unit:expr, $help:literal;)*) => {
        $(
            #[doc = $help]
            pub const $constant: $kind<{ <[&str]>::len(&[$($label),*]) }> =
                $kind { name: $name, labels: [$($label),*] };
        )*

        /// All metrics, in the order of docs/operations.md.
        pub const ALL: &[Description] = &[$(
            Description { name: $name, kind: Kind::$kind, labels: &[$($label),*], unit: $unit, help: $help },
        )*];
    };
}

const COUNT: Option<Unit> = Some(Unit::Count);
const SECONDS: Option<Unit> = Some(Unit::Seconds);
const BYTES: Option<Unit> = Some(Unit::Bytes);

metrics! {
    Gauge SESSIONS = "switchboard_sessions", [], COUNT, "live sockets";
    Counter SESSIONS_DROPPED = "switchboard_sessions_dropped_total", ["reason"], None,
        "sockets that the broker closed, by reason";
    Gauge UNFINISHED_BYTES = "switchboard_unfinished_bytes", [], BYTES,
        "memory of messages that have begun to arrive and are not complete, without the first 4 KiB of each";
    Counter EVENTS = "switchboard_events_total", ["kind", "result"], None, "events accepted, by kind and result";
    Histogram HANDLER_SECONDS = "switchboard_handler_seconds", ["plugin", "version", "result"], SECONDS,
        "time of a plugin call, without the wait for the scheduler and for an instance";
    Histogram PLUGIN_START_SECONDS = "switchboard_plugin_start_seconds", ["plugin", "version"], SECONDS,
        "time to start an instance";
    Counter PLUGIN_CALLS = "switchboard_plugin_calls_total", ["plugin", "version", "tenant", "result"], None,
        "plugin calls, by result";
    Counter PLUGIN_EFFECTS = "switchboard_plugin_effects_total", ["plugin", "version", "tenant"], None,
        "effects that plugins returned";
    Counter PLUGIN_CPU = "switchboard_plugin_cpu_microseconds_total", ["plugin", "version", "tenant"], None,
        "processor time of plugin calls and starts";
    Gauge PLUGIN_MEMORY = "switchboard_plugin_memory_bytes", ["plugin", "version", "tenant"], BYTES,
        "the most that the memories and tables of one instance have taken";
    Gauge PLUGIN_INSTANCES = "switchboard_plugin_instances", ["plugin", "version", "tenant"], COUNT,
        "instances, running and warm";
    Counter PLUGIN_SHADOW = "switchboard_plugin_shadow_total", ["plugin", "result"], None,
        "events given to a shadow, by result of the comparison";
    Counter PLUGIN_INCIDENTS_DROPPED = "switchboard_plugin_incidents_dropped_total", [], None,
        "incidents that were not read in time";
    Gauge CATALOGUE_REVISION = "switchboard_plugin_catalogue_revision", [], COUNT,
        "the revision of the plugin catalogue that this node runs";
    Gauge GENERATIONS_FAILING = "switchboard_plugin_generations_failing", [], COUNT,
        "active generations that this node cannot prepare";
    Counter PREPARE_FAILURES = "switchboard_plugin_prepare_failures_total", [], None,
        "failed attempts to prepare a generation";
    Counter CATALOGUE_CHANGES = "switchboard_plugin_changes_total", ["action", "result"], None,
        "requested changes of the plugin catalogue, by result";
    Counter KV_CONFLICTS = "switchboard_kv_conflicts_total", ["plugin"], None,
        "events that were handled again because another one had changed the same key";
    Counter HOOK_CALLS = "switchboard_stored_calls_total", ["plugin", "result"], None,
        "calls of post-commit hooks, by result";
    Counter HOOKS_DROPPED = "switchboard_stored_dropped_total", ["reason"], None,
        "messages whose post-commit hook did not run";
    Histogram COMMIT_SECONDS = "switchboard_commit_seconds", ["result"], SECONDS,
        "time of a batch of commits in the store, by result";
    Histogram COMMIT_BATCH = "switchboard_commit_batch", [], COUNT, "commits in a batch";
    Counter COMMITS_GIVEN_UP = "switchboard_commits_given_up_total", [], None,
        "commits that were not answered in time";
    Gauge DATABASE_AWAY = "switchboard_database_away", [], COUNT, "1 while calls of the database fail at once";
    Counter DATABASE_PREPARED = "switchboard_database_prepared_total", [], None,
        "statements that connections to the database prepared";
    Counter DELIVERIES = "switchboard_deliveries_total", ["class"], None, "frames handed to the hub, by class";
    Counter FRAMES_REFUSED = "switchboard_frames_refused_total", ["reason"], None,
        "frames of clients that were refused, by reason";
    Counter RESUMES = "switchboard_resumes_total", ["recovered"], None,
        "clients that resumed from a position, by whether it could be recovered";
    Counter FRAMES_SHED = "switchboard_frames_shed_total", ["reason"], None,
        "ephemeral frames that were not sent";
    Counter FRAMES_HELD_DROPPED = "switchboard_frames_held_dropped_total", ["reason"], None,
        "durable frames that are not held in memory and are read from the store instead";
    Counter GAP_REPAIRS = "switchboard_gap_repairs_total", [], None,
        "pages read from the store to fill gaps in a channel's sequence";
    Counter CHECKS = "switchboard_checks_total", ["subject", "result"], None,
        "comparisons of a tenant's channels with the store, by result";
    Counter BUS_DROPPED = "switchboard_bus_dropped_total", ["reason"], None,
        "messages between nodes that were dropped, by reason";
    Gauge BUS_CONNECTED = "switchboard_bus_connected", [], COUNT, "1 while the bus is connected to Redis, otherwise 0";
    Gauge PRESENCE_CONNECTED = "switchboard_presence_connected", [], COUNT,
        "1 while Redis answers for presence, otherwise 0";
    Counter CONNECTIONS_REFUSED = "switchboard_connections_refused_total", ["reason"], None,
        "connections that were dropped for lack of room, by reason";
    Counter RATE_LIMITED = "switchboard_rate_limited_total", ["of", "scope"], None,
        "requests and frames that were refused because there were too many, by what and whose limit";
    Counter LOG_INS_REFUSED = "switchboard_log_ins_refused_total", ["limit"], None,
        "log-ins that were answered with 429, by limit";
    Counter REFRESH_REUSED = "switchboard_refresh_reused_total", [], None,
        "refresh tokens that were used twice, each of which ended its log-in";
    Counter SESSIONS_DISMISSED = "switchboard_sessions_dismissed_total", [], None,
        "sockets that were closed because their token no longer counts";
    Counter REQUESTS_LATE = "switchboard_requests_late_total", [], None,
        "requests whose body did not arrive in time";
    Counter LOG_DROPPED = "switchboard_log_dropped_total", [], None,
        "log lines that were dropped because standard error was not read";
    Counter PLUGIN_LOG_DROPPED = "switchboard_plugin_log_dropped_total", ["reason"], None,
        "plugin log lines beyond a bound";
}
