//! What a node noticed about a generation while running it.
//!
//! A report changes nothing by itself: the reader of [`Incidents`] decides whether to route events elsewhere.

use tokio::sync::mpsc;

use switchboard_model::catalogue::{GenerationId, Scope, Subject};
use switchboard_model::{PluginName, TenantSlug};

/// Incidents waiting for the reader. More are dropped and counted.
const WAITING: usize = 64;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Incident {
    /// Three calls in a row for one tenant trapped or timed out. Reported once, until a call ends in any other way.
    Circuit {
        tenant: TenantSlug,
        plugin: PluginName,
        /// `None` for a built-in plugin.
        generation: Option<GenerationId>,
        scope: Scope,
        subject: Subject,
        /// What happened last, in one line for the operator.
        reason: String,
    },
    /// A canary does worse than the stable generation.
    Canary {
        plugin: PluginName,
        generation: Option<GenerationId>,
        scope: Scope,
        subject: Subject,
        /// By how much it does worse, in one line for the operator.
        reason: String,
    },
}

pub type Incidents = mpsc::Receiver<Incident>;

#[derive(Debug, Clone)]
pub(crate) struct Reporter(mpsc::Sender<Incident>);

impl Reporter {
    pub(crate) fn new() -> (Self, Incidents) {
        let (sender, receiver) = mpsc::channel(WAITING);
        (Self(sender), receiver)
    }

    pub(crate) fn report(&self, incident: Incident) {
        tracing::warn!(?incident, "a plugin keeps failing or does worse than the stable generation");
        if self.0.try_send(incident).is_err() {
            switchboard_metrics::PLUGIN_INCIDENTS_DROPPED.handle().increment(1);
        }
    }
}
