//! What the routes and the handshake work with.

use std::sync::Arc;

use metrics_exporter_prometheus::PrometheusHandle;
use tokio_util::task::TaskTracker;

use super::proxies::TrustedProxies;
use crate::bus::Bus;
use crate::config::Secret;
use crate::deploy::ControlPlane;
use crate::session::Services;

/// What requests work with.
pub struct State {
    /// What sessions work with, too.
    pub services: Arc<Services>,
    /// What operators decide about plugins.
    pub control: Arc<ControlPlane>,
    /// What they show for it; none: nobody may.
    pub admin_token: Option<Secret>,
    /// Whether other nodes can be reached.
    pub bus: Arc<dyn Bus>,
    /// Renders the metrics.
    pub metrics: PrometheusHandle,
    /// Origins that browsers may come from; none means the page's own.
    pub allowed_origins: Vec<String>,
    /// Whose word counts about who is behind them.
    pub trusted_proxies: TrustedProxies,
    /// The live sockets.
    pub sessions: TaskTracker,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State").finish_non_exhaustive()
    }
}
