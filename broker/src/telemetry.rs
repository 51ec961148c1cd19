//! What the process says of itself: log lines on standard error, and metrics.
//!
//! No token, secret, password or message content goes through here.

mod throttle;
mod writer;

use std::backtrace::{Backtrace, BacktraceStatus};
use std::time::Duration;

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;

use crate::config::{Log, LogFormat};

pub use throttle::Throttle;
use writer::Writer;

/// How often what was measured is summed up.
const UPKEEP_EVERY: Duration = Duration::from_secs(5);

/// Why telemetry could not start.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter does not read.
    #[error("failed to read the log filter `{0}`: expected something like info,switchboard=debug")]
    Filter(String),
    /// Another part of the process was first.
    #[error("failed to install telemetry: it is installed already")]
    Installed,
    /// There is no thread for the log.
    #[error("failed to start writing the log: {0}")]
    Writer(#[source] std::io::Error),
}

/// Whether the settings of the log read.
pub fn check(log: &Log) -> Result<(), TelemetryError> {
    filter(log).map(|_| ())
}

fn filter(log: &Log) -> Result<EnvFilter, TelemetryError> {
    EnvFilter::try_new(&log.filter).map_err(|_| TelemetryError::Filter(log.filter.clone()))
}

/// The log of the process. At its end, what waits is written, if somebody reads it within a second.
#[derive(Debug)]
#[must_use = "the last lines are written at its end"]
pub struct Logging(Writer);

impl Drop for Logging {
    fn drop(&mut self) {
        self.0.flush();
    }
}

/// Starts logging for the whole process. Nobody who logs, or panics, waits for standard error to be read or fails with it.
pub fn log(log: &Log) -> Result<Logging, TelemetryError> {
    let filter = filter(log)?;
    let colours = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let writer = Writer::standard_error().map_err(TelemetryError::Writer)?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer.clone()).with_ansi(colours);
    let installed = match log.format {
        LogFormat::Text => builder.with_target(false).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).with_current_span(false).try_init(),
    };
    installed.map_err(|_| TelemetryError::Installed)?;
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string);
        let message = panic.payload_as_str().unwrap_or_default();
        // None unless RUST_BACKTRACE asks for it.
        let backtrace = Some(Backtrace::capture()).filter(|trace| trace.status() == BacktraceStatus::Captured);
        tracing::error!(place, backtrace = backtrace.map(|trace| trace.to_string()), "panicked: {message}");
    }));
    Ok(Logging(writer))
}

/// Starts collecting metrics for the whole process; the handle renders them. Needs a running Tokio runtime.
pub fn metrics(logging: &Logging) -> Result<PrometheusHandle, TelemetryError> {
    let handle = PrometheusBuilder::new().install_recorder().map_err(|_| TelemetryError::Installed)?;
    describe();
    // Samples of histograms are kept until they are summed up; nobody may ever ask for them.
    let (upkeep, dropped) = (handle.clone(), logging.0.clone());
    tokio::spawn(async move {
        let mut pace = tokio::time::interval(UPKEEP_EVERY);
        loop {
            pace.tick().await;
            upkeep.run_upkeep();
            metrics::counter!("switchboard_log_dropped_total").absolute(dropped.dropped());
        }
    });
    Ok(handle)
}

fn describe() {
    use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};

    describe_gauge!("switchboard_sessions", Unit::Count, "live sockets");
    describe_counter!("switchboard_sessions_dropped_total", "sockets the broker closed, by reason");
    describe_counter!("switchboard_events_total", "events taken in, by kind and result");
    describe_histogram!(
        "switchboard_handler_seconds",
        Unit::Seconds,
        "time of a call of a plugin, by version and result, its wait for a turn and for an instance left out"
    );
    describe_histogram!(
        "switchboard_plugin_start_seconds",
        Unit::Seconds,
        "time of the start of an instance, by version"
    );
    describe_counter!("switchboard_plugin_calls_total", "calls of a plugin, by version, tenant and result");
    describe_counter!("switchboard_plugin_effects_total", "effects that a plugin asked for");
    describe_counter!(
        "switchboard_plugin_cpu_microseconds_total",
        "time of a plugin's calls and starts on a processor"
    );
    describe_gauge!(
        "switchboard_plugin_memory_bytes",
        Unit::Bytes,
        "the most that the memories and tables of an instance had"
    );
    describe_gauge!("switchboard_plugin_instances", Unit::Count, "instances of a plugin, running and warm");
    describe_counter!("switchboard_plugin_shadow_total", "events given to a shadow, by what came of it");
    describe_gauge!("switchboard_plugin_catalogue_revision", "the revision of the catalogue that this node runs");
    describe_gauge!("switchboard_plugin_generations_failing", "generations in force that cannot be prepared here");
    describe_counter!("switchboard_plugin_prepare_failures_total", "tries to prepare a generation that failed");
    describe_counter!("switchboard_plugin_changes_total", "changes of the catalogue that were asked for, by result");
    describe_counter!("switchboard_plugin_incidents_dropped_total", "incidents that nobody read in time");
    describe_histogram!(
        "switchboard_commit_seconds",
        Unit::Seconds,
        "time of a batch of commits in the store, by result"
    );
    describe_histogram!("switchboard_commit_batch", Unit::Count, "commits in a batch");
    describe_counter!("switchboard_commits_given_up_total", "commits that were not answered in time");
    describe_gauge!("switchboard_database_away", "1 while calls of the database fail at once");
    describe_counter!("switchboard_database_prepared_total", "statements that connections of the database prepared");
    describe_counter!("switchboard_deliveries_total", "frames handed to the hub, by class");
    describe_counter!("switchboard_frames_refused_total", "frames of clients that were not taken in, by reason");
    describe_counter!("switchboard_resumes_total", "clients that came back with a position, and whether it led here");
    describe_counter!("switchboard_frames_shed_total", "ephemeral frames not sent to a slow or joining client");
    describe_counter!("switchboard_frames_held_dropped_total", "durable frames to be read from the store instead");
    describe_counter!("switchboard_gap_repairs_total", "holes in a channel's sequence that were filled from the store");
    describe_counter!("switchboard_checks_total", "comparisons of a tenant's channels with the store, by result");
    describe_counter!("switchboard_bus_dropped_total", "messages between nodes that were dropped, by reason");
    describe_gauge!("switchboard_bus_connected", "1 while the bus is connected to Redis, 0 while it is away");
    describe_gauge!("switchboard_presence_connected", "1 while presence is answered by Redis, 0 while it is not");
    describe_counter!("switchboard_connections_refused_total", "connections for which there was no place");
    describe_counter!("switchboard_requests_late_total", "requests whose body did not arrive in time");
    describe_counter!(
        "switchboard_log_dropped_total",
        "log lines that found no room, since standard error is not read"
    );
    describe_counter!("switchboard_plugin_log_dropped_total", "plugin log lines beyond the bound");
}
