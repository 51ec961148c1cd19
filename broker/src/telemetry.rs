//! The log, on standard error, and the metrics of the process.
//!
//! Neither contains a token, a secret, a password or message content.

mod throttle;
mod writer;

use std::backtrace::{Backtrace, BacktraceStatus};
use std::time::Duration;

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;

use crate::config::{Log, LogFormat};

pub use throttle::Throttle;
use writer::Writer;

/// How often the samples of histograms are aggregated.
const UPKEEP_EVERY: Duration = Duration::from_secs(5);

/// Why telemetry could not start.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    #[error("failed to read the log filter `{0}`: expected a filter such as info,switchboard=debug")]
    Filter(String),
    #[error("failed to install telemetry: it is already installed")]
    Installed,
    #[error("failed to start writing the log: {0}")]
    Writer(#[source] std::io::Error),
}

/// Checks the settings of the log.
pub fn check(log: &Log) -> Result<(), TelemetryError> {
    filter(log).map(|_| ())
}

fn filter(log: &Log) -> Result<EnvFilter, TelemetryError> {
    EnvFilter::try_new(&log.filter).map_err(|_| TelemetryError::Filter(log.filter.clone()))
}

/// The log of the process. When dropped, it writes the waiting lines, if somebody reads them within a second.
#[derive(Debug)]
#[must_use = "the last lines are written at its end"]
pub struct Logging(Writer);

impl Drop for Logging {
    fn drop(&mut self) {
        self.0.flush();
    }
}

/// Starts logging for the whole process. Code that logs or panics never waits for a reader of standard error, nor fails
/// with it.
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
        // None unless RUST_BACKTRACE requests one.
        let backtrace = Some(Backtrace::capture()).filter(|trace| trace.status() == BacktraceStatus::Captured);
        tracing::error!(place, backtrace = backtrace.map(|trace| trace.to_string()), "panicked: {message}");
    }));
    Ok(Logging(writer))
}

/// Starts collecting metrics for the whole process; the handle renders them. Requires a running Tokio runtime.
pub fn metrics(logging: &Logging) -> Result<PrometheusHandle, TelemetryError> {
    let handle = PrometheusBuilder::new().install_recorder().map_err(|_| TelemetryError::Installed)?;
    crate::metrics::describe();
    // Samples of histograms stay in memory until they are aggregated, which must not depend on a scraper.
    let (upkeep, dropped) = (handle.clone(), logging.0.clone());
    tokio::spawn(async move {
        let mut pace = tokio::time::interval(UPKEEP_EVERY);
        loop {
            pace.tick().await;
            upkeep.run_upkeep();
            crate::metrics::LOG_DROPPED.handle().absolute(dropped.dropped());
        }
    });
    Ok(handle)
}
