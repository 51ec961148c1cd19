//! What a node noticed about a generation while it ran it, for whoever may act on it.
//!
//! Noticing changes nothing: it is up to the reader of [`Incidents`] to route events elsewhere.

use tokio::sync::mpsc;

use switchboard_model::catalogue::{GenerationId, Scope, Subject};
use switchboard_model::{PluginName, TenantSlug};

/// How many incidents wait for their reader; one that finds no room is dropped and counted.
const WAITING: usize = 64;

/// Something that should not go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Incident {
    /// Calls of a tenant's events failed three times in a row. MessageFrame once, until one of its calls succeeds.
    Circuit {
        /// Whose events.
        tenant: TenantSlug,
        /// Of which plugin.
        plugin: PluginName,
        /// Which generation; none for a built-in plugin.
        generation: Option<GenerationId>,
        /// For whom the route was decided.
        scope: Scope,
        /// What the route is about.
        subject: Subject,
        /// What happened last, in one line for the operator.
        reason: String,
    },
    /// A generation that is tried out does worse than the one beside it.
    Canary {
        /// Of which plugin.
        plugin: PluginName,
        /// The one that is tried out.
        generation: Option<GenerationId>,
        /// For whom its trial was decided.
        scope: Scope,
        /// What its trial is about.
        subject: Subject,
        /// By how much it does worse, in one line for the operator.
        reason: String,
    },
}

/// The reader's end.
pub type Incidents = mpsc::Receiver<Incident>;

/// The node's end.
#[derive(Debug, Clone)]
pub(crate) struct Reporter(mpsc::Sender<Incident>);

impl Reporter {
    pub(crate) fn new() -> (Self, Incidents) {
        let (sender, receiver) = mpsc::channel(WAITING);
        (Self(sender), receiver)
    }

    pub(crate) fn report(&self, incident: Incident) {
        tracing::warn!(?incident, "a plugin does badly");
        if self.0.try_send(incident).is_err() {
            metrics::counter!("switchboard_plugin_incidents_dropped_total").increment(1);
        }
    }
}
