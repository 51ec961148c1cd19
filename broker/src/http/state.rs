//! The shared state of the routes and the handshake.

use std::sync::Arc;
use std::time::Duration;

use metrics_exporter_prometheus::PrometheusHandle;
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

use super::proxies::TrustedProxies;
use crate::auth::Keys;
use crate::bus::Bus;
use crate::config::{AllowedOrigin, Secret};
use crate::deploy::ControlPlane;
use crate::identity::Identity;
use crate::model::Clock;
use crate::presence::Presence;
use crate::rates::Rates;
use crate::relay::Relay;
use crate::router::Router;
use crate::session::Services;
use crate::store::Store;

/// The shared state of all requests.
pub struct State {
    pub identity: Arc<Identity>,
    pub keys: Arc<Keys>,
    pub rates: Arc<Rates>,
    pub router: Arc<Router>,
    pub relay: Arc<Relay>,
    pub store: Arc<dyn Store>,
    pub presence: Arc<dyn Presence>,
    pub clock: Clock,
    /// Set when the broker is going away.
    pub draining: watch::Receiver<Option<Duration>>,
    /// For sockets, once their handshake is done.
    pub services: Arc<Services>,
    pub control: Arc<ControlPlane>,
    /// The operators' token; if there is none, nobody can change plugins.
    pub admin_token: Option<Secret>,
    pub bus: Arc<dyn Bus>,
    pub metrics: PrometheusHandle,
    /// Origins from which browsers may come, besides the host that they connect to.
    pub allowed_origins: Vec<AllowedOrigin>,
    pub trusted_proxies: TrustedProxies,
    /// The open sockets.
    pub sessions: TaskTracker,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State").finish_non_exhaustive()
    }
}
